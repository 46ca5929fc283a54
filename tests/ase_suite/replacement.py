"""Replace ``ase.calculators.emt.EMT`` the moment that its module is imported, and note its use.

The same hook works in the process of the tests and, through ``site/sitecustomize.py``, in every
Python process that they start: ``from ase.calculators.emt import EMT``, lookups by name, the
command line and sub-processes all get the replacement. It is told what to do by the environment,
which all of them inherit.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

#: Name of the environment variable with the checkpoint; without it the real EMT stays.
CHECKPOINT = "ASE_SUITE_CHECKPOINT"
#: Name of the environment variable with the file that gets a line for each use.
USES = "ASE_SUITE_USES"
_MODULE = "ase.calculators.emt"


def install() -> None:
    """Prepare the replacement; to be called before anything imports EMT."""
    if _MODULE in sys.modules:
        raise RuntimeError(f"{_MODULE} is imported already; install the replacement before that")
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if CHECKPOINT in os.environ:
                from tests.ase_suite import pet_emt

                module.EMT = pet_emt.EMT
            _observe(module.EMT)

        spec.loader.exec_module = exec_module
        return spec


def _observe(calculator: type) -> None:
    """Note which test creates or evaluates a calculator."""
    for name in ("__init__", "calculate"):
        setattr(calculator, name, _noting(getattr(calculator, name)))


def _noting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        if test and noted.last != test:
            noted.last = test
            with Path(os.environ[USES]).open("a") as file:
                file.write(test + "\n")
        return function(*args, **kwargs)

    noted.last = ""
    return noted
