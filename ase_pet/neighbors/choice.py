"""Choose a neighbour search by name."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from ase_pet.errors import NeighborError
from ase_pet.neighbors import cell_list, torch_cluster, vesin
from ase_pet.neighbors.base import NeighborSearch
from ase_pet.neighbors.brute_force import brute_force
from ase_pet.neighbors.search import Search

#: Accepted names.
NAMES = ("auto", "torch_cluster", "vesin", "cell_list", "brute_force")


def make_search(name: str = "auto", *, device: torch.device | str = "cpu") -> NeighborSearch:
    """Return a neighbour search; all of them return the same list.

    Args:
        name: ``auto`` for the fastest that is installed; ``torch_cluster``, fastest on CUDA;
            ``vesin``, fastest on a CPU; ``cell_list``, plain torch, always there, any device;
            ``brute_force``, the oracle, of quadratic cost.
        device: Where the structures will be.

    Returns:
        A search, called as ``search(system, cutoff)``.

    Raises:
        ValueError: If the name is unknown.
        NeighborError: If the backend is not installed for ``device``.
    """
    device_type = torch.device(device).type
    if name == "auto":
        name = _fastest(device_type)
    if name == "torch_cluster":
        return _torch_cluster(device_type)
    if name == "vesin":
        if find_spec("vesin") is None:
            raise NeighborError(
                "neighbors: 'vesin' is not installed; run `pip install vesin` or use 'cell_list'"
            )
        return Search("vesin", vesin.candidates)
    if name == "cell_list":
        return Search("cell_list", cell_list.candidates)
    if name == "brute_force":
        return brute_force
    raise ValueError(f"neighbors: expected one of {', '.join(NAMES)}; got {name!r}")


def _fastest(device_type: str) -> str:
    if device_type == "cuda":
        return "torch_cluster" if torch_cluster.kernel_for("cuda") else "cell_list"
    return "vesin" if device_type == "cpu" and find_spec("vesin") else "cell_list"


def _torch_cluster(device_type: str) -> NeighborSearch:
    if torch_cluster.kernel_for(device_type):
        return Search("torch_cluster", torch_cluster.candidates)
    if torch_cluster.kernel_for("cpu"):
        raise NeighborError(
            f"neighbors: the installed 'torch_cluster' does not run on {device_type!r} (it was "
            "built without CUDA); reinstall it where nvcc is found, or use 'cell_list'"
        )
    raise NeighborError(
        "neighbors: 'torch_cluster' is not installed for this torch; run "
        "`pip install ase-pet[cluster]` (it needs a C++ compiler) or use 'cell_list'"
    )
