"""Vectors and matrices that a backbone may predict beside energies: dipoles, polarizabilities.

A backbone that has such heads names them in its attribute ``tensors`` and has a method
``predict(graph)`` that returns them with the energies. They are sums over atoms, as the energy
is: the dipole of a neutral structure does not depend on the origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.potentials.base import Potential

#: Number of directions (the rank) of each tensor: dipole, e·Å; polarizability, e²Å²/eV.
RANKS = {"dipole": 1, "polarizability": 2}
#: Likewise of what heads give in place of derivatives: forces, eV/Å; virial, eV.
DIRECT_RANKS = {"forces": 1, "virial": 2}


def tensors_of(potential: Potential) -> tuple[str, ...]:
    """Names of the tensors that a potential predicts."""
    return tuple(getattr(potential, "tensors", ()))


def predict(potential: Potential, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
    """Energies [n_atoms], eV, and tensors of the atoms, [n_atoms, 3] or [n_atoms, 3, 3]."""
    if not tensors_of(potential):
        return potential(graph), {}
    found: tuple[Tensor, dict[str, Tensor]] = potential.predict(graph)  # type: ignore[attr-defined]
    return found


def rank(name: str) -> int:
    """Number of directions of a tensor."""
    return {**RANKS, **DIRECT_RANKS}[name]


def turn(tensors: Mapping[str, Tensor], rotations: Tensor) -> dict[str, Tensor]:
    r"""Turn tensors: :math:`v'_a = R_{ab} v_b`, :math:`m'_{ab} = R_{ac} R_{bd} m_{cd}`.

    Args:
        tensors: [n, 3] or [n, 3, 3] each.
        rotations: [n, 3, 3], orthogonal; cast to the dtype of the tensors.
    """
    forms = {1: "nab,nb->na", 2: "nac,nbd,ncd->nab"}
    return {
        name: torch.einsum(forms[rank(name)], *[rotations.to(value.dtype)] * rank(name), value)
        for name, value in tensors.items()
    }


def zero_tensors(names: Sequence[str], like: Tensor) -> dict[str, Tensor]:
    """Zeros for each name, as many as ``like`` [n] has and of its dtype."""
    return {name: like.new_zeros(len(like), *[3] * rank(name)) for name in names}


def symmetric(value: Tensor) -> Tensor:
    """Vectors [n, 3] as they are; matrices [n, 3, 3] made symmetric."""
    return value if value.dim() == 2 else 0.5 * (value + value.transpose(1, 2))


def anisotropic(value: Tensor) -> Tensor:
    """Vectors [n, 3] as they are; matrices [n, 3, 3] without their isotropic part."""
    if value.dim() == 2:
        return value
    trace = value.diagonal(dim1=1, dim2=2).sum(1)
    return value - trace[:, None, None] / 3.0 * torch.eye(3, dtype=value.dtype, device=value.device)
