r"""Ziegler-Biersack-Littmark repulsion of nuclei at short range.

.. math::
    E_{ij} = \frac{e^2}{4\pi\varepsilon_0}\frac{Z_i Z_j}{r}\,\varphi(r/a)\,f(r),\quad
    a = \frac{0.8854\,a_0}{Z_i^{0.23} + Z_j^{0.23}}

Source:
    Ziegler, Biersack & Littmark, The Stopping and Range of Ions in Matter, vol. 1 (1985):
    the universal screening function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.cutoffs import cosine_cutoff, smooth_step
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
        switch: How it falls: ``"polynomial"`` (of fifth order) or ``"cosine"``.
        amplitudes: Of the exponentials in the screening function; other codes round them
            differently, or have trained them.
        decays: Their decays.
        power: Of the atomic numbers in the screening length.
        length: Å, the screening length of ``Z_i^power + Z_j^power = 1``.
        coulomb: eV·Å, e²/(4πε₀).

    Raises:
        ValueError: If not ``0 <= inner < cutoff``, or an option has no meaning.
    """

    n_layers = 1

    def __init__(
        self,
        inner: float = 0.5,
        cutoff: float = 1.2,
        *,
        switch: str = "polynomial",
        amplitudes: Sequence[float] = _AMPLITUDES,
        decays: Sequence[float] = _DECAYS,
        power: float = 0.23,
        length: float = _SCREENING_LENGTH,
        coulomb: float = COULOMB_EV_A,
    ) -> None:
        super().__init__()
        if not 0.0 <= inner < cutoff:
            raise ValueError(f"inner: expected 0 <= inner < cutoff={cutoff}, got {inner}")
        if switch not in ("polynomial", "cosine"):
            raise ValueError(f"switch: expected 'polynomial' or 'cosine', got {switch!r}")
        if len(amplitudes) != len(decays):
            raise ValueError(
                f"decays: expected one for each of {len(amplitudes)} amplitudes, got {len(decays)}"
            )
        if not all(map(math.isfinite, (*amplitudes, *decays, power, length, coulomb))):
            raise ValueError("ZBL: expected finite parameters, got NaN or infinity")
        self.inner = inner
        self.cutoff = cutoff
        self.switch = switch
        self.amplitudes = tuple(amplitudes)
        self.decays = tuple(decays)
        self.power = power
        self.length = length
        self.coulomb = coulomb

    @property
    def options(self) -> dict[str, Any]:
        """Arguments that make the same term, those with their default value left out."""
        plain = ZBL(self.inner, self.cutoff)
        names = ("switch", "amplitudes", "decays", "power", "length", "coulomb")
        changed = {n: getattr(self, n) for n in names if getattr(self, n) != getattr(plain, n)}
        return {"inner": self.inner, "cutoff": self.cutoff, **changed}

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, half of each pair energy to each atom."""
        r = graph.vectors.square().sum(1).clamp_min(1e-30).sqrt()
        z = graph.numbers.to(r.dtype)
        zi, zj = z[graph.centers], z[graph.others]
        x = r * (zi.pow(self.power) + zj.pow(self.power)) / self.length
        screening = sum(
            (a * (-b * x).exp() for a, b in zip(self.amplitudes, self.decays, strict=True)),
            0.0 * x,
        )
        if self.switch == "cosine":
            switch = cosine_cutoff(r, self.cutoff, self.cutoff - self.inner)
        else:
            switch = 1.0 - smooth_step((r - self.inner) / (self.cutoff - self.inner))
        pair = self.coulomb * zi * zj / r * screening * switch
        return r.new_zeros(graph.n_atoms).index_add(0, graph.centers, 0.5 * pair)
