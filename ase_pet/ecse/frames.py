r"""Coordinate systems made from the edges of an atom.

An ordered pair of edges (e, e') gives the right-handed system with rows

.. math::
    R = [\hat u_e;\ \hat n;\ \hat u_e\times\hat n],\qquad
    \hat n = \frac{\hat u_e\times\hat u_{e'}}{|\hat u_e\times\hat u_{e'}|}.

Rotated coordinates are R r. Under a rotation Q of the structure R becomes R Qᵀ, so that R r stays
as it is; under a reflection it becomes diag(1, -1, 1) R Qᵀ.

Source:
    Pozdnyakov & Ceriotti, NeurIPS 2023 (arXiv 2305.19302).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Weighted coordinate systems.

    Attributes:
        rotations: [n_frames, 3, 3], rows are axes.
        owners: [n_frames], int64, the atom whose environment made the frame.
        weights: [n_frames], not negative, relative within the group that shares frames; where each
            atom has its own, its share of that of the candidate that it belongs to.
        n_candidates: How many there were before pruning, where there is pruning.
    """

    rotations: Tensor
    owners: Tensor
    weights: Tensor
    n_candidates: int

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.weights.shape[0]

    def where(self, keep: Tensor) -> Frames:
        """Return the frames selected by a mask or index."""
        return Frames(
            self.rotations[keep], self.owners[keep], self.weights[keep], self.n_candidates
        )

    def with_mirror_images(self) -> Frames:
        """Each frame and its mirror image, with the same weight."""
        return Frames(
            torch.cat([self.rotations, mirror_images(self.rotations)]),
            self.owners.repeat(2),
            self.weights.repeat(2),
            self.n_candidates,
        )

    @staticmethod
    def cat(parts: list[Frames]) -> Frames:
        """Join lists of frames."""
        return Frames(
            torch.cat([p.rotations for p in parts]),
            torch.cat([p.owners for p in parts]),
            torch.cat([p.weights for p in parts]),
            sum(p.n_candidates for p in parts),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """Which atoms read their energies in which frames.

    Attributes:
        frames: [n_reads], int64, sorted.
        atoms: [n_reads], int64.
        weights: [n_reads], not negative, relative within an atom.
    """

    frames: Tensor
    atoms: Tensor
    weights: Tensor

    def renumbered(self, place: Tensor) -> Reads:
        """The same reads where frames are now at ``place`` [n_frames]."""
        frames = place[self.frames]
        order = torch.argsort(frames, stable=True)
        return Reads(frames[order], self.atoms[order], self.weights[order])

    @staticmethod
    def cat(parts: list[Reads]) -> Reads:
        """Join lists of reads."""
        return Reads(
            torch.cat([p.frames for p in parts]),
            torch.cat([p.atoms for p in parts]),
            torch.cat([p.weights for p in parts]),
        )


def mirror_images(systems: Tensor) -> Tensor:
    """Left-handed systems [n, 3, 3] from right-handed ones: the second axis turned around."""
    return systems * systems.new_tensor([[1.0], [-1.0], [1.0]])


def directions(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors [n_edges, 3] and lengths [n_edges], Å."""
    r = vectors.square().sum(1).clamp_min(1e-30).sqrt()
    return vectors / r[:, None], r


def pair_frames(u: Tensor, v: Tensor) -> Tensor:
    """Right-handed systems from pairs of unit vectors.

    Args:
        u: First axes, [n, 3].
        v: Second directions, [n, 3], not parallel to ``u``.

    Returns:
        [n, 3, 3], rows are axes.
    """
    n = _normalized(torch.linalg.cross(u, v))
    # Rounding tilts n towards u where u and v are nearly parallel.
    n = _normalized(n - (n * u).sum(1, keepdim=True) * u)
    return torch.stack([u, n, torch.linalg.cross(u, n)], 1)


def _normalized(v: Tensor) -> Tensor:
    return v / v.square().sum(1, keepdim=True).sqrt()


def axis_frames(u: Tensor) -> Tensor:
    """Some right-handed system whose first axis is given, for environments along that axis.

    Such an environment looks the same in all of them; the second axis is not differentiated.

    Args:
        u: First axes, unit vectors [n, 3].

    Returns:
        [n, 3, 3], rows are axes.
    """
    smallest = torch.nn.functional.one_hot(u.detach().abs().argmin(1), 3).to(u.dtype)
    return pair_frames(u, smallest)


def parallel(s: Tensor) -> Tensor:
    """Whether a squared sine [n] is that of two parallel directions, [n], bool.

    Taking 1e-8 rad (float64) for none is as small an error as what rounding, divided by the sine,
    leaves of the forces there.
    """
    return s <= torch.finfo(s.dtype).eps


def sine2(u: Tensor, v: Tensor) -> Tensor:
    """Squared sine [n] of the angles between unit vectors [n, 3]."""
    sine: Tensor = torch.linalg.cross(u, v)
    return sine.square().sum(1)
