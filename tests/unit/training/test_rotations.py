import ase
import pytest
import torch

from ase_pet import derivatives
from ase_pet.data import Graph
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.neighbors import make_search
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.training.batches import collate, make_samples
from ase_pet.training.rotations import (
    Framed,
    Rotated,
    draw_frames,
    orient_randomly,
    random_rotations,
)


def pet(coordinates="vector_and_length"):
    torch.manual_seed(0)
    hypers = PETHypers(cutoff=4.0, d_model=8, n_heads=2, coordinates=coordinates)
    return PET(hypers, [13, 29]).double()


@pytest.fixture
def graph(frames):
    return collate(make_samples(frames[:4], 4.0)).graph


def test_matrices_are_orthogonal_and_uniform():
    generator = torch.Generator().manual_seed(0)
    R = random_rotations(20_000, generator, reflections=False)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(R @ R.transpose(1, 2), eye.expand(len(R), 3, 3))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(len(R), dtype=torch.float64))
    # Haar: elements average to 0 and their squares to 1/3.
    assert float(R.mean(0).abs().max()) < 0.02
    assert float((R.square().mean(0) - 1 / 3).abs().max()) < 0.02


def test_half_of_them_are_improper():
    generator = torch.Generator().manual_seed(0)
    signs = torch.linalg.det(random_rotations(2000, generator, reflections=True)).sign()
    assert abs(float(signs.mean())) < 0.1


def test_invariant_model_does_not_notice_atom_rotations(graph):
    invariant = pet("length")
    rotated = orient_randomly(
        invariant, graph, "atom", torch.Generator().manual_seed(1), reflections=True
    )
    torch.testing.assert_close(rotated(graph), invariant(graph), rtol=1e-12, atol=1e-12)
    plain, turned = (derivatives.evaluate(p, graph) for p in (invariant, rotated))
    for first, second in zip(plain, turned, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-12)


def test_bare_model_does_notice(graph):
    rotated = orient_randomly(
        pet(), graph, "atom", torch.Generator().manual_seed(1), reflections=False
    )
    assert float((rotated(graph) - pet()(graph)).abs().max().detach()) > 1e-4


def test_structure_rotation_equals_rotating_the_structures(graph):
    R = random_rotations(graph.n_systems, torch.Generator().manual_seed(2), reflections=True)
    model = pet()
    edges = R[graph.system_index[graph.centers]]
    turned = graph.with_vectors(torch.einsum("exy,ey->ex", edges, graph.vectors))
    energies, gradients, *_ = derivatives.evaluate(model, turned)
    forces, _ = derivatives.forces_and_virials(gradients, turned)
    expected = torch.einsum("axy,ax->ay", R[graph.system_index], forces)

    rotated = orient_randomly(
        model, graph, "structure", torch.Generator().manual_seed(2), reflections=True
    )
    again, gradients, *_ = derivatives.evaluate(rotated, graph)
    forces, _ = derivatives.forces_and_virials(gradients, graph)
    torch.testing.assert_close(again, energies, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(forces, expected, rtol=1e-10, atol=1e-12)


def test_forces_under_atom_rotations_are_derivatives_of_the_energy(graph):
    R = random_rotations(graph.n_atoms, torch.Generator().manual_seed(3), reflections=True)
    rotated = Rotated(pet(), R)
    forces, _ = derivatives.forces_and_virials(derivatives.evaluate(rotated, graph)[1], graph)
    step, atom = 1e-5, 2
    for axis in range(3):
        energy = []
        for sign in (1, -1):
            move = torch.zeros(graph.n_atoms, 3, dtype=torch.float64)
            move[atom, axis] = sign * step
            vectors = graph.vectors + move[graph.others] - move[graph.centers]
            energy.append(float(rotated(graph.with_vectors(vectors)).sum().detach()))
        assert float(forces[atom, axis]) == pytest.approx(
            -(energy[0] - energy[1]) / (2 * step), abs=1e-7
        )


def test_none_leaves_the_potential_alone(graph):
    model = pet()
    generator = torch.Generator()
    assert orient_randomly(model, graph, "none", generator, reflections=True) is model


def test_frames_make_any_model_invariant(graph):
    """In coordinate systems of the neighbours the results turn with the structures."""
    model, R = pet(), random_rotations(1, torch.Generator().manual_seed(4), reflections=False)[0]
    turned = graph.with_vectors(graph.vectors @ R.T)
    results = []
    for g in (graph, turned):
        framed = draw_frames(model, g, torch.Generator().manual_seed(5), reflections=True)
        energies, gradients, *_ = derivatives.evaluate(framed, g)
        results.append((energies, derivatives.forces_and_virials(gradients, g)[0]))
    (energies, forces), (again, turned_forces) = results
    torch.testing.assert_close(again, energies, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(turned_forces, forces @ R.T, rtol=1e-9, atol=1e-10)


def test_frames_are_orthogonal_and_handed_as_asked(graph):
    for reflections, hands in ((False, {1}), (True, {-1, 1})):
        generator = torch.Generator().manual_seed(6)
        framed = draw_frames(pet(), graph, generator, reflections=reflections)
        R = framed.frames(graph.vectors)
        eye = torch.eye(3, dtype=torch.float64).expand_as(R)
        torch.testing.assert_close(R @ R.transpose(1, 2), eye, rtol=0, atol=1e-12)
        assert set(torch.linalg.det(R).round().int().tolist()) == hands
        first, second = framed.first, framed.second
        assert torch.equal(graph.centers[first], torch.arange(graph.n_atoms))
        assert torch.equal(graph.centers[second], torch.arange(graph.n_atoms))
        u = torch.nn.functional.normalize(graph.vectors[first], dim=1)
        torch.testing.assert_close((R[:, 0] * u).sum(1).abs(), torch.ones(len(u)).double())


def test_forces_in_frames_are_derivatives_of_the_energy(graph):
    framed = draw_frames(pet(), graph, torch.Generator().manual_seed(7), reflections=True)
    forces, _ = derivatives.forces_and_virials(derivatives.evaluate(framed, graph)[1], graph)
    step, atom = 1e-5, 1
    for axis in range(3):
        energy = []
        for sign in (1, -1):
            move = torch.zeros(graph.n_atoms, 3, dtype=torch.float64)
            move[atom, axis] = sign * step
            vectors = graph.vectors + move[graph.others] - move[graph.centers]
            energy.append(float(framed(graph.with_vectors(vectors)).sum().detach()))
        assert float(forces[atom, axis]) == pytest.approx(
            -(energy[0] - energy[1]) / (2 * step), abs=1e-6
        )


def test_dimers_lines_and_lone_atoms_have_frames():
    symbols = [ase.Atoms("Cu"), ase.Atoms("Cu2", [(0, 0, 0), (0, 0, 2.4)])]
    symbols.append(ase.Atoms("Cu3", [(0, 0, 0), (0, 0, 2.4), (0, 0, -2.4)]))
    for atoms in symbols:
        system = system_from_atoms([atoms])
        graph = Graph.build(system, make_search("brute_force")(system, 4.0))
        framed = draw_frames(pet(), graph, torch.Generator().manual_seed(8), reflections=True)
        energies, gradients, *_ = derivatives.evaluate(framed, graph)
        assert bool(torch.isfinite(energies).all() & torch.isfinite(gradients).all())
        if len(atoms) > 1:
            assert bool((framed.second == -1).all())


def test_share_of_frames_is_respected(graph):
    generator = torch.Generator().manual_seed(9)
    kinds = [
        type(orient_randomly(pet(), graph, "atom", generator, reflections=True, frames=0.75))
        for _ in range(200)
    ]
    assert 0.6 < kinds.count(Framed) / 200 < 0.9
    assert set(kinds) == {Framed, Rotated}
