from __future__ import annotations

import pytest
import torch

from ase_pet.data import Graph
from ase_pet.derivatives import Evaluated, evaluate, forces_and_virials, gradients, results
from ase_pet.ecse import Symmetrized
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.neighbors import make_search
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from ase_pet.testing.suite import strain_oracle
from tests.tiny import SPECIES, TENSORS, Pairwise, tiny_pet, tiny_tensornet

STRUCTURES = structures(SPECIES)
COMPOSITION = Composition({1: -13.5, 6: -1030.25, 8: -2041.125})


@pytest.mark.parametrize("name", ["triclinic", "molecule", "wire", "one_atom_cell"])
def test_one_leaf_gives_what_positions_and_strain_give(name: str) -> None:
    system = system_from_atoms([STRUCTURES[name]])
    edges = make_search()(system, 2.6)
    graph = Graph.build(system, edges)
    pet = tiny_pet(2)
    found = results(evaluate(pet, graph), graph)
    forces, virial = strain_oracle(pet, system, edges)
    torch.testing.assert_close(found.forces, forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.virial[0], virial, rtol=0, atol=1e-12)


def test_a_pair_by_hand() -> None:
    graph = graph_of([STRUCTURES["dimer"]], 2.6)
    g = torch.tensor([[0.5, 0.0, -1.0], [2.0, 1.0, 0.0]], dtype=torch.float64)
    forces, virials = forces_and_virials(g, graph)
    assert forces.tolist() == [[-1.5, -1.0, -1.0], [1.5, 1.0, 1.0]]
    for k in (0, 1):
        outer = torch.outer(graph.vectors[k], g[k])
        torch.testing.assert_close(virials[k], 0.5 * (outer + outer.T), rtol=1e-14, atol=0)


def test_results_are_sorted_into_structures() -> None:
    names = ["molecule", "atom", "triclinic"]
    graph = graph_of([STRUCTURES[name] for name in names], 2.6)
    total = Total(tiny_pet(), COMPOSITION, ZBL())
    batch = results(evaluate(total, graph), graph)
    torch.testing.assert_close(batch.energy.sum(), batch.energies.sum())
    torch.testing.assert_close(batch.virial.sum(0), batch.virials.sum(0))
    for k, name in enumerate(names):
        single_graph = graph_of([STRUCTURES[name]], 2.6)
        single = results(evaluate(total, single_graph), single_graph)
        torch.testing.assert_close(batch.energy[k], single.energy[0], rtol=1e-13, atol=0)
        torch.testing.assert_close(batch.virial[k], single.virial[0], rtol=1e-12, atol=1e-12)
        mine = graph.system_index == k
        torch.testing.assert_close(batch.forces[mine], single.forces, rtol=1e-12, atol=1e-12)


def test_what_does_not_depend_on_the_vectors_has_no_gradient() -> None:
    graph = graph_of([STRUCTURES["molecule"]], 2.6)
    energies, g, *_ = evaluate(COMPOSITION, graph)
    assert float(energies.sum()) < -1000
    assert float(g.abs().max()) == 0.0
    leaf = graph.vectors.clone().requires_grad_(True)
    unrelated = torch.ones(3, requires_grad=True).double() * 2.0
    assert torch.equal(gradients(unrelated, [leaf])[0], torch.zeros_like(leaf))


def everything(found: Evaluated) -> list[torch.Tensor]:
    return [found.energies, found.gradients, *found.tensors.values()]


@pytest.mark.parametrize(
    "potential",
    [
        tiny_pet(2, **TENSORS),
        Symmetrized(tiny_pet(**TENSORS)),
        tiny_tensornet(**TENSORS),
        Pairwise(),
    ],
)
def test_results_hold_no_autograd_graph_and_leave_none_behind(potential) -> None:
    graph = graph_of([STRUCTURES["molecule"]], 2.6)
    with torch.no_grad():
        inside = evaluate(potential, graph)
    outside = evaluate(potential, graph)
    for a, b in zip(everything(inside), everything(outside), strict=True):
        assert not a.requires_grad
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14)
    assert not graph.vectors.requires_grad
    assert float(outside[1].abs().max()) > 1e-3


@pytest.mark.parametrize("potential", [tiny_pet(), Symmetrized(tiny_pet())])
def test_no_forces_rather_than_wrong_ones_where_nothing_is_differentiated(potential) -> None:
    graph = graph_of([STRUCTURES["molecule"]], 2.6)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="leave torch"):
        evaluate(potential, graph)


def test_the_last_of_several_energies_frees_what_autograd_kept() -> None:
    x = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    energies = x.exp()
    (found,) = gradients(energies, [x])
    expected = torch.eye(2, dtype=torch.float64).expand(4, 2, 2) * energies.detach()[:, :, None]
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0.0)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(energies.sum(), x)


@pytest.mark.parametrize("symmetrized", [False, True])
def test_training_can_differentiate_forces_and_virials(symmetrized: bool) -> None:
    pet: PET = tiny_pet().requires_grad_(True)
    potential = Symmetrized(pet, memory_budget=2000) if symmetrized else pet
    graph = graph_of([STRUCTURES["bent"]], 2.6)

    def loss() -> torch.Tensor:
        energies, g, *_ = evaluate(potential, graph, create_graph=True)
        forces, virials = forces_and_virials(g, graph)
        return energies.sum() ** 2 + forces.square().sum() + virials.sum(0).square().sum()

    parameter = pet.layers[0].coordinates.weight
    (slope,) = torch.autograd.grad(loss(), parameter)
    step = torch.zeros_like(parameter)
    step[1, 2], step[3, 0] = 1e-5, -1e-5
    with torch.no_grad():
        parameter.add_(step)
        after = loss()
        parameter.sub_(2 * step)
        before = loss()
    expected = float((slope * step).sum()) * 2.0
    assert float(after - before) == pytest.approx(expected, rel=1e-5, abs=1e-13)
    assert abs(expected) > 1e-8


@pytest.mark.parametrize("ensemble", ["local", "global"])
def test_chunks_give_what_one_piece_gives(ensemble: str) -> None:
    graph = graph_of([STRUCTURES[name] for name in ("wire", "line", "atom")], 2.6)
    symmetrized = Symmetrized(tiny_pet(2, **TENSORS), ensemble=ensemble, memory_budget=1)
    chunked = evaluate(symmetrized, graph)
    whole = evaluate(symmetrized, graph, create_graph=True)
    torch.testing.assert_close(chunked[0], whole[0].detach(), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(chunked[1], whole[1].detach(), rtol=1e-11, atol=1e-11)
    assert chunked.tensors.keys() == TENSORS.keys()
    for name, value in chunked.tensors.items():
        assert float(value.abs().max()) > 1e-2
        torch.testing.assert_close(value, whole.tensors[name].detach(), rtol=1e-12, atol=1e-13)


def test_a_network_in_single_precision_gets_geometry_in_double() -> None:
    graph = graph_of([STRUCTURES["triclinic"]], 2.6)
    for make in (lambda pet: pet, Symmetrized, Total):
        energies, g, *_ = evaluate(make(tiny_pet().float()), graph)
        exact_energies, exact, *_ = evaluate(make(tiny_pet()), graph)
        assert energies.dtype == g.dtype == torch.float64
        torch.testing.assert_close(energies, exact_energies, rtol=0, atol=1e-5)
        torch.testing.assert_close(g, exact, rtol=0, atol=1e-4)
