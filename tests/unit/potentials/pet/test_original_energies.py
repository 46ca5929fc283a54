"""Derivatives written by hand against those of autograd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_pet.data import Graph
from ase_pet.derivatives import evaluate, gradients
from ase_pet.potentials.pet import parts
from ase_pet.testing.evaluators import graph_of
from tests.tiny import TENSORS, tiny_pet
from tests.unit.potentials.pet.test_modern_energies import assert_same, both
from tests.unit.potentials.pet.test_original import OPTIONS

COMBINED = [
    {},
    {"central_token_first": False, "central_token_last": False},
    {"blend_neighbor_species": True, "compress": "linear", "coordinate_activation": True},
    {"transformer": "PreLN", "activation": "mish", "n_attention_layers": 2},
    {"n_targets": 3, "target": 1},
]


@pytest.fixture(scope="module")
def structures() -> Graph:
    """A molecule, a crystal with edges to images of the same atom, and an atom alone."""
    crystal = bulk("C", "fcc", a=2.6)
    crystal.rattle(0.05, seed=2)
    return graph_of([molecule("CH3OH"), crystal, Atoms("O")], 2.6)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize(
    "option", [*COMBINED, *OPTIONS], ids=lambda option: "-".join(map(str, option.values()))
)
def test_all_options_agree_with_autograd(option: dict, n_layers: int, structures: Graph) -> None:
    assert_same(tiny_pet(n_layers, cutoff=2.6, **option), structures)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_parts_are_as_the_whole(
    n_layers: int, structures: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_pet(n_layers)
    whole = both(model, structures)[1]
    monkeypatch.setattr(parts, "ROWS", 1)  # an atom at a time
    assert_same(model, structures)
    torch.testing.assert_close(both(model, structures)[1][0], whole[0], rtol=0.0, atol=1e-13)


def test_energies_have_weights_of_their_own(structures: Graph) -> None:
    """The gradient of any sum of energies, not only of the total."""
    model, found = tiny_pet(2), []
    weights = torch.linspace(-1.0, 2.0, structures.n_atoms, dtype=torch.float64)
    for trained in (True, False):
        model.requires_grad_(trained)
        vectors = structures.vectors.detach().requires_grad_(True)
        energies = model(structures.with_vectors(vectors))
        found.append(torch.autograd.grad(energies, vectors, weights)[0])
    torch.testing.assert_close(found[1], found[0], rtol=0.0, atol=1e-13)


def test_energies_are_the_same_beside_tensors(structures: Graph) -> None:
    """A model with heads for tensors takes autograd if these are asked for."""
    model = tiny_pet(2, **TENSORS)
    energies, tensors = model.predict(structures)
    torch.testing.assert_close(model(structures), energies, rtol=0.0, atol=1e-13)
    assert set(tensors) == set(TENSORS)


def test_edges_at_the_cutoff_have_finite_gradients(structures: Graph) -> None:
    """There the cutoff factor is 0, and its logarithm is not."""
    for options in ({}, {"central_token_last": False, "average_pooling": True}):
        model = tiny_pet(1, **options).float()
        lengths = torch.linalg.vector_norm(structures.vectors, dim=1, keepdim=True)
        far = replace(structures, vectors=structures.vectors * (2.6 / lengths))
        energies, slopes, *_ = evaluate(model, far)
        assert bool(torch.isfinite(energies).all())
        assert bool(torch.isfinite(slopes).all())


def test_higher_derivatives_and_second_gradients_are_refused(structures: Graph) -> None:
    vectors = structures.vectors.detach().requires_grad_(True)
    energies = tiny_pet(2)(structures.with_vectors(vectors))
    with pytest.raises(RuntimeError, match="first derivatives only"):
        gradients(energies, [vectors], create_graph=True)
    energy = tiny_pet(2)(structures.with_vectors(vectors)).sum()
    torch.autograd.grad(energy, vectors, retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated before"):
        torch.autograd.grad(energy, vectors)
