r"""Reflections for a backbone that has rotations already.

.. math:: \tilde\varepsilon_i = \tfrac12\,(\varepsilon_i(A) + \varepsilon_i(-A))

Inversion commutes with all rotations and makes O(3) of SO(3), so that two evaluations are enough.
"""

from __future__ import annotations

from torch import Tensor

from ase_pet.data import Graph
from ase_pet.ecse.wrapped import Wrapped
from ase_pet.potentials.base import Backbone


class Mirrored(Wrapped):
    """A backbone averaged over a structure and its inversion.

    Args:
        backbone: Invariant under rotations.

    Attributes:
        symmetry: ``"O(3)"``.

    Raises:
        ValueError: If the backbone has no symmetry of its own.
    """

    symmetry: str | None = "O(3)"

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        if backbone.symmetry is None:
            raise ValueError(
                "backbone: expected one that is invariant under rotations, got one without "
                "symmetry; use Symmetrized"
            )

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        """Estimate the bytes of one evaluation with its gradient: two of the backbone."""
        return 2 * self.backbone.memory(n_atoms, n_neighbors)

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, in the dtype of the backbone."""
        return 0.5 * (self.backbone(graph) + self.backbone(graph.with_vectors(-graph.vectors)))
