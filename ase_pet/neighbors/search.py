"""What all searches share: candidates in, an exact, ordered and symmetric list out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ase_pet.data import Edges, System
from ase_pet.data.graph import edge_vectors
from ase_pet.neighbors.images import Lattice
from ase_pet.neighbors.memory import BYTES_PER_EDGE, memory_errors, require_memory


class Pairs(NamedTuple):
    """Candidates for a neighbour list, each pair once, in either direction.

    Attributes:
        centers: [n_pairs], int64.
        others: [n_pairs], int64.
        shifts: [n_pairs, 3], int64.
    """

    centers: Tensor
    others: Tensor
    shifts: Tensor


@dataclass(frozen=True)
class Search:
    """A ``NeighborSearch`` made from a function that proposes candidates.

    Attributes:
        name: Name of the backend.
        candidates: From a lattice and a radius (Å) to all pairs within that radius, and possibly
            more, with shifts of the wrapped atoms in that lattice.
    """

    name: str
    candidates: Callable[[Lattice, float], Pairs]

    def __call__(self, system: System, cutoff: float) -> Edges:
        """Return the neighbour list of ``system`` within ``cutoff`` (Å).

        Raises:
            NeighborError: If the list would not fit in memory.
            ValueError: If ``cutoff`` is not a positive number.
        """
        check_cutoff(cutoff)
        if system.n_atoms == 0:
            return finish(system, no_pairs(system.positions.device), cutoff)
        lattice = Lattice.of(system)
        require_memory_for_edges(lattice, cutoff)
        with memory_errors(system.n_atoms, cutoff):
            i, j, shifts = self.candidates(lattice, cutoff + lattice.rounding)
            return finish(system, Pairs(i, j, lattice.given_shifts(i, j, shifts)), cutoff)


def require_memory_for_edges(lattice: Lattice, cutoff: float) -> None:
    """Raise ``NeighborError`` if the neighbour list within ``cutoff`` (Å) is too large."""
    what = f"pairs within {cutoff:g} Å of {lattice.n_atoms} atoms"
    count = lattice.estimated_edges(cutoff)
    require_memory(what, count, BYTES_PER_EDGE, lattice.positions.device)


def check_cutoff(cutoff: float) -> None:
    """Raise ``ValueError`` unless ``cutoff`` (Å) is positive and finite."""
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"cutoff: expected a positive finite distance in Å, got {cutoff}")


def no_pairs(device: torch.device) -> Pairs:
    """An empty set of candidates."""
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return Pairs(none, none, none.new_zeros(0, 3))


def pair_once(centers: Tensor, others: Tensor, shifts: Tensor) -> Tensor:
    """Mask that keeps one of the two directions of every pair and drops an atom with itself.

    Args:
        centers: [n_pairs], int64.
        others: [n_pairs], int64.
        shifts: [n_pairs, 3], int64.

    Returns:
        [n_pairs], bool: i < j, or i = j and the first nonzero component of S is positive.
    """
    x, y, z = shifts.unbind(1)
    upward = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    return (centers < others) | ((centers == others) & upward)


def finish(system: System, pairs: Pairs, cutoff: float) -> Edges:
    """Decide exactly which candidates are neighbours, and order both directions of them.

    The edges are sorted by (i, j, S), so that the list is the same, order included, whichever
    search proposed the candidates. A distance is the same bit for bit in both directions, so the
    list is symmetric even with the cutoff exactly on a shell of neighbours.

    Args:
        system: The structures.
        pairs: Candidates, with shifts relative to the given positions.
        cutoff: Å.

    Returns:
        The neighbour list.
    """
    near = within(edge_vectors(system, *pairs), cutoff).nonzero().flatten()
    if len(near) < len(pairs.centers):
        pairs = Pairs(*(part.index_select(0, near) for part in pairs))
    i, j = pairs.centers, pairs.others
    codes, n_codes = number_shifts(pairs.shifts, system.n_atoms)
    ahead = (i * system.n_atoms + j) * n_codes + codes
    back = (j * system.n_atoms + i) * n_codes + (n_codes - 1 - codes)
    order = argsort(torch.cat([ahead, back]))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    reverse = place.roll(len(order) // 2).index_select(0, order)
    return Edges(
        torch.cat([i, j]).index_select(0, order),
        torch.cat([j, i]).index_select(0, order),
        torch.cat([pairs.shifts, -pairs.shifts]).index_select(0, order),
        reverse,
    )


def within(vectors: Tensor, cutoff: float, buffer: Tensor | None = None) -> Tensor:
    """The last word on who is a neighbour: |vector| < cutoff, [n_pairs], bool.

    Args:
        vectors: [n_pairs, 3], Å.
        cutoff: Å.
        buffer: Of the shape of the vectors, to work in.
    """
    x, y, z = torch.mul(vectors, vectors, out=buffer).unbind(1)
    near: Tensor = (x + y).add_(z).sqrt_() < cutoff
    return near


def number_shifts(shifts: Tensor, n_atoms: int) -> tuple[Tensor, int]:
    """Number shifts so that S gets a code c and -S gets n - 1 - c, in lexicographic order.

    Args:
        shifts: [n_pairs, 3], int64.
        n_atoms: Codes must leave room for two atom indices in an int64.

    Returns:
        Codes [n_pairs], int64, and how many there are, n.
    """
    if len(shifts) == 0:
        return shifts.new_zeros(0), 1
    reach = shifts.abs().amax(0).tolist()
    sizes = [2 * most + 1 for most in reach]
    n_codes = math.prod(sizes)
    if n_codes * n_atoms**2 < 2**63:
        x, y, z = shifts.unbind(1)
        return (x * sizes[1] + y) * sizes[2] + z + n_codes // 2, n_codes
    # Atoms many cells apart: number the shifts that occur instead of all in their range.
    distinct, which = torch.unique(torch.cat([shifts, -shifts]), dim=0, return_inverse=True)
    return which[: len(shifts)], len(distinct)


def argsort(keys: Tensor) -> Tensor:
    """Order of unique keys [n], int64."""
    if keys.device.type == "cpu":  # numpy sorts integers about twice as fast
        return torch.from_numpy(keys.numpy().argsort())
    return torch.argsort(keys)
