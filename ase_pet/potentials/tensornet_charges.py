r"""Charges in TensorNet2: predicted, equilibrated to the total charge, felt by messages.

Several charge channels are predicted before and after every interaction layer, and what is missing
to the total charge Q is spread by learnt shares,

.. math:: q_i = \tilde q_i + \frac{f_i^2}{\sum_j f_j^2 + 10^{-6}}\,\Big(Q - \sum_j \tilde q_j\Big)

The energy of all channels, a weighted mean, is that of point charges, damped at short range:

.. math::
    E_i = \frac{e^2}{8\pi\varepsilon_0} \sum_{j\ne i} \frac{1 - c(r_{ij})}{r_{ij}}
    \sum_c w_c\, q_{ic} q_{jc} \Big/ \sum_c w_c, \qquad c(r) = e^{1 - 1/(1 - (r/4.6\,Å)^2)}

Source:
    TensorNet2 of TorchMD-NET (https://github.com/torchmd/torchmd-net), which takes equilibration
    and damping from AIMNet2: Anstine, Zubatyuk & Isayev, Chem. Sci. 16, 10228 (2025).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.cartesian import squared_norms

#: Å, where damping ends.
_DAMPED = 4.6
_LEAST_SHARE = 1e-6
#: Half of Hartree times Bohr, eV·Å, as the original has them.
_HALF_COULOMB = 0.5 * 27.211386024367243 * 0.5291772105638411


class Charges(nn.Module):
    """Predicts charges from tensors.

    Args:
        n_units: Channels of the tensors.
        n_charges: Channels of charges.
        activation: Nonlinearity.
    """

    def __init__(self, n_units: int, n_charges: int, activation: nn.Module) -> None:
        super().__init__()
        d = n_units
        self.norm = nn.LayerNorm(3 * d)
        self.values = nn.Sequential(
            *(nn.Linear(3 * d, d), activation),
            *(nn.Linear(d, d), activation),
            nn.Linear(d, 2 * n_charges),
        )

    def forward(self, x: Tensor, graph: Graph, total: Tensor) -> Tensor:
        """Charges [n_atoms, n_charges], e.

        Args:
            x: Tensors [9, n_atoms, n_units].
            graph: Which atoms share a total charge.
            total: [n_systems, 1], e.
        """
        # The isotropic part enters as a third of the trace, not as its square.
        features = torch.cat([x[0] / 3.0**0.5, squared_norms(x)[:, x.shape[2] :]], 1)
        charges, shares = self.values(self.norm(features)).chunk(2, 1)
        shares = shares.square()
        system = graph.system_index
        zeros = charges.new_zeros(graph.n_systems, charges.shape[1])
        missing = total - zeros.index_add(0, system, charges)
        spread = missing / (zeros.index_add(0, system, shares) + _LEAST_SHARE)
        equilibrated: Tensor = charges + shares * spread[system]
        return equilibrated


class Coulomb(nn.Module):
    """Energy of point charges between all atoms of a finite structure.

    Args:
        n_channels: Channels of charges, of all layers together.
    """

    weights: Tensor

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.ones(n_channels))

    def forward(self, charges: Tensor, graph: Graph) -> Tensor:
        """Energies [n_atoms], eV.

        Args:
            charges: [n_atoms, n_channels], e.
            graph: With an edge between any two atoms.
        """
        vectors = graph.vectors.to(charges.dtype)
        r = vectors.square().sum(1).clamp_min(1e-12).sqrt()
        t = (r / _DAMPED).clamp(0.0, 1.0 - 1e-6)
        factor = -torch.expm1(1.0 - 1.0 / (1.0 - t.square())) / r
        weights = self.weights.to(charges.dtype)
        weighted = charges * (weights / weights.sum())
        products = (weighted[graph.centers] * charges[graph.others]).sum(1)
        return charges.new_zeros(graph.n_atoms).index_add(
            0, graph.centers, _HALF_COULOMB * factor * products
        )
