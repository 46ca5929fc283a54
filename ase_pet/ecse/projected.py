"""Projections of the features of a last layer, in the place of energies."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.ecse.symmetrized import Symmetrized
from ase_pet.potentials.base import Backbone
from ase_pet.potentials.compiled import Compiled
from ase_pet.potentials.direct import Direct
from ase_pet.potentials.last_layer import HasLastLayer
from ase_pet.potentials.wrapped import Wrapped


class Projected(Wrapped):
    """A backbone that gives projections of its features instead of its energy.

    Args:
        backbone: Bare, with features.
        projections: [n, n_features], eV.

    Raises:
        ValueError: If the backbone has no features, or another number of them.
    """

    tensors: tuple[str, ...] = ()
    symmetry: str | None = None

    def __init__(self, backbone: Backbone, projections: Tensor) -> None:
        super().__init__(backbone)
        if not isinstance(backbone, HasLastLayer):
            raise ValueError(f"backbone: {type(backbone).__name__} gives no features")
        if projections.shape[1:] != (backbone.n_last_features,):
            raise ValueError(
                f"projections: expected [n, {backbone.n_last_features}], got "
                f"{list(projections.shape)}"
            )
        self.projections = projections

    @property
    def columns(self) -> tuple[int, ...]:
        """The number of projections."""
        return (len(self.projections),)

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        """Estimate the bytes of one evaluation with its gradients, one at a time."""
        return self.backbone.memory(n_atoms, n_neighbors)

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Projections [n_atoms, n], eV, in the dtype of ``projections``, and no tensors."""
        assert isinstance(self.backbone, HasLastLayer)
        features = self.backbone.last_features(graph).to(self.projections.dtype)
        return torch.einsum("af,kf->ak", features, self.projections), {}


def project(potential: Backbone, projections: Tensor) -> Projected | Symmetrized:
    """A potential with its energy replaced by projections, averaged as it is.

    Args:
        potential: A bare or symmetrised backbone.
        projections: [n, n_features], eV.

    Raises:
        ValueError: If the backbone has no features, or another number of them.
    """
    if isinstance(potential, Symmetrized):
        return potential.around(Projected(_network(potential.backbone), projections))
    return Projected(_network(potential), projections)


def _network(backbone: Backbone) -> Backbone:
    """What gives the features, where heads for forces are read beside it, or it is compiled."""
    while isinstance(backbone, Direct | Compiled):
        backbone = backbone.backbone
    return backbone
