"""Host programs that need not be there."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import pytest

#: Set by ``make test-ecosystem``, where nothing may be missing.
EVERY = "ASE_PET_ECOSYSTEM" in os.environ


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip a test where a module is missing, saying how to get it."""
    missing = [name for name in names if find_spec(name) is None]
    reason = f"not installed: {', '.join(missing)}; make test-ecosystem has it"
    return pytest.mark.skipif(bool(missing) and not EVERY, reason=reason)


def imported(name: str) -> ModuleType:
    """Import a module whose own warnings are no concern of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)
