"""The shared ensemble: against its formulas, and what it promises on awkward structures."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from ase_pet.data import Graph
from ase_pet.derivatives import evaluate, results
from ase_pet.ecse import Settings, SmoothSettings, Symmetrized
from ase_pet.ecse.axis import fade_out
from ase_pet.ecse.settings import settings
from ase_pet.ecse.shared import affinities, serve, shared_frames
from ase_pet.ecse.smooth import candidates
from ase_pet.testing import contracts
from ase_pet.testing.evaluators import graph_of, potential_evaluator
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, Pairwise, tiny_pet

STRUCTURES = structures(SPECIES)
CUTOFF = 2.6
LEAN, SMOOTH = settings("lean"), settings("smooth")
assert isinstance(LEAN, SmoothSettings)
assert isinstance(SMOOTH, SmoothSettings)


def fades(graph: Graph) -> torch.Tensor:
    return fade_out(graph.vectors.norm(dim=1), CUTOFF, SMOOTH)


def shared(n_layers: int = 1, weights: str | Settings = "lean", **options: str) -> Symmetrized:
    return Symmetrized(tiny_pet(n_layers), ensemble="shared", weights=weights, **options)


def carbon_dioxide(center: list[float], axis: list[float]) -> Atoms:
    arm = 1.16 * np.array(axis) / np.linalg.norm(axis)
    return Atoms("OCO", np.array(center) + np.array([-arm, 0 * arm, arm]))


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("name", ["cluster", "triclinic", "wire", "fragments", "one_atom_cell"])
def test_affinities_are_a_power_of_the_matrix_of_fades(name: str, hops: int) -> None:
    graph = graph_of([STRUCTURES[name]], CUTOFF)
    n, fade = graph.n_atoms, fades(graph)
    dense = torch.eye(n, dtype=torch.float64)
    dense.index_put_((graph.centers, graph.others), fade, accumulate=True)
    start, end, values = affinities(graph, fade, hops)
    found = torch.zeros(n, n, dtype=torch.float64)
    found.index_put_((start, end), values, accumulate=True)  # over images
    torch.testing.assert_close(found, torch.linalg.matrix_power(dense, hops), rtol=1e-13, atol=0)
    assert torch.equal(start, start.sort()[0])
    assert float(values.min()) > 0


def walks(graph: Graph, hops: int) -> dict[tuple[int, int, tuple[int, ...]], float]:
    """Affinities by atoms and lattice translation, walk by walk."""
    assert graph.shifts is not None
    found = {(i, i, (0, 0, 0)): 1.0 for i in range(graph.n_atoms)}
    steps = list(
        zip(graph.centers.tolist(), graph.others.tolist(), graph.shifts, fades(graph), strict=True)
    )
    for _ in range(hops):
        longer = defaultdict(float, found)
        for (i, a, t), value in found.items():
            for center, other, shift, fade in steps:
                if center == a and fade > 0:
                    there = tuple((torch.tensor(t) + shift).tolist())
                    longer[i, other, there] += value * float(fade)
        found = dict(longer)
    return found


@pytest.mark.parametrize("name", ["wire", "triclinic"])
def test_periodic_images_are_atoms_of_their_own(name: str) -> None:
    graph = graph_of([STRUCTURES[name]], CUTOFF)
    expected = walks(graph, 2)
    start, end, values = affinities(graph, fades(graph), 2)
    assert len(expected) > len({(i, a) for i, a, _ in expected})
    for i, a in itertools.product(range(graph.n_atoms), repeat=2):
        ours = values[(start == i) & (end == a)].sort()[0].tolist()
        assert ours == pytest.approx(sorted(v for k, v in expected.items() if k[:2] == (i, a)))


def softmin(values: np.ndarray, weights: np.ndarray, beta: float) -> float:
    terms = weights * np.exp(-beta * (values - values.min()))
    return float((values * terms).sum() / terms.sum())


def step(t: float) -> float:
    t = min(max(t, 0.0), 1.0)
    return 6 * t**5 - 15 * t**4 + 10 * t**3


@pytest.mark.parametrize("given", [LEAN, SMOOTH, replace(LEAN, shared_hops=1)])
@pytest.mark.parametrize("name", ["molecule", "cluster", "wire", "line", "bent"])
def test_who_reads_what(name: str, given: SmoothSettings) -> None:
    """Scores, soft minimum and weights, candidate by candidate and image by image."""
    graph = graph_of([STRUCTURES[name]], CUTOFF)
    atoms = torch.arange(graph.n_atoms)
    found = candidates(graph, atoms, graph.n_atoms, CUTOFF, given, mirror=True)
    of_owner = [torch.nonzero(found.owners == a)[:, 0].tolist() for a in atoms.tolist()]
    expected: dict[tuple[int, int], float] = defaultdict(float)
    for i in atoms.tolist():
        scored = [
            (c, float(found.scores[c]) + given.distance_penalty * math.log1p(1.0 / value))
            for (start, a, _), value in walks(graph, given.shared_hops).items()
            if start == i
            for c in of_owner[a]
        ]
        which, x = zip(*scored, strict=True)
        lowest = softmin(np.array(x), found.counts[list(which)].numpy(), given.beta)
        for c, score in scored:
            expected[c, i] += step(1 + (lowest - score) / float(found.windows[c]))
    reads = serve(graph, found, CUTOFF, given)
    pairs = list(zip(reads.frames.tolist(), reads.atoms.tolist(), strict=True))
    assert set(pairs) == {pair for pair, weight in expected.items() if weight > 0}
    assert len(set(pairs)) == len(pairs)
    assert pairs == sorted(pairs)
    weights = [expected[pair] for pair in pairs]
    np.testing.assert_allclose(reads.weights.numpy(), weights, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("weights", [LEAN, SMOOTH])
def test_every_atom_is_served_by_one_that_is_near(weights: SmoothSettings, hops: int) -> None:
    given = replace(weights, shared_hops=hops)
    for name, atoms in STRUCTURES.items():
        graph = graph_of([atoms], CUTOFF)
        frames, reads = shared_frames(graph, CUTOFF, 1, given, mirror=True)
        total = torch.zeros(graph.n_atoms, dtype=torch.float64)
        total.index_add_(0, reads.atoms, reads.weights)
        assert bool((total[graph.centers.unique()] > 0.999).all()), name
        near = {(i, a) for i, a, _ in walks(graph, hops)}
        owners = frames.owners[reads.frames].tolist()
        assert set(zip(reads.atoms.tolist(), owners, strict=True)) <= near, name


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("weights", [LEAN, SMOOTH])
def test_fragments_beyond_the_cutoff_do_not_feel_each_other(
    weights: SmoothSettings, n_layers: int, hops: int
) -> None:
    one, other = STRUCTURES["fragments"][:5], STRUCTURES["fragments"][5:]
    potential = shared(n_layers, replace(weights, shared_hops=hops))
    ask = potential_evaluator(potential)
    alone = ask([one, other])
    for gap in (CUTOFF + 0.01, 60.0):
        moved = other.copy()
        moved.positions[:, 0] += one.positions[:, 0].max() + gap - other.positions[:, 0].min()
        (both,) = ask([one + moved])
        assert both.energy == pytest.approx(alone[0].energy + alone[1].energy, rel=0, abs=1e-12)
        forces = np.concatenate([alone[0].forces, alone[1].forces])
        np.testing.assert_allclose(both.forces, forces, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("bulk", "lean"), ("triclinic", "lean"), ("triclinic", "smooth"), ("slab", "lean")],
)
def test_the_choice_of_the_cell_does_not_matter(name: str, weights: str) -> None:
    contracts.check_supercell(potential_evaluator(shared(1, weights)), STRUCTURES[name])


@pytest.mark.parametrize("symmetry", ["O(3)", "SO(3)"])
@pytest.mark.parametrize("given", [LEAN, SMOOTH])
@pytest.mark.parametrize("name", ["cluster", "triclinic", "planar", "dimer", "one_atom_cell"])
def test_energy_forces_and_virial_turn_along(
    name: str, given: SmoothSettings, symmetry: str
) -> None:
    atoms = STRUCTURES[name]
    for hops in (1, 2):
        weights = replace(given, shared_hops=hops)
        ask = potential_evaluator(shared(1, weights, symmetry=symmetry))
        contracts.check_rotation(ask, atoms, reflections=symmetry == "O(3)")
        contracts.check_forces(ask, atoms, n_directions=1)


def near_pair(x: float = 0.0) -> Atoms:
    """Two linear molecules side by side, one of which is x Å away from a straight line."""
    pair = carbon_dioxide([0, 0, 0], [1, 0, 0]) + carbon_dioxide([0.4, 2.1, 0.3], [1, 0.5, 0.2])
    pair.positions[2, 2] += x
    return pair


@pytest.mark.parametrize("weights", [replace(SMOOTH, shared_hops=1), SMOOTH])
def test_an_axis_is_read_by_atoms_that_see_more_than_a_line(weights: SmoothSettings) -> None:
    atoms = near_pair()
    graph = graph_of([atoms], CUTOFF)
    potential = shared(2, weights)
    frames, reads = potential.frames(graph)
    along = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    axes = (frames.rotations[:, 0] * along).sum(1).abs() > 1 - 1e-9
    owner, reader = frames.owners[reads.frames], reads.atoms
    assert bool((axes[reads.frames] & (owner < 3) & (reader >= 3)).any())
    ask = potential_evaluator(potential)
    contracts.check_rotation(ask, atoms)
    contracts.check_net_torque(ask, atoms)
    contracts.check_forces(ask, near_pair(0.02))


@pytest.mark.parametrize("weights", [LEAN, SMOOTH])
def test_continuous_where_one_of_two_lines_bends(weights: SmoothSettings) -> None:
    ask = potential_evaluator(shared(2, weights))
    contracts.check_continuity(ask, near_pair, -0.4, 0.4, events=(0.0,), n_points=5)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_two_distant_lines_are_two_molecules(n_layers: int) -> None:
    one = carbon_dioxide([0, 0, 0], [1, 0, 0])
    other = carbon_dioxide([0, 40, 0], [1, 2, 3])
    ask = potential_evaluator(shared(n_layers))
    alone, turned, both = ask([one, other, one + other])
    assert alone.energy == pytest.approx(turned.energy, rel=1e-12)
    assert both.energy == pytest.approx(2 * alone.energy, rel=1e-12)


def parting(x: float) -> Atoms:
    """A bent molecule that leaves another one; x Å between two of their atoms."""
    one = Atoms("COH", [[0.0, 0.0, 0.0], [1.2, 0.1, 0.0], [-0.5, 0.9, 0.2]])
    other = Atoms("OCH", [[0.0, 0.0, 0.0], [0.7, 0.9, 0.3], [0.9, -0.4, 0.5]])
    other.positions += one.positions[1] + [0.8 * x, 0.0, -0.6 * x]
    return one + other


@pytest.mark.parametrize(("weights", "n_layers"), [("lean", 1), ("lean", 2), ("smooth", 2)])
def test_continuous_where_a_molecule_leaves_another(weights: str, n_layers: int) -> None:
    """Its atoms cross the cutoff one by one, and those that make the frames change."""
    potential = shared(n_layers, weights)
    makers = set()
    for x in np.linspace(1.3, 3.0, 18):
        frames, reads = potential.frames(graph_of([parting(x)], CUTOFF))
        owners = frames.owners[reads.frames]
        makers.add(tuple(sorted(set(zip(reads.atoms.tolist(), owners.tolist(), strict=True)))))
    assert len(makers) > 3
    far = potential.frames(graph_of([parting(2.9)], CUTOFF))[0].owners
    assert bool((far < 3).any() & (far >= 3).any())
    ask = potential_evaluator(potential)
    contracts.check_continuity(ask, parting, 1.3, 3.0, events=(CUTOFF,), n_points=12)


def test_forces_change_in_proportion_to_the_step_where_makers_change() -> None:
    """Steps half as long change the forces half as much, all along the path."""
    ask = potential_evaluator(shared(1, "lean"))
    largest = []
    for n in (100, 200):
        forces = np.array(
            [one.forces for one in ask([parting(x) for x in np.linspace(1.5, 1.9, n)])]
        )
        largest.append(np.abs(np.diff(forces, axis=0)).max())
    assert largest[1] / largest[0] == pytest.approx(0.5, abs=0.05)


def silicon(n: int) -> Atoms:
    """n³ cubic cells, rattled."""
    atoms = bulk("Si", cubic=True).repeat(n)
    atoms.rattle(0.1, seed=n)
    return atoms


@pytest.mark.parametrize(("given", "cutoff"), [(LEAN, 4.0), (SMOOTH, 3.2)])
def test_the_cost_is_linear(given: SmoothSettings, cutoff: float) -> None:
    """Reads, copies and atoms of copies for each atom, counted."""
    potential = Symmetrized(Pairwise(cutoff), ensemble="shared", weights=given)
    found = []
    for atoms in (silicon(3), silicon(4)):
        ensemble = potential.ensemble(graph_of([atoms], cutoff))
        counts = len(ensemble.reads), ensemble.n_copies, len(ensemble.expansion.domains.atoms)
        found.append([count / len(atoms) for count in counts])
    # Copies scatter by a fifth from one random structure to another; from 216 to 512 is 2.4 times.
    assert all(large < 1.3 * small for small, large in zip(*found, strict=True))


def test_it_takes_fewer_copies_than_the_local_ensemble() -> None:
    graph = graph_of([silicon(2)], 4.0)

    def copies(ensemble: str, weights: SmoothSettings) -> int:
        potential = Symmetrized(Pairwise(4.0), ensemble=ensemble, weights=weights)
        return potential.ensemble(graph).n_copies

    few = copies("shared", LEAN)
    assert few < graph.n_atoms
    assert 4 * few < copies("local", LEAN)
    assert few <= copies("shared", replace(LEAN, shared_hops=1))


def test_results_of_fragments_in_one_graph_add_up() -> None:
    """The virial, too, is the sum of those of far fragments."""
    both = STRUCTURES["fragments"]
    potential = shared(2)
    parts = []
    for atoms in (both, both[:5], both[5:]):
        graph = graph_of([atoms], CUTOFF)
        parts.append(results(evaluate(potential, graph), graph))
    torch.testing.assert_close(
        parts[0].virial, parts[1].virial + parts[2].virial, rtol=0, atol=1e-11
    )


def test_hops_are_counted() -> None:
    with pytest.raises(ValueError, match="shared_hops: expected an integer"):
        replace(LEAN, shared_hops=0)
