from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from ase_pet.errors import NeighborError
from ase_pet.neighbors import make_search, torch_cluster
from ase_pet.neighbors.images import Images, Lattice
from ase_pet.neighbors.search import Pairs, finish
from ase_pet.neighbors.torch_cluster import cut_into_bins, find_all, kernel_for
from tests.neighbor_cases import (
    KINDS,
    as_set,
    assert_same,
    fcc,
    nasty_case,
    needs_cuda,
    system_of,
)

needs_kernel = pytest.mark.skipif(
    kernel_for("cpu") is None, reason="neither torch_cluster nor pyg_lib is installed"
)


def plain_kernel(
    points: Tensor, queries: Tensor, ptr_x: Tensor, ptr_y: Tensor, radius: float, room: int
) -> Tensor:
    """What the compiled kernels do, truncation included."""
    found = []
    for k in range(len(ptr_x) - 1):
        for row in range(int(ptr_y[k]), int(ptr_y[k + 1])):
            distances = torch.linalg.vector_norm(points - queries[row], dim=1)
            near = torch.nonzero(distances < radius).flatten()
            near = near[(near >= ptr_x[k]) & (near < ptr_x[k + 1])][:room]
            found.append(torch.stack([torch.full_like(near, row), near]))
    return torch.cat(found, dim=1)


KERNELS = [
    pytest.param(plain_kernel, id="plain"),
    pytest.param(kernel_for("cpu"), marks=needs_kernel, id="compiled"),
]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("room", [1, 3, 64])
def test_room_doubles_until_nothing_is_missing(kernel: torch_cluster.Kernel, room: int) -> None:
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = torch.tensor([0, 20, 50])
    found, enough = find_all(kernel, points, points, ends, ends, 0.6, room)
    near = torch.cdist(points, points) < 0.6
    near[:20, 20:] = near[20:, :20] = False
    counts = near.sum(1)
    assert int(counts.max()) < enough
    assert set(map(tuple, found.T.tolist())) == set(map(tuple, near.nonzero().tolist()))


def test_full_room_is_accepted_only_when_all_points_fit() -> None:
    points = torch.zeros(4, 3)
    ends = torch.tensor([0, 4])
    found, room = find_all(plain_kernel, points, points, ends, ends, 1.0, 2)
    assert found.shape == (2, 16)
    assert room == 4


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_bins_and_single_precision_keep_the_list_exact(
    monkeypatch: pytest.MonkeyPatch, kernel: torch_cluster.Kernel, dtype: torch.dtype, kind: str
) -> None:
    monkeypatch.setattr(torch_cluster, "BINNED_ABOVE", 4)
    monkeypatch.setattr(torch_cluster, "BIN_ATOMS", 3)
    monkeypatch.setattr(torch_cluster, "BINS_A_CALL", 2)
    system, cutoff = nasty_case(kind, 5)
    lattice = Lattice.of(system)
    i, j, shifts = torch_cluster.search(kernel, lattice, cutoff + lattice.rounding, dtype)
    found = finish(system, Pairs(i, j, lattice.given_shifts(i, j, shifts)), cutoff)
    assert_same(found, make_search("brute_force")(system, cutoff))


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_just_below_the_cutoff_far_from_the_origin(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(1)
    starts = 400 + 500 * rng.random((60, 3))
    arms = rng.normal(size=(60, 3))
    arms *= (3.0 - 1e-9) / np.linalg.norm(arms, axis=1, keepdims=True)
    system = system_of(np.concatenate([starts, starts + arms]))
    lattice = Lattice.of(system)
    kernel = kernel_for("cpu")
    assert kernel is not None
    pairs = torch_cluster.search(kernel, lattice, 3.0 + lattice.rounding, dtype)
    assert_same(finish(system, pairs, 3.0), make_search("brute_force")(system, 3.0))
    assert finish(system, pairs, 3.0).n_edges >= 120


@needs_kernel
def test_large_crystal_is_binned() -> None:
    rng = np.random.default_rng(0)
    crystal = fcc(4.0, 14)
    positions = crystal.positions.numpy() + 0.1 * rng.normal(size=(crystal.n_atoms, 3))
    system = system_of(positions, crystal.cell[0].numpy(), True)
    lattice = Lattice.of(system)
    bins = cut_into_bins(lattice, Images.within(lattice, 3.5), 3.5)
    per_bin = bins.ptr_queries.diff()
    assert system.n_atoms > torch_cluster.BINNED_ABOVE
    assert torch.equal(bins.queries.sort().values, torch.arange(system.n_atoms))
    assert 100 <= float(per_bin.double().mean()) <= 400
    expected = make_search("cell_list")(system, 3.5)
    found = make_search("torch_cluster")(system, 3.5)
    for part in ("centers", "others", "shifts", "reverse"):
        assert torch.equal(getattr(found, part), getattr(expected, part)), part


def test_small_structures_are_a_bin_each() -> None:
    system, cutoff = nasty_case("batch", 0)
    lattice = Lattice.of(system)
    bins = cut_into_bins(lattice, Images.within(lattice, cutoff), cutoff)
    assert bins.n_bins == system.n_systems
    assert torch.equal(bins.ptr_queries.diff(), torch.bincount(system.system_index))


def fake_operators(cuda_version: int, **operators: object) -> SimpleNamespace:
    return SimpleNamespace(cuda_version=lambda: cuda_version, **operators)


@pytest.mark.parametrize(("cuda_version", "usable"), [(-1, False), (12060, True)])
def test_a_build_without_cuda_is_told_from_one_with(
    monkeypatch: pytest.MonkeyPatch, cuda_version: int, usable: bool
) -> None:
    operators = fake_operators(cuda_version, radius=None)
    monkeypatch.setattr(torch_cluster, "_loads", lambda package: package == "torch_cluster")
    monkeypatch.setattr(torch.ops, "torch_cluster", operators, raising=False)
    assert kernel_for("cpu") is torch_cluster._torch_cluster_radius
    assert (kernel_for("cuda") is not None) == usable
    assert kernel_for("mps") is None
    if not usable:
        with pytest.raises(NeighborError, match="built without CUDA"):
            make_search("torch_cluster", device="cuda")


def test_pyg_lib_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    def radius(
        x: Tensor, y: Tensor, ptr_x: Tensor, ptr_y: Tensor, r: float, max_num_neighbors: int
    ) -> Tensor:
        return plain_kernel(x, y, ptr_x, ptr_y, r, max_num_neighbors)

    monkeypatch.setattr(torch_cluster, "_loads", lambda package: package == "pyg_lib")
    monkeypatch.setattr(torch.ops, "pyg", fake_operators(-1, radius=radius), raising=False)
    assert kernel_for("cpu") is torch_cluster._pyg_lib_radius
    assert kernel_for("cuda") is None
    assert as_set(make_search("torch_cluster")(fcc(4.0), 2.9)) == as_set(
        make_search("brute_force")(fcc(4.0), 2.9)
    )


def test_a_package_built_for_another_torch_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(package: str) -> None:
        raise OSError("undefined symbol")

    monkeypatch.setattr(torch_cluster, "find_spec", lambda package: True)
    monkeypatch.setattr(torch_cluster, "import_module", broken)
    assert kernel_for("cpu") is None


@pytest.mark.parametrize("repeat", [pytest.param(6, marks=needs_cuda)])
def test_overflow_on_cuda(repeat: int) -> None:
    if kernel_for("cuda") is None:
        pytest.skip("torch_cluster has no CUDA kernel here")
    system = fcc(4.0, repeat)
    expected = make_search("cell_list")(system, 9.0)  # more than FIRST_ROOM neighbours
    assert_same(make_search("torch_cluster", device="cuda")(system.to("cuda"), 9.0), expected)
