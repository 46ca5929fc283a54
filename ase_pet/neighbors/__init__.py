"""Positions -> Edges: neighbour searches that all return the same list."""

from __future__ import annotations

from ase_pet.neighbors.base import NeighborSearch
from ase_pet.neighbors.choice import make_search
from ase_pet.neighbors.memory import is_out_of_memory
from ase_pet.neighbors.verlet import VerletSkin

__all__ = ["NeighborSearch", "VerletSkin", "is_out_of_memory", "make_search"]
