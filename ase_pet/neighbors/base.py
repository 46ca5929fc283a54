"""The contract of every neighbour search."""

from __future__ import annotations

from typing import Protocol

from ase_pet.data import Edges, System


class NeighborSearch(Protocol):
    """All pairs closer than a cutoff.

    The contract: a full list; strict ``|r_j - r_i + S @ cell| < cutoff`` decided in float64; the
    self pair with S = 0 is excluded while images of an atom itself are kept; shifts are relative
    to the positions given, wherever they lie; sorted by centre; never truncated; any mix of
    ``pbc``; cells smaller than the cutoff, skewed or left-handed; empty lists; several structures
    in one call; ``reverse`` complete. As a set of (i, j, S) it equals ASE's list.
    """

    def __call__(self, system: System, cutoff: float) -> Edges:
        """Return the neighbour list of ``system`` within ``cutoff`` (Å) on its device.

        Raises:
            NeighborError: If the list would not fit in memory or cannot be completed.
        """
        ...
