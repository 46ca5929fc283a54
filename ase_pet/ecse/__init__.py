"""Equivariant Coordinate System Ensemble: exact symmetry for any backbone."""

from ase_pet.ecse.cost import Cost, cost
from ase_pet.ecse.evaluation import Ensemble
from ase_pet.ecse.mirrored import Mirrored
from ase_pet.ecse.settings import PaperSettings, Settings, SmoothSettings
from ase_pet.ecse.symmetrized import Symmetrized

__all__ = [
    "Cost",
    "Ensemble",
    "Mirrored",
    "PaperSettings",
    "Settings",
    "SmoothSettings",
    "Symmetrized",
    "cost",
]
