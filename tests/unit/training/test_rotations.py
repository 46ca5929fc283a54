import pytest
import torch

from ase_pet import derivatives
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.training.dataset import collate, make_samples
from ase_pet.training.rotations import Rotated, random_rotations, rotate_randomly


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
    rotated = rotate_randomly(
        invariant, graph, "atom", torch.Generator().manual_seed(1), reflections=True
    )
    torch.testing.assert_close(rotated(graph), invariant(graph), rtol=1e-12, atol=1e-12)
    plain, turned = (derivatives.evaluate(p, graph) for p in (invariant, rotated))
    for first, second in zip(plain, turned, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-12)


def test_bare_model_does_notice(graph):
    rotated = rotate_randomly(
        pet(), graph, "atom", torch.Generator().manual_seed(1), reflections=False
    )
    assert float((rotated(graph) - pet()(graph)).abs().max().detach()) > 1e-4


def test_structure_rotation_equals_rotating_the_structures(graph):
    R = random_rotations(graph.n_systems, torch.Generator().manual_seed(2), reflections=True)
    model = pet()
    edges = R[graph.system_index[graph.centers]]
    turned = graph.with_vectors(torch.einsum("exy,ey->ex", edges, graph.vectors))
    energies, gradients = derivatives.evaluate(model, turned)
    forces, _ = derivatives.forces_and_virials(gradients, turned)
    expected = torch.einsum("axy,ax->ay", R[graph.system_index], forces)

    rotated = rotate_randomly(
        model, graph, "structure", torch.Generator().manual_seed(2), reflections=True
    )
    again, gradients = derivatives.evaluate(rotated, graph)
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
    assert rotate_randomly(model, graph, "none", generator, reflections=True) is model
