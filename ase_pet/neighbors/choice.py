"""Choose a neighbour search by name."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from ase_pet.errors import NeighborError
from ase_pet.neighbors import vesin
from ase_pet.neighbors.base import NeighborSearch
from ase_pet.neighbors.brute_force import brute_force
from ase_pet.neighbors.search import Search

NAMES = ("auto", "torch_cluster", "vesin", "cell_list", "brute_force")


def make_search(name: str = "auto", *, device: torch.device | str = "cpu") -> NeighborSearch:
    """Return a neighbour search.

    Args:
        name: ``torch_cluster``, ``vesin``, ``cell_list``, ``brute_force``, or ``auto`` for the
            fastest that is installed for ``device``.
        device: Where the structures will be.

    Raises:
        NeighborError: If the name is unknown or the backend is not installed.
    """
    if name == "auto":
        name = "vesin" if find_spec("vesin") else "brute_force"
    if name == "brute_force":
        return brute_force
    if name == "vesin":
        if find_spec("vesin") is None:
            raise NeighborError("neighbors: 'vesin' is not installed; run `pip install vesin`")
        return Search("vesin", vesin.candidates)
    raise NeighborError(f"neighbors: expected one of {', '.join(NAMES)}, got {name!r}")
