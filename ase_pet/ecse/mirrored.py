r"""Reflections for a backbone that has rotations already.

.. math:: \tilde\varepsilon_i = \tfrac12\,(\varepsilon_i(A) + \varepsilon_i(-A)),
    \quad \tilde\mu_i = \tfrac12\,(\mu_i(A) - \mu_i(-A))

Inversion commutes with all rotations and makes O(3) of SO(3), so that two evaluations are enough.
"""

from __future__ import annotations

from torch import Tensor

from ase_pet.data import Graph
from ase_pet.potentials.base import Backbone
from ase_pet.potentials.tensors import predict, rank
from ase_pet.potentials.wrapped import Wrapped


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

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV, and tensors of the atoms, in the dtype of the backbone."""
        energies, tensors = predict(self.backbone, graph)
        others, inverted = predict(self.backbone, graph.with_vectors(-graph.vectors))
        means = {
            name: 0.5 * (value + (-1) ** rank(name) * inverted[name])
            for name, value in tensors.items()
        }
        return 0.5 * (energies + others), means
