"""Files that are either whole or absent, their fingerprints, and JSON from anybody."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

#: Levels of brackets in JSON, far more than anything that is read has.
_DEEPEST = 100


def parse_json(text: str) -> Any:
    """What JSON says, from whomever it comes.

    Python's parser calls itself for each level; where a package has raised the limit of that, as
    symfc does, brackets without end would crash the process.

    Raises:
        ValueError: If it is no JSON, or nested too deeply.
        TypeError: If it is no text.
    """
    depth = 0
    for bracket in re.findall(r"[][{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} brackets within one another")
    return json.loads(text)


def sha256_of(*paths: str | Path) -> str:
    """Fingerprint of one file, or of several files and their names, in hexadecimal."""
    if len(paths) > 1:
        lines = sorted(f"{Path(path).name} {sha256_of(path)}\n" for path in paths)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    digest = hashlib.sha256()
    with Path(paths[0]).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that nobody ever sees a part of it, even if the machine stops.

    Args:
        path: The file to create or replace; its folder must exist.
        write: Called with a temporary file in the same folder, which then takes the name.

    Raises:
        OSError: If the folder is missing, full or not writable; ``path`` is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(temporary_name(path.name, secrets.token_hex(4)))
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename itself is durable only once the folder is; not every system can do that.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(path: str | Path) -> None:
    """Remove what was left of writing a file by a process that was killed meanwhile."""
    path = Path(path)
    for left in path.parent.glob(temporary_name(glob.escape(path.name), "[0-9a-f]" * 8)):
        left.unlink(missing_ok=True)


def temporary_name(name: str, token: str) -> str:
    """Name of the file that is written before it takes another name; a token tells two apart."""
    return f".{name}.{token}.tmp"
