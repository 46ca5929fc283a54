"""Open-boundary radius search of torch_cluster, or of its successor pyg_lib, on image atoms.

What the kernels leave to the caller: they know no periodicity; they return at most
``max_num_neighbors`` a query and say nothing when there were more; the CUDA kernel compares a
query with every point of its example, and looks for that example one by one. Large structures
therefore go in as spatial bins, a limited number of them at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from ase_pet.errors import NeighborError
from ase_pet.neighbors.images import Images, Lattice, extent, integer_boxes
from ase_pet.neighbors.memory import require_memory
from ase_pet.neighbors.search import Pairs, no_pairs, pair_once

#: Structures with more atoms than this are cut into bins.
BINNED_ABOVE = 10_000
#: Atoms in a bin, on average.
BIN_ATOMS = 200
#: Most bins along an axis, so that an integer key has room for them.
MOST_BINS = 2**16
#: Bins in one call of the kernel, which scans them all.
BINS_A_CALL = 512
#: Neighbours to make room for at first.
FIRST_ROOM = 64
#: Memory of a possible neighbour inside the CUDA kernel, bytes.
BYTES_OF_ROOM = 34

#: (points, queries, first rows of both by example, radius, room) -> [2, n]: query, point.
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, float, int], Tensor]


def kernel_for(device_type: str) -> Kernel | None:
    """The installed radius kernel that runs on ``device_type``, ``None`` if there is none.

    A build made where no CUDA compiler was found imports well but has no CUDA kernel.
    """
    for package, name, radius in (
        ("torch_cluster", "torch_cluster", _torch_cluster_radius),
        ("pyg_lib", "pyg", _pyg_lib_radius),
    ):
        if not _loads(package):
            continue
        operators = getattr(torch.ops, name)
        built_for_cuda = int(operators.cuda_version()) != -1
        if hasattr(operators, "radius") and (
            device_type == "cpu" or (device_type == "cuda" and built_for_cuda)
        ):
            return radius
    return None


def _loads(package: str) -> bool:
    if find_spec(package) is None:
        return False
    try:
        with warnings.catch_warnings():  # of its deprecation
            warnings.simplefilter("ignore")
            import_module(package)
    except (ImportError, OSError):  # built for another torch
        return False
    return True


def _torch_cluster_radius(
    points: Tensor, queries: Tensor, ptr_x: Tensor, ptr_y: Tensor, radius: float, room: int
) -> Tensor:
    found: Tensor = torch.ops.torch_cluster.radius(points, queries, ptr_x, ptr_y, radius, room, 1)
    return found


def _pyg_lib_radius(
    points: Tensor, queries: Tensor, ptr_x: Tensor, ptr_y: Tensor, radius: float, room: int
) -> Tensor:
    found: Tensor = torch.ops.pyg.radius(
        points, queries, ptr_x, ptr_y, radius, max_num_neighbors=room
    )
    return found


def candidates(lattice: Lattice, radius: float) -> Pairs:
    """All pairs within ``radius`` (Å); in single precision on a GPU, with a wider radius."""
    device = lattice.positions.device
    kernel = kernel_for(device.type)
    if kernel is None:
        raise NeighborError(
            f"neighbors: the installed torch_cluster cannot run on {device} (it was built without "
            "CUDA); reinstall it where nvcc is found, or use neighbors='cell_list'"
        )
    dtype = torch.float32 if device.type == "cuda" else torch.float64
    return search(kernel, lattice, radius, dtype)


def search(kernel: Kernel, lattice: Lattice, radius: float, dtype: torch.dtype) -> Pairs:
    """All pairs within ``radius`` (Å), found by ``kernel`` in ``dtype``."""
    far = float(lattice.positions.abs().amax()) + radius
    margin = 16 * torch.finfo(dtype).eps * far
    if margin > 0.01 * radius:  # atoms too far apart for this precision
        dtype, margin = torch.float64, 16 * torch.finfo(torch.float64).eps * far
    radius = radius + margin
    images = Images.within(lattice, radius)
    bins = cut_into_bins(lattice, images, radius)
    # A kd-tree on the CPU returns what it finds, whatever the room.
    room = FIRST_ROOM if lattice.positions.device.type == "cuda" else len(bins.points)
    found = [no_pairs(lattice.positions.device)]
    for start in range(0, bins.n_bins, BINS_A_CALL):
        part = slice(start, start + BINS_A_CALL + 1)
        ptr_x, ptr_y = bins.ptr_points[part], bins.ptr_queries[part]
        image = bins.points[int(ptr_x[0]) : int(ptr_x[-1])]
        atom = bins.queries[int(ptr_y[0]) : int(ptr_y[-1])]
        points = images.positions[image].to(dtype)
        queries = lattice.positions[atom].to(dtype)
        (row, column), room = find_all(
            kernel, points, queries, ptr_x - ptr_x[0], ptr_y - ptr_y[0], radius, room
        )
        i, m = atom[row], image[column]
        once = pair_once(i, images.atoms[m], images.shifts[m])
        i, m = i[once], m[once]
        found.append(Pairs(i, images.atoms[m], images.shifts[m]))
    return Pairs(*(torch.cat(part) for part in zip(*found, strict=True)))


def find_all(
    kernel: Kernel,
    points: Tensor,
    queries: Tensor,
    ptr_x: Tensor,
    ptr_y: Tensor,
    radius: float,
    room: int,
) -> tuple[Tensor, int]:
    """Call a kernel with more and more room until no query has filled it.

    Args:
        kernel: A kernel that returns at most ``room`` points a query.
        points: [n_points, 3], Å, sorted by example.
        queries: [n_queries, 3], Å, sorted by example.
        ptr_x: [n_examples + 1], int64, first point of each example.
        ptr_y: [n_examples + 1], int64, first query of each example.
        radius: Å.
        room: Where to start.

    Returns:
        Query and point of each pair [2, n_pairs], and the room that was enough.

    Raises:
        NeighborError: If that much room does not fit in memory.
    """
    while True:
        if points.device.type == "cuda":
            require_memory("possible pairs", len(queries) * room, BYTES_OF_ROOM, points.device)
        found = kernel(points, queries, ptr_x, ptr_y, radius, room)
        fullest = int(torch.bincount(found[0], minlength=1).amax())
        if fullest < room or room >= len(points):
            return found, room
        room *= 2


class Bins(NamedTuple):
    """Atoms cut into spatial bins, each with all image atoms that its atoms may reach.

    Attributes:
        queries: [n_atoms], int64, atoms sorted by bin.
        points: [n_points], int64, images sorted by bin; an image can be in several.
        ptr_queries: [n_bins + 1], int64, first query of each bin.
        ptr_points: [n_bins + 1], int64, first point of each bin.
    """

    queries: Tensor
    points: Tensor
    ptr_queries: Tensor
    ptr_points: Tensor

    @property
    def n_bins(self) -> int:
        """Number of bins that hold atoms."""
        return len(self.ptr_queries) - 1


def cut_into_bins(lattice: Lattice, images: Images, radius: float) -> Bins:
    """Cut large structures into bins of about ``BIN_ATOMS`` atoms; small ones are a bin each."""
    index, n = lattice.system_index, lattice.n_systems
    low, high = extent(lattice.positions, index, n)
    size = (high - low).clamp(min=radius)
    n_atoms = torch.bincount(index, minlength=n)
    width = (size.prod(1) / n_atoms.clamp(min=1) * BIN_ATOMS) ** (1 / 3)
    width = torch.maximum(width.unsqueeze(1), size / MOST_BINS)
    width[n_atoms <= BINNED_ABOVE] = torch.inf
    last = ((high - low) / width).floor().to(torch.int64)

    def place(positions: Tensor, system: Tensor) -> Tensor:
        steps = ((positions - low[system]) / width[system]).floor().to(torch.int64)
        return torch.minimum(steps.clamp(min=0), last[system])

    def key(system: Tensor, places: Tensor) -> Tensor:
        nx, ny, nz = (last.amax(0) + 1).tolist()
        x, y, z = places.unbind(1)
        number: Tensor = ((system * nx + x) * ny + y) * nz + z
        return number

    atom_keys, queries = torch.sort(key(index, place(lattice.positions, index)))
    occupied, counts = torch.unique_consecutive(atom_keys, return_counts=True)
    system = index[images.atoms]
    which, places = integer_boxes(
        place(images.positions - radius, system), place(images.positions + radius, system)
    )
    bin_of = torch.searchsorted(occupied, key(system[which], places)).clamp(max=len(occupied) - 1)
    kept = occupied[bin_of] == key(system[which], places)
    bin_of, order = torch.sort(bin_of[kept])
    points = which[kept][order]
    zero = counts.new_zeros(1)
    ptr_points = torch.bincount(bin_of, minlength=len(occupied)).cumsum(0)
    return Bins(queries, points, torch.cat([zero, counts.cumsum(0)]), torch.cat([zero, ptr_points]))
