"""Find the files of ASE's test-suite that can reach EMT, by reading them."""

from __future__ import annotations

import importlib.util
import io
import re
import tokenize
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_WORD = re.compile(r"\bemt\b", re.IGNORECASE)
_MODULE = re.compile(r"\base(?:\.\w+)+")
_IMPORT = re.compile(r"^(?:from|import) (\.|ase\.test\.)(\w[\w.]*)", re.MULTILINE)


def find_tests(suite: Path) -> list[str]:
    """Test files that name EMT, as the class or as a calculator's name, outside comments.

    So does a file below a ``conftest.py`` that names it, one that imports from a file of the suite
    that names it, and one that runs the doctests of a module that names it.

    Args:
        suite: The folder ``ase/test``.

    Returns:
        Paths relative to it, sorted.
    """
    below = {path.parent for path in suite.rglob("conftest.py") if _names_emt(path.read_text())}
    return sorted(
        path.relative_to(suite).as_posix()
        for path in suite.rglob("test_*.py")
        if below.intersection(path.parents) or _reaches_emt(path, suite)
    )


def _reaches_emt(path: Path, suite: Path) -> bool:
    source = path.read_text()
    if "import doctest" in source and any(map(_WORD.search, _sources_named_in(source))):
        return True
    imported = [
        (path.parent if where == "." else suite) / f"{name.replace('.', '/')}.py"
        for where, name in _IMPORT.findall(source)
    ]
    return _names_emt(source) or any(_names_emt(p.read_text()) for p in imported if p.is_file())


def _names_emt(source: str) -> bool:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return any(
        (token.type == tokenize.NAME and token.string == "EMT")
        or (token.type == tokenize.STRING and _WORD.search(token.string))
        for token in tokens
    )


def _sources_named_in(text: str) -> Iterator[str]:
    """Sources of the modules of ASE that a text names."""
    for name in _MODULE.findall(text):
        with suppress(ModuleNotFoundError):
            spec = importlib.util.find_spec(name)
            if spec and spec.origin:
                yield Path(spec.origin).read_text()
