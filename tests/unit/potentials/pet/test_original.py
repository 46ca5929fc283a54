from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_pet.data import Graph
from ase_pet.derivatives import evaluate
from ase_pet.errors import UnknownSpeciesError
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.testing.evaluators import graph_of
from tests.tiny import SPECIES, tiny_pet

OPTIONS = [
    {"activation": "mish"},
    {"transformer": "PreLN"},
    {"compress": "linear"},
    {"central_token_first": False},
    {"central_token_last": False},
    {"central_token_last": False, "average_pooling": True},
    {"blend_neighbor_species": True},
    {"coordinates": "vector"},
    {"coordinates": "length"},
    {"coordinate_activation": True},
    {"bond_energies": False},
    {"average_bond_energies": True},
    {"residual_factor": 1.0},
    {"n_attention_layers": 2},
    {"n_heads": 4},
    {"cutoff_width": 0.3},
]


@pytest.fixture(scope="module")
def methanol() -> Graph:
    return graph_of([molecule("CH3OH")], 2.6)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: "-".join(map(str, option.values())))
def test_every_option_changes_the_energy(option: dict, methanol: Graph) -> None:
    # Pooling is for models without a central token: compare two of these.
    base = {"central_token_last": False} if "average_pooling" in option else {}
    plain, changed = tiny_pet(2, **base), tiny_pet(2, **{**base, **option})
    shared = {k: v for k, v in plain.state_dict().items() if k in changed.state_dict()}
    fitting = {k: v for k, v in shared.items() if v.shape == changed.state_dict()[k].shape}
    changed.load_state_dict(fitting, strict=False)
    difference = (plain(methanol) - changed(methanol)).abs().max()
    assert float(difference) > 1e-5


def test_targets_have_heads_of_their_own(methanol: Graph) -> None:
    first = tiny_pet(n_targets=3)
    energies = []
    for target in range(3):
        pet = PET(replace(first.hypers, target=target), SPECIES).double()
        pet.load_state_dict(first.state_dict())
        energies.append(pet(methanol).detach())
    torch.testing.assert_close(energies[0], first(methanol), rtol=1e-13, atol=1e-13)
    assert float((energies[0] - energies[1]).abs().min()) > 1e-4
    assert float((energies[1] - energies[2]).abs().min()) > 1e-4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cutoff_width": 0.0}, "cutoff_width: expected more than 0 and at most cutoff=5.0"),
        ({"cutoff": 2.0, "cutoff_width": 2.1}, "cutoff_width: expected .* got 2.1"),
        ({"d_model": 10, "n_heads": 4}, "n_heads: expected a divisor of d_model=10, got 4"),
        ({"n_message_layers": 0}, "n_message_layers: expected at least 1, got 0"),
        ({"n_attention_layers": -1}, "n_attention_layers: expected at least 1"),
        ({"head_width": 0}, "head_width: expected at least 1"),
        ({"target": 1}, r"target: expected 0 to 0 \(n_targets=1\), got 1"),
        ({"activation": "relu"}, "activation: expected one of .*silu.*mish.*'relu'"),
        ({"transformer": "preln"}, "transformer: expected one of"),
        ({"compress": "none"}, "compress: expected one of"),
        ({"coordinates": "angles"}, "coordinates: expected one of"),
    ],
)
def test_bad_hyperparameters_are_named(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PETHypers(**values)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_the_receptive_field_is_its_number_of_layers(n_layers: int) -> None:
    chain = Atoms("COCOCO", [[1.5 * k, 0.1 * k**2, 0.0] for k in range(6)])
    pet = tiny_pet(n_layers, cutoff=2.0)

    def energies(atoms: Atoms) -> torch.Tensor:
        return pet(graph_of([atoms], 2.0))

    for k in range(6):
        moved = chain.copy()
        moved.positions[k, 2] += 0.1
        changed = (energies(moved) - energies(chain)).abs() > 1e-9
        assert changed.tolist() == [abs(k - i) <= n_layers for i in range(6)]


def test_the_order_of_neighbours_does_not_matter(methanol: Graph) -> None:
    pet = tiny_pet(2)
    order = np.random.default_rng(0).permutation(methanol.n_edges)
    order = torch.tensor(order[np.argsort(methanol.centers.numpy()[order], kind="stable")])
    place = torch.argsort(order)
    shuffled = replace(
        methanol,
        centers=methanol.centers[order],
        others=methanol.others[order],
        reverse=place[methanol.reverse[order]],
        vectors=methanol.vectors[order],
    )
    assert not torch.equal(shuffled.others, methanol.others)
    torch.testing.assert_close(pet(shuffled), pet(methanol), rtol=1e-13, atol=1e-13)


def test_messages_come_back_along_the_reverse_edge() -> None:
    atoms = Atoms("CO", [[0.0, 0.0, 0.0], [0.4, 0.9, 0.2]], cell=[2.1, 2.2, 2.3], pbc=True)
    graph = graph_of([atoms], 2.6)
    pet = tiny_pet(2)
    here = torch.arange(graph.n_edges)
    assert bool((graph.centers == graph.others).any())
    wrong = replace(graph, reverse=here)
    assert float((pet(wrong) - pet(graph)).abs().max()) > 1e-4
    one_layer = tiny_pet(1)
    torch.testing.assert_close(one_layer(wrong), one_layer(graph), rtol=0, atol=0)


@pytest.mark.parametrize("central", [True, False])
@pytest.mark.parametrize("average", [True, False])
def test_an_atom_without_neighbours_has_a_finite_energy(central: bool, average: bool) -> None:
    pet = tiny_pet(
        2,
        central_token_first=central,
        central_token_last=central,
        average_pooling=average,
        average_bond_energies=average,
    )
    alone = Atoms("H")
    near_and_far = Atoms("CHO", [[0, 0, 0], [1.1, 0, 0], [50.0, 0, 0]])
    energies, gradients, *_ = evaluate(pet, graph_of([alone, near_and_far], 2.6))
    assert bool(torch.isfinite(energies).all())
    assert bool(torch.isfinite(gradients).all())
    single, none, *_ = evaluate(pet, graph_of([Atoms("O")], 2.6))
    assert none.shape == (0, 3)
    assert float(single[0]) == pytest.approx(float(energies[3]), rel=1e-14)


def test_nothing_to_evaluate_gives_nothing() -> None:
    graph = graph_of([molecule("CH4")], 2.6)
    none = torch.zeros(0, dtype=torch.int64)
    empty = Graph(none, none, 1, none, none, none, graph.vectors[:0])
    assert tiny_pet(2)(empty).shape == (0,)


def test_an_unknown_element_is_named() -> None:
    with pytest.raises(UnknownSpeciesError, match=r"does not know N; .* H, C, O"):
        tiny_pet()(graph_of([molecule("NH3")], 2.6))


def test_species_are_sorted_and_distinct() -> None:
    assert PET(PETHypers(d_model=4, n_heads=1), [8, 1]).species == (1, 8)
    with pytest.raises(ValueError, match="species: expected distinct"):
        PET(PETHypers(d_model=4, n_heads=1), [1, 1])


def test_it_computes_in_the_dtype_of_its_weights(methanol: Graph) -> None:
    double, single = tiny_pet(2), tiny_pet(2).float()
    assert (double.dtype, single.dtype) == (torch.float64, torch.float32)
    assert single(methanol).dtype == torch.float32
    torch.testing.assert_close(single(methanol).double(), double(methanol), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_memory_grows_with_all_that_takes_memory(n_layers: int) -> None:
    pet, wide = tiny_pet(n_layers), tiny_pet(n_layers, d_model=16)
    assert pet.memory(20, 30) == 2 * pet.memory(10, 30)
    assert pet.memory(10, 60) > 2 * pet.memory(10, 30) > 0
    assert wide.memory(10, 30) > pet.memory(10, 30)
    assert tiny_pet(n_layers).float().memory(10, 30) == pet.memory(10, 30) // 2


def test_memory_is_what_autograd_keeps() -> None:
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    atoms = bulk("C", "fcc", a=2.6, cubic=True)
    graph = graph_of([atoms], 2.6)
    pet = tiny_pet(2, d_model=32, d_feedforward=64, n_attention_layers=2)
    vectors = graph.vectors.clone().requires_grad_(True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        pet.requires_grad_(True)(graph.with_vectors(vectors))
    estimate = pet.memory(graph.n_atoms, graph.n_edges // graph.n_atoms)
    assert 0.3 * kept < estimate < 3.0 * kept
