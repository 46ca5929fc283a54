from __future__ import annotations

import pytest
import torch
from scipy.spatial.transform import Rotation

from ase_pet.ecse.frames import Frames, axis_frames, directions, pair_frames, parallel, sine2


def unit_vectors(n: int, seed: int = 0) -> torch.Tensor:
    v = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return v / v.norm(dim=1, keepdim=True)


def assert_proper(rotations: torch.Tensor) -> None:
    eye = torch.eye(3, dtype=rotations.dtype).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.mT, eye, rtol=0, atol=1e-14)
    assert bool((torch.linalg.det(rotations) > 0).all())


def test_a_pair_gives_a_right_handed_system() -> None:
    u, v = unit_vectors(20), unit_vectors(20, seed=1)
    rotations = pair_frames(u, v)
    assert_proper(rotations)
    torch.testing.assert_close(rotations[:, 0], u)
    # The second axis is across both, so the pair has no component along it.
    across = torch.einsum("nx,nx->n", rotations[:, 1], v)
    assert float(across.abs().max()) < 1e-15
    torch.testing.assert_close(rotations[:, 2], torch.linalg.cross(u, rotations[:, 1]))


def test_frames_turn_with_the_vectors() -> None:
    u, v = unit_vectors(20), unit_vectors(20, seed=1)
    Q = torch.tensor(Rotation.random(random_state=5).as_matrix())
    turned = pair_frames(u @ Q.T, v @ Q.T)
    torch.testing.assert_close(turned, pair_frames(u, v) @ Q.T, rtol=0, atol=1e-14)
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
    reflected = pair_frames(-u @ Q.T, -v @ Q.T)
    expected = mirror @ pair_frames(u, v) @ -Q.T
    torch.testing.assert_close(reflected, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sine", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
def test_nearly_parallel_vectors_still_give_orthogonal_axes(sine: float) -> None:
    u, across = unit_vectors(50), unit_vectors(50, seed=2)
    v = u + sine * across
    v = v / v.norm(dim=1, keepdim=True)
    assert_proper(pair_frames(u, v))
    assert_proper(pair_frames(u, -v))


def test_any_system_along_an_axis() -> None:
    u = torch.cat([unit_vectors(20), torch.eye(3, dtype=torch.float64)])
    rotations = axis_frames(torch.cat([u, -u]))
    assert_proper(rotations)
    torch.testing.assert_close(rotations[:, 0], torch.cat([u, -u]))


def test_squared_sines_are_exact_where_they_are_small() -> None:
    u = unit_vectors(1).expand(4, 3)
    n = torch.linalg.cross(u, unit_vectors(4, seed=3))
    n = n / n.norm(dim=1, keepdim=True)
    angles = torch.tensor([0.3, 1e-3, 1e-5, 1e-7], dtype=torch.float64)
    v = angles.cos()[:, None] * u + angles.sin()[:, None] * n
    torch.testing.assert_close(sine2(u, v), angles.sin().square(), rtol=1e-8, atol=0)
    assert parallel(angles.sin().square()).tolist() == [False] * 4
    assert parallel(torch.tensor([1e-17, 0.0], dtype=torch.float64)).tolist() == [True, True]
    assert parallel(torch.tensor([1e-8, 1e-6])).tolist() == [True, False]


def test_directions_and_lengths() -> None:
    vectors = torch.tensor([[3.0, 0.0, 4.0], [0.0, -2.0, 0.0]], dtype=torch.float64)
    u, r = directions(vectors)
    assert r.tolist() == [5.0, 2.0]
    torch.testing.assert_close(u * r[:, None], vectors)
    leaf = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(directions(leaf)[1].sum(), leaf)
    assert bool(torch.isfinite(slope).all())


def test_frames_are_selected_and_joined_together() -> None:
    rotations = pair_frames(unit_vectors(3), unit_vectors(3, seed=1))
    frames = Frames(rotations, torch.tensor([4, 5, 6]), torch.tensor([0.1, 0.2, 0.3]), 7)
    some = frames.where(frames.weights > 0.15)
    assert some.owners.tolist() == [5, 6]
    assert some.n_candidates == 7
    joined = Frames.cat([frames, some])
    assert joined.n_frames == 5
    assert joined.owners.tolist() == [4, 5, 6, 5, 6]
    assert joined.n_candidates == 14
    assert torch.equal(joined.rotations[3], rotations[1])
