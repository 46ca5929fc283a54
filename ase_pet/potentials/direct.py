r"""Forces and stress from heads of a network instead of derivatives of its energy.

Heads give a vector :math:`f_i` and a matrix :math:`m_i` for each atom, and

.. math::
    F_i = f_i - \frac1N \sum_j f_j, \qquad
    \frac{dE}{d\varepsilon} \approx \tfrac12 \sum_i (m_i + m_i^T).

Nothing is differentiated, which makes them fast, and they are the derivatives of no energy, so that
dynamics does not conserve one.

Source:
    Bigi, Langer & Ceriotti, arXiv:2412.11569.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.data import Graph, Results
from ase_pet.potentials.base import Backbone
from ase_pet.potentials.tensors import anisotropic, symmetric
from ase_pet.potentials.total import Total
from ase_pet.potentials.wrapped import Wrapped

_NAMES = {"forces": "forces", "stress": "virial"}


def direct_heads(backbone: Backbone) -> tuple[str, ...]:
    """What a backbone has heads for: "forces", "stress", both or nothing."""
    return tuple(getattr(backbone, "direct", ()))


class Direct(Wrapped):
    """A backbone whose heads for forces and stress are read as tensors.

    Args:
        backbone: A network that has such heads, at least for forces.
        oriented: Whether it is evaluated in coordinate systems. An atom without neighbours has
            none of its own: no force acts on it then, and its stress is isotropic.

    Attributes:
        symmetry: That of the backbone.

    Raises:
        ValueError: If there is no head for forces.
    """

    def __init__(self, backbone: Backbone, *, oriented: bool) -> None:
        super().__init__(backbone)
        if "forces" not in direct_heads(backbone):
            raise ValueError(
                "forces: this model has no heads for direct forces; use forces='conservative' or "
                "load a model that was trained on non_conservative_forces"
            )
        self.symmetry = backbone.symmetry
        self.oriented = oriented

    @property
    def tensors(self) -> tuple[str, ...]:
        """Which of "forces" and "virial" there are."""
        return tuple(_NAMES[name] for name in direct_heads(self.backbone))

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        """Estimate the bytes of one evaluation; without a gradient it takes less."""
        return self.backbone.memory(n_atoms, n_neighbors)

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV; forces [n_atoms, 3], eV/Å; virial [n_atoms, 3, 3], eV.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        energies, heads = self.backbone.predict_direct(graph)  # type: ignore[attr-defined]
        found = {_NAMES[name]: value for name, value in heads.items()}
        if self.oriented:
            near = graph.vectors.square().sum(1) < self.cutoff**2
            alone = torch.bincount(graph.centers[near], minlength=graph.n_atoms) == 0
            for value in found.values():
                value[alone] -= anisotropic(value[alone])
        return energies, found


@torch.no_grad()
def direct_results(potential: Total, graph: Graph) -> Results:
    """Evaluate a sum whose backbone is :class:`Direct`, symmetrised or not.

    Baselines, such as ZBL, add to the energy alone: the heads learnt the whole of the forces.

    Args:
        potential: What to evaluate.
        graph: Where.

    Returns:
        Energies, forces without a net force, and the virial of each structure, NaN if there is no
        head for it; there are no virials of atoms, which are NaN.

    Raises:
        UnknownSpeciesError: If an element is not among those of the potential.
    """
    energies, tensors = potential.predict(graph)

    forces = tensors["forces"]
    counts = torch.bincount(graph.system_index, minlength=graph.n_systems)
    net = graph.of_structures(forces) / counts[:, None]
    absent = energies.new_full((graph.n_atoms, 3, 3), torch.nan)
    return Results(
        energies=energies,
        forces=forces - net[graph.system_index],
        virials=absent,
        energy=graph.of_structures(energies),
        virial=symmetric(graph.of_structures(tensors.get("virial", absent))),
    )
