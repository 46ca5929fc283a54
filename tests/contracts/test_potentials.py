"""The conformance kit over small random networks: every option, depth, ensemble and weight."""

from __future__ import annotations

from typing import Any

import pytest
from ase import Atoms

from ase_pet.ecse import Symmetrized
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL
from ase_pet.testing import FLOAT32, check_potential
from ase_pet.testing.structures import structures
from ase_pet.testing.tolerances import FLOAT64
from tests.tiny import SPECIES, Pairwise, tiny_pet

EVERY = structures(SPECIES)
#: Enough for one option: periodic with self images, finite, linear, alone.
FEW = {name: EVERY[name] for name in ("wire", "bent", "line", "atom")}
#: For ensembles of whole structures, whose cost is quadratic.
SMALL = {name: EVERY[name] for name in ("one_atom_cell", "wire", "molecule", "line", "fragments")}

OPTIONS: list[dict[str, Any]] = [
    {"activation": "mish"},
    {"transformer": "PreLN"},
    {"compress": "linear"},
    {"central_token_first": False, "central_token_last": False},
    {"central_token_last": False, "average_pooling": True},
    {"blend_neighbor_species": True},
    {"coordinates": "vector"},
    {"coordinates": "length"},
    {"coordinate_activation": True},
    {"bond_energies": False},
    {"average_bond_energies": True},
    {"residual_factor": 1.0},
    {"n_attention_layers": 2},
    {"n_targets": 2, "target": 1},
    {"cutoff_width": 0.3},
]


def identify(option: dict[str, Any]) -> str:
    return "-".join(f"{name}={value}" for name, value in option.items())


@pytest.mark.parametrize("option", OPTIONS, ids=identify)
def test_every_option_of_the_network(option: dict[str, Any]) -> None:
    symmetry = "O(3)" if option.get("coordinates") == "length" else None
    pet = tiny_pet(2, **option)
    jumps = any(name.startswith("average") for name in option)  # as the last neighbour leaves
    check_potential(pet, symmetry=symmetry, structures=FEW, continuous=not jumps)
    symmetrized = Symmetrized(pet, ensemble="global")
    check_potential(symmetrized, symmetry="O(3)", structures=FEW, continuous=False)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_the_bare_network(n_layers: int) -> None:
    check_potential(tiny_pet(n_layers), symmetry=None, structures=EVERY)


@pytest.mark.parametrize("symmetry", ["O(3)", "SO(3)"])
@pytest.mark.parametrize(
    ("ensemble", "n_layers", "chosen"),
    [("local", 1, EVERY), ("local", 2, SMALL), ("global", 1, SMALL), ("global", 2, FEW)],
)
def test_smooth_weights(
    symmetry: str, ensemble: str, n_layers: int, chosen: dict[str, Atoms]
) -> None:
    if symmetry == "SO(3)":
        chosen = FEW
    symmetrized = Symmetrized(tiny_pet(n_layers, cutoff=2.2), symmetry=symmetry, ensemble=ensemble)
    # Of copies that are the same, a batch may evaluate another one, rotated with other rounding.
    tolerances = {**FLOAT64, "batch": 1e-11}
    found = check_potential(
        symmetrized, symmetry=symmetry, structures=chosen, tolerances=tolerances
    )
    assert found["rotation"] > 0


@pytest.mark.parametrize(
    ("weights", "n_layers", "symmetry", "chosen"),
    [
        ("lean", 1, "O(3)", EVERY),
        ("lean", 2, "O(3)", SMALL),
        ("lean", 2, "SO(3)", FEW),
        ("smooth", 1, "SO(3)", SMALL),
        ("smooth", 2, "O(3)", FEW),
    ],
)
def test_the_shared_ensemble(
    weights: str, n_layers: int, symmetry: str, chosen: dict[str, Atoms]
) -> None:
    pet = tiny_pet(n_layers, cutoff=2.2)
    symmetrized = Symmetrized(pet, symmetry=symmetry, ensemble="shared", weights=weights)
    # Of copies that are the same, a batch may evaluate another one, rotated with other rounding.
    tolerances = {**FLOAT64, "batch": 1e-11}
    found = check_potential(
        symmetrized, symmetry=symmetry, structures=chosen, tolerances=tolerances
    )
    assert found["rotation"] > 0


@pytest.mark.parametrize("ensemble", ["local", "global"])
def test_lean_weights(ensemble: str) -> None:
    symmetrized = Symmetrized(tiny_pet(cutoff=2.2), ensemble=ensemble, weights="lean")
    check_potential(symmetrized, symmetry="O(3)", structures=SMALL)


@pytest.mark.parametrize("symmetry", ["O(3)", "SO(3)"])
@pytest.mark.parametrize("ensemble", ["local", "global"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_paper_weights(symmetry: str, ensemble: str, n_layers: int) -> None:
    """All but continuity, which they do not promise."""
    pet = tiny_pet(n_layers, cutoff=2.2)
    symmetrized = Symmetrized(pet, symmetry=symmetry, ensemble=ensemble, weights="paper")
    check_potential(symmetrized, symmetry=symmetry, structures=FEW, continuous=False)


def test_paper_weights_jump_at_the_cutoff() -> None:
    symmetrized = Symmetrized(tiny_pet(cutoff=2.2), weights="paper")
    with pytest.raises(AssertionError, match=r"_jump .*deviation"):
        check_potential(symmetrized, symmetry="O(3)", structures={"atom": EVERY["atom"]})


def test_the_sum_with_baselines() -> None:
    composition = Composition({1: -13.5, 6: -1030.25, 8: -2041.125})
    total = Total(Symmetrized(tiny_pet(cutoff=2.2)), composition, ZBL(0.5, 1.2))
    check_potential(total, symmetry="O(3)", structures=SMALL)


def test_single_precision() -> None:
    for potential in (tiny_pet(2).float(), Symmetrized(tiny_pet(cutoff=2.2).float())):
        symmetry = "O(3)" if isinstance(potential, Symmetrized) else None
        check_potential(potential, symmetry=symmetry, structures=FEW, tolerances=FLOAT32)


def test_a_pair_potential() -> None:
    check_potential(Pairwise(), symmetry="O(3)")
