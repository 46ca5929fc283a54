r"""How far a prediction may be off: energy, forces and stress of one structure.

Of an energy that is linear in the features of a last layer, projections p give the variances

.. math::
    \sigma_E^2 = \sum_k \Big(p_k\cdot\sum_i f_i\Big)^2, \quad
    \sigma_{F_i}^2 = \sum_k \|\nabla_i\, p_k\cdot f\|^2, \quad
    \sigma_s^2 = \sum_k \Big\|\frac{1}{V}\frac{\partial\, p_k\cdot f}{\partial\varepsilon}\Big\|^2

with the features averaged as the energies are. They do not depend on the orientation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ase_pet.data import Graph, System
from ase_pet.derivatives import evaluate, results
from ase_pet.ecse.projected import project
from ase_pet.engine import Engine
from ase_pet.errors import GeometryError
from ase_pet.potentials.base import Potential
from ase_pet.potentials.last_layer import LastLayer
from ase_pet.potentials.tensors import predict

#: Projections that are differentiated together: their gradients are kept at once.
_TOGETHER = 32


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """Standard deviations of what is predicted for one structure.

    Attributes:
        kind: Where they come from: "llpr", "ensemble" or "committee".
        n_atoms: Number of atoms.
        energy: Of the structure's energy, eV.
        energies: Of the energies of the atoms, [n_atoms], eV; None of a committee, whose members
            divide the energy among the atoms each in its own way.
        forces: Of each atom, the root of the summed variances of its three components,
            [n_atoms], eV/Å; None if not asked for.
        stress: Frobenius norm, the root of the summed variances of its nine components, eV/Å³;
            None if not asked for, or without a volume, or of a committee with direct forces and no
            heads for a stress.

    Raises:
        GeometryError: If a number is not finite.
    """

    kind: str
    n_atoms: int
    energy: float
    energies: np.ndarray | None = None
    forces: np.ndarray | None = None
    stress: float | None = None

    def __post_init__(self) -> None:
        for name in ("energy", "energies", "forces", "stress"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value).all():
                raise GeometryError(
                    f"uncertainty: {name}: not finite; check the structure for atoms that are far "
                    "too close, or use dtype='float64'"
                )

    @property
    def per_atom(self) -> float:
        """eV: of the least certain atom, or of a committee ``energy / n_atoms``."""
        return self.energy / self.n_atoms if self.energies is None else float(self.energies.max())


def last_layer_uncertainty(
    engine: Engine, layer: LastLayer, system: System, kind: str, *, forces: bool = False
) -> Uncertainty:
    """Uncertainty of one structure from what is known of the last layer.

    The energy takes one evaluation without gradients. With forces, gradients are exact, and take
    one backward pass for each projection: for each member of an ensemble, for each feature of the
    last layer with "llpr"; and one forward pass for every 32 of them.

    Args:
        engine: Evaluates the network that the layer belongs to.
        layer: What is known.
        system: One structure.
        kind: One of ``layer.kinds``.
        forces: Whether forces and stress are wanted.

    Raises:
        ValueError: If the kind is not there.
        GeometryError: If the structure is no physical system.
        NeighborError: If its neighbour list does not fit in memory.
        UnknownSpeciesError: If an element is not among those of the model.
    """
    with torch.inference_mode(False):  # which a caller may be in, and nothing would be derived
        graph = engine.graph(system)
        way = engine.way(graph.n_atoms, periodic=bool(system.pbc.any()))
        backbone = engine.total(way).backbone
        projections = layer.projections(kind).to(engine.device)
        if not forces:
            with torch.no_grad():
                values, _ = predict(project(backbone, projections), graph)
            return Uncertainty(kind, graph.n_atoms, *_of_energies(values))
        found = [
            _derived(project(backbone, part), graph) for part in torch.split(projections, _TOGETHER)
        ]
        parts, squares, virials = zip(*found, strict=True)
        volume = float(system.volumes[0])
        return Uncertainty(
            kind,
            graph.n_atoms,
            *_of_energies(torch.cat(parts, 1)),
            forces=torch.stack(squares).sum(0).sqrt().cpu().numpy(),
            stress=math.sqrt(sum(virials)) / volume if volume > 0 else None,
        )


def _of_energies(values: Tensor) -> tuple[float, np.ndarray]:
    """Of the sum and of each atom, from projections [n_atoms, n]."""
    return float(values.sum(0).norm()), values.norm(dim=1).cpu().numpy()


def _derived(potential: Potential, graph: Graph) -> tuple[Tensor, Tensor, float]:
    """Projections [n_atoms, n], and summed squares of their forces [n_atoms] and virial."""
    found = evaluate(potential, graph)
    squares, total = graph.vectors.new_zeros(graph.n_atoms), 0.0
    for k in range(found.energies.shape[1]):
        one = results(found.column(k), graph)
        squares += one.forces.square().sum(1)
        total += float(one.virial.square().sum())
    return found.energies, squares, total
