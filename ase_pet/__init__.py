"""Exactly equivariant point edge transformer potentials behind an ASE calculator."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_pet.formats import load
    from ase_pet.interfaces.ase_calculator import PETCalculator

__version__ = "0.1.0"
__all__ = ["PETCalculator", "__version__", "load"]

# Imported on first use, so that a layer of the core can be had without ASE.
_HOMES = {"load": "ase_pet.formats", "PETCalculator": "ase_pet.interfaces.ase_calculator"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ase_pet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
