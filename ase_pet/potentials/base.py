"""The seam between backbones and everything above them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from ase_pet.data import Graph


@runtime_checkable
class Potential(Protocol):
    """A function from a graph to energies of its atoms.

    Attributes:
        cutoff: Å; edges at or beyond it contribute nothing.
        n_layers: Message-passing depth: the energy of an atom depends on atoms this many hops
            away.
    """

    cutoff: float
    n_layers: int

    def __call__(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, of the atoms of ``graph``.

        The result is differentiable with respect to ``graph.vectors``.

        Raises:
            UnknownSpeciesError: If an element is not among those of the potential.
        """
        ...
