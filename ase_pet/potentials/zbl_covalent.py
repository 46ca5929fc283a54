r"""Ziegler-Biersack-Littmark repulsion that ends at the sum of two covalent radii.

.. math::
    E(r) = \frac{e^2}{4\pi\varepsilon_0}\frac{Z_i Z_j}{r}\,\varphi(r/a)
        + \tfrac{A}{3} r^3 + \tfrac{B}{4} r^4 + C, \quad r < R = \rho_i + \rho_j

A, B and C make energy, force and curvature vanish at R.

Source:
    The pair style ``zbl`` of LAMMPS; ``ZBL`` of metatrain, whose rounded constants these are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.constants import Constant
from ase_pet.potentials.species import SpeciesTable
from ase_pet.units import COULOMB_EV_A

_AMPLITUDES = (0.02817, 0.28022, 0.50986, 0.18175)
_DECAYS = (0.20162, 0.40290, 0.94229, 3.19980)
#: Å, the screening length of ``Z_i^0.23 + Z_j^0.23 = 1``.
_LENGTH, _POWER = 0.46850, 0.23


class CovalentZBL(nn.Module):
    """Pair repulsion that is gone where covalent bonds are.

    Args:
        radii: Covalent radius, Å, by atomic number.

    Attributes:
        cutoff: Å, twice the largest radius.

    Raises:
        ValueError: If ``radii`` is empty or one is not positive and finite.
    """

    n_layers = 1

    def __init__(self, radii: Mapping[int, float]) -> None:
        super().__init__()
        self.species_table = SpeciesTable(list(radii))
        values = [float(radii[z]) for z in self.species_table.species]
        if not all(math.isfinite(r) and r > 0.0 for r in values):
            raise ValueError(f"radii: expected positive finite lengths, got {dict(radii)}")
        self.radii = Constant(values)
        self.cutoff = 2.0 * max(values)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments that make the same term."""
        values = self.radii.values.tolist()
        return {"radii": dict(zip(self.species_table.species, values, strict=True))}

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, half of each pair energy to each atom."""
        r = torch.linalg.vector_norm(graph.vectors, dim=1)
        radius = self.radii(r.dtype)[self.species_table(graph.numbers)]
        end = radius[graph.centers] + radius[graph.others]
        near = (r < end).nonzero().flatten()
        centers, others, r, R = graph.centers[near], graph.others[near], r[near], end[near]
        z = graph.numbers.to(r.dtype)
        zi, zj = z[centers], z[others]
        inverse = (zi.pow(_POWER) + zj.pow(_POWER)) / _LENGTH
        factor = COULOMB_EV_A * zi * zj
        # φ and its derivatives at R, then those of φ/r.
        p0, p1, p2 = (_screening(R, inverse, order) for order in range(3))
        e0 = factor * p0 / R
        e1 = factor / R * (p1 - p0 / R)
        e2 = factor / R * (p2 - 2.0 * p1 / R + 2.0 * p0 / R**2)
        A = (R * e2 - 3.0 * e1) / R**2
        B = (2.0 * e1 - R * e2) / R**3
        C = -e0 + R * e1 / 2.0 - R * R * e2 / 12.0
        pair = factor * _screening(r, inverse, 0) / r + A / 3.0 * r**3 + B / 4.0 * r**4 + C
        energies: Tensor = r.new_zeros(graph.n_atoms).index_add(0, centers, 0.5 * pair)
        return energies


def _screening(r: Tensor, inverse: Tensor, order: int) -> Tensor:
    """Derivative of some order of the universal screening function at r, Å; all [n_pairs]."""
    found: Tensor = torch.zeros_like(r)
    for a, b in zip(_AMPLITUDES, _DECAYS, strict=True):
        found = found + a * (-b * inverse) ** order * torch.exp(-b * inverse * r)
    return found
