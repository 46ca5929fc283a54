"""Structures that neighbour searches tend to get wrong, and what they are compared with."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from ase.neighborlist import primitive_neighbor_list

from ase_pet.data import Edges, System

BACKENDS = [
    pytest.param("brute_force"),
    pytest.param("cell_list"),
    pytest.param(
        "vesin",
        marks=pytest.mark.skipif(find_spec("vesin") is None, reason="vesin is not installed"),
    ),
    pytest.param(
        "torch_cluster",
        marks=pytest.mark.skipif(
            find_spec("torch_cluster") is None and find_spec("pyg_lib") is None,
            reason="neither torch_cluster nor pyg_lib is installed",
        ),
    ),
]
needs_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

KINDS = (
    "triclinic", "outside", "far_outside", "left_handed", "small", "one_atom", "sparse", "dense",
    "rhombohedron", "partly_periodic_rhombohedron", "mixed_pbc", "zero_vectors",
    "dependent_vectors", "open", "shell", "slivers", "batch",
)  # fmt: skip


def system_of(positions: object, cell: object = ((0, 0, 0),) * 3, pbc: object = False) -> System:
    """One structure of hydrogen."""
    r = torch.as_tensor(np.asarray(positions, dtype=float).reshape(-1, 3))
    n = len(r)
    return System(
        r,
        torch.ones(n, dtype=torch.int64),
        torch.as_tensor(np.array(cell, dtype=float)).reshape(1, 3, 3),
        torch.as_tensor(np.broadcast_to(np.asarray(pbc, dtype=bool), 3).copy()).reshape(1, 3),
        torch.zeros(n, dtype=torch.int64),
    )


def fcc(a: float, repeat: int = 1) -> System:
    """Conventional fcc cells of lattice constant a, Å."""
    corners = np.stack(np.meshgrid(*[np.arange(repeat)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return system_of(a * (corners + basis), a * repeat * np.eye(3), True)


def rhombohedron(edge: float, degrees: float) -> np.ndarray:
    """Three vectors of equal length and equal angles between them."""
    cosine = np.cos(np.radians(degrees))
    return np.linalg.cholesky(edge**2 * (np.eye(3) * (1 - cosine) + cosine))


def nasty_case(kind: str, seed: int) -> tuple[System, float]:
    """A random structure and cutoff (Å) of one kind; the same for the same seed."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == "batch":
        kinds = [k for k in KINDS if k not in ("batch", "dense")]
        singles = [nasty_case(k, seed)[0] for k in rng.choice(kinds, 4)]
        return System.cat(singles), float(rng.uniform(1, 3))
    n = int(rng.integers(1, 14))
    cutoff = float(rng.uniform(1.0, 4.5))
    cell = np.diag(rng.uniform(2, 7, 3)) + 0.6 * rng.normal(size=(3, 3))
    pbc = np.ones(3, dtype=bool)
    scaled = rng.random((n, 3))
    if kind in ("outside", "far_outside"):
        scaled += rng.integers(-1, 2, (n, 3)) * (50 if kind == "outside" else 10**6)
    elif kind == "left_handed":
        cell = cell[[1, 0, 2]]
    elif kind == "small":  # the cutoff is several times the cell
        cell, scaled, cutoff = cell / 2.5, scaled[:2], float(rng.uniform(3, 5))
    elif kind == "one_atom":
        scaled = scaled[:1] - 3
    elif kind == "sparse":  # no neighbours, mostly
        cell, cutoff = cell * 4, 0.8
    elif kind == "dense":  # far more than 32 neighbours
        cell, scaled, pbc = 4.0 * np.eye(3), rng.random((25, 3)), rng.random(3) < 0.7
    elif kind.endswith("rhombohedron"):
        cell = rhombohedron(rng.uniform(3, 12), 5.0)
        scaled = scaled[:4] + rng.integers(-2, 3, scaled[:4].shape)
        pbc = pbc if kind == "rhombohedron" else rng.random(3) < 0.6
        cutoff = float(rng.uniform(1, 3))
    elif kind in ("mixed_pbc", "zero_vectors", "dependent_vectors"):
        pbc, scaled = rng.random(3) < 0.5, 3 * scaled - 1
    elif kind == "open":
        pbc, scaled = ~pbc, 2 * scaled
    elif kind == "shell":  # the cutoff is a distance between lattice points, as near as it gets
        a = rng.choice([2.0, 3.0, 4.0])
        scaled = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
        scaled = scaled + rng.integers(-3, 4, scaled.shape)
        cell, cutoff = a * np.eye(3), float(a * np.sqrt(rng.integers(1, 9) / 2))
    elif kind == "slivers":  # planes much closer than atoms
        cell = np.array([[5.0, 0.1, 0], [4.9, 0.8, 0.1], [0.2, 3.0, 6.0]]) @ _turn(rng)
    positions = scaled @ cell
    if kind == "zero_vectors":
        cell[~pbc] = 0
    elif kind == "dependent_vectors" and pbc.any():
        cell[~pbc] = cell[pbc][0]
    return system_of(positions, cell, pbc), cutoff


def _turn(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def as_set(edges: Edges) -> set[tuple[int, ...]]:
    """(i, j, Sx, Sy, Sz) of every edge."""
    table = torch.cat([edges.centers[:, None], edges.others[:, None], edges.shifts], 1)
    rows = {tuple(row) for row in table.tolist()}
    assert len(rows) == edges.n_edges, "an edge is listed twice"
    return rows


def ase_set(system: System, cutoff: float) -> set[tuple[int, ...]]:
    """The same of ASE's neighbour list of one structure."""
    cell, pbc = system.cell[0].numpy().copy(), system.pbc[0].numpy()
    # ASE hangs on some cells with zero vectors: give it perpendicular ones.
    cell[~pbc] = np.linalg.svd(cell[pbc])[2][pbc.sum() :] if pbc.any() else np.eye(3)
    i, j, shifts = primitive_neighbor_list("ijS", pbc, cell, system.positions.numpy(), cutoff)
    return {(a, b, *s) for a, b, s in zip(i.tolist(), j.tolist(), shifts.tolist(), strict=True)}


def assert_same(found: Edges, expected: Edges) -> None:
    """Both lists are equal, order included."""
    assert as_set(found) == as_set(expected)
    for part in ("centers", "others", "shifts", "reverse"):
        assert torch.equal(getattr(found, part), getattr(expected, part)), part
