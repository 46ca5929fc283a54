"""What a module around a backbone has in common with the backbone inside."""

from __future__ import annotations

from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.base import Backbone, columns, takes_positions
from ase_pet.potentials.tensors import tensors_of


class Wrapped(nn.Module):
    """A module around a backbone, of the same reach and elements.

    Args:
        backbone: What is inside.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    @property
    def cutoff(self) -> float:
        """Å, that of the backbone."""
        return self.backbone.cutoff

    @property
    def n_layers(self) -> int:
        """Receptive field of the backbone, in hops."""
        return self.backbone.n_layers

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that the backbone knows, sorted."""
        return self.backbone.species

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that the backbone predicts."""
        return tensors_of(self.backbone)

    @property
    def takes_positions(self) -> bool:
        """Whether positions and cells matter to the backbone."""
        return takes_positions(self.backbone)

    @property
    def columns(self) -> tuple[int, ...]:
        """How many energies of an atom stand side by side, see ``potentials.base.columns``."""
        return columns(self.backbone)

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV, and tensors of the atoms."""
        raise NotImplementedError

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV."""
        return self.predict(graph)[0]
