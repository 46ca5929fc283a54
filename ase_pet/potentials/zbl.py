r"""Ziegler-Biersack-Littmark repulsion of nuclei at short range.

.. math::
    E_{ij} = \frac{e^2}{4\pi\varepsilon_0}\frac{Z_i Z_j}{r}\,\varphi(r/a)\,f(r),\quad
    a = \frac{0.8854\,a_0}{Z_i^{0.23} + Z_j^{0.23}}

Source:
    Ziegler, Biersack & Littmark, The Stopping and Range of Ions in Matter, vol. 1 (1985):
    the universal screening function.
"""

from __future__ import annotations

from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.cutoffs import smooth_step
from ase_pet.units import COULOMB_EV_A

_AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
_DECAYS = (3.1998, 0.94229, 0.4029, 0.20162)
#: 0.8854 Bohr radii, Å.
_SCREENING_LENGTH = 0.8854 * 0.529177210903


class ZBL(nn.Module):
    """Pair repulsion, full below ``inner`` and smoothly gone at ``cutoff``.

    Args:
        inner: Å, where the switch to zero begins.
        cutoff: Å, where it ends.

    Raises:
        ValueError: If not ``0 <= inner < cutoff``.
    """

    n_layers = 1

    def __init__(self, inner: float = 0.5, cutoff: float = 1.2) -> None:
        super().__init__()
        if not 0.0 <= inner < cutoff:
            raise ValueError(f"inner: expected 0 <= inner < cutoff={cutoff}, got {inner}")
        self.inner = inner
        self.cutoff = cutoff

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, half of each pair energy to each atom."""
        r = graph.vectors.square().sum(1).clamp_min(1e-30).sqrt()
        z = graph.numbers.to(r.dtype)
        zi, zj = z[graph.centers], z[graph.others]
        x = r * (zi.pow(0.23) + zj.pow(0.23)) / _SCREENING_LENGTH
        screening = sum(
            (a * (-b * x).exp() for a, b in zip(_AMPLITUDES, _DECAYS, strict=True)),
            0.0 * x,
        )
        switch = 1.0 - smooth_step((r - self.inner) / (self.cutoff - self.inner))
        pair = COULOMB_EV_A * zi * zj / r * screening * switch
        return r.new_zeros(graph.n_atoms).index_add(0, graph.centers, 0.5 * pair)
