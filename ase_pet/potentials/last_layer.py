r"""Uncertainty of an energy that is linear in the features of a last layer.

With :math:`E = w\cdot f + \dots` and weights that are known to within a covariance,

.. math:: \sigma_E^2 = f^T \Sigma f = \sum_k (p_k\cdot f)^2

for projections p with :math:`\sum_k p_k p_k^T = \Sigma`. What is linear in the features of one
structure is so in their average over rotated copies and in their derivatives: the same projections
give the uncertainty of symmetrised energies, forces and stress.

Source:
    Bigi et al., Machine Learning: Science and Technology 5, 045018 (2024), last-layer prediction
    rigidity (LLPR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.potentials.base import Backbone

#: Kinds of uncertainty that a last layer can have.
KINDS = ("llpr", "ensemble")


@runtime_checkable
class HasLastLayer(Backbone, Protocol):
    """A backbone whose energies are linear in features that it gives."""

    @property
    def n_last_features(self) -> int:
        """Number of features of an atom."""
        ...

    def last_features(self, graph: Graph) -> Tensor:
        """Features [n_atoms, n_last_features]."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LastLayer:
    r"""What a checkpoint knows of the weights of its last layer.

    Attributes:
        cholesky: L of the covariance :math:`L L^T` of features in training,
            [n_features, n_features], lower triangular; or None.
        multiplier: Calibration of the uncertainty that follows from it, eV.
        members: Weights of an ensemble, [n_members, n_features], eV, of which only the deviations
            from their mean matter; or None.

    Raises:
        ValueError: If there is neither, or a shape or a value is impossible.
    """

    cholesky: Tensor | None = None
    multiplier: float = 1.0
    members: Tensor | None = None

    def __post_init__(self) -> None:
        given = {"cholesky": self.cholesky, "members": self.members}
        tensors = {name: value for name, value in given.items() if value is not None}
        if not tensors:
            raise ValueError("expected cholesky or members, got neither")
        for name, value in tensors.items():
            if not (value.dim() == 2 and value.is_floating_point() and _finite(value)):
                raise ValueError(f"{name}: expected finite numbers in rows and columns")
        L = self.cholesky
        if L is not None and not (
            L.shape[0] == L.shape[1] and torch.equal(L, L.tril()) and bool((L.diagonal() > 0).all())
        ):
            raise ValueError("cholesky: expected a lower triangle with a positive diagonal")
        if self.members is not None and len(self.members) < 2:
            raise ValueError(f"members: expected at least 2, got {len(self.members)}")
        if len({value.shape[1] for value in tensors.values()}) > 1:
            raise ValueError("cholesky and members: expected one number of features")
        if not 0.0 <= self.multiplier < float("inf"):
            raise ValueError(f"multiplier: expected 0 or more, got {self.multiplier}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those of :data:`KINDS` that it has, the more exact one first."""
        present = (self.cholesky is not None, self.members is not None)
        return tuple(kind for kind, there in zip(KINDS, present, strict=True) if there)

    @property
    def n_features(self) -> int:
        """Number of features of an atom."""
        some = self.cholesky if self.cholesky is not None else self.members
        assert some is not None
        return some.shape[1]

    def projections(self, kind: str) -> Tensor:
        r"""Vectors p whose squared products with features add up to a variance.

        .. math::
            p = \alpha L^{-1} \;\text{(llpr)}, \qquad
            p_m = (w_m - \bar w)/\sqrt{n - 1} \;\text{(ensemble)}

        Args:
            kind: ``"llpr"`` or ``"ensemble"``, one of ``kinds``.

        Returns:
            [n, n_features], eV, float64; n is the number of features or of members.

        Raises:
            ValueError: If there is no such kind.
        """
        if kind not in self.kinds:
            raise ValueError(f"kind: expected one of {self.kinds}, got {kind!r}")
        if kind == "llpr":
            assert self.cholesky is not None
            L = self.cholesky.to(torch.float64)
            eye = torch.eye(len(L), dtype=L.dtype, device=L.device)
            inverse: Tensor = torch.linalg.solve_triangular(L, eye, upper=False)
            return self.multiplier * inverse
        assert self.members is not None
        w = self.members.to(torch.float64)
        return (w - w.mean(0)) / math.sqrt(len(w) - 1)


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())
