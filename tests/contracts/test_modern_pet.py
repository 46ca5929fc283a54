"""The conformance kit over small random networks of metatrain's kind: every option."""

from __future__ import annotations

from typing import Any

import pytest
from ase import Atoms

from ase_pet.ecse import Symmetrized
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl_covalent import CovalentZBL
from ase_pet.testing import FLOAT32, check_potential
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_modern_pet

EVERY = structures(SPECIES)
#: Enough for one option: periodic with self images, finite, linear, alone.
FEW = {name: EVERY[name] for name in ("wire", "bent", "line", "atom")}
#: What the ego graphs of deep models can be tested on.
SMALL = {name: EVERY[name] for name in ("bent", "line", "fragments")}

OPTIONS: list[dict[str, Any]] = [
    {},
    {"cutoff_function": "Cosine"},
    {"n_neighbors": 2.5},
    {"n_neighbors": 2.5, "adaptive_method": "grid"},
    {"n_neighbors": 2.5, "messages": "residual", "cutoff_function": "Cosine"},
    {"transformer": "PostLN"},
    {"transformer": "PostLN", "d_node": 8},
    {"d_node": 8},
    {"normalization": "LayerNorm"},
    {"activation": "SiLU"},
    {"messages": "residual"},
    {"temperature": 2.0},
    {"conditioning": True},
    {"n_attention_layers": 2},
    {"energy_scale": 0.3},
]


def identify(option: dict[str, Any]) -> str:
    return "-".join(f"{name}={value}" for name, value in option.items()) or "defaults"


@pytest.mark.parametrize("option", OPTIONS, ids=identify)
def test_every_option_of_the_network(option: dict[str, Any]) -> None:
    network = tiny_modern_pet(2, **option)
    check_potential(network, symmetry=None, structures=FEW)
    symmetrized = Symmetrized(network, ensemble="global")
    check_potential(symmetrized, symmetry="O(3)", structures=FEW, continuous=False)


@pytest.mark.parametrize(
    "option", [{}, {"messages": "residual"}, {"n_neighbors": 2.5}], ids=identify
)
def test_ego_graphs(option: dict[str, Any]) -> None:
    symmetrized = Symmetrized(tiny_modern_pet(1, cutoff=2.2, **option), ensemble="local")
    check_potential(symmetrized, symmetry="O(3)", structures=SMALL, continuous=False)


@pytest.mark.parametrize("option", [{}, {"n_neighbors": 2.5}], ids=identify)
def test_shared_copies(option: dict[str, Any]) -> None:
    symmetrized = Symmetrized(tiny_modern_pet(1, cutoff=2.2, **option), ensemble="shared")
    check_potential(symmetrized, symmetry="O(3)", structures=SMALL, continuous=False)


def test_adaptive_cutoffs_are_smooth_in_ego_graphs() -> None:
    network = tiny_modern_pet(1, cutoff=2.2, n_neighbors=2.5, messages="residual")
    symmetrized = Symmetrized(network, ensemble="local")
    check_potential(symmetrized, symmetry="O(3)", structures={"bent": EVERY["bent"]})


def test_every_structure() -> None:
    check_potential(tiny_modern_pet(1, n_neighbors=4.0), symmetry=None, structures=EVERY)


def test_single_precision() -> None:
    network = tiny_modern_pet(2, n_neighbors=2.5).float()
    check_potential(network, symmetry=None, structures=FEW, tolerances=FLOAT32)


def test_with_repulsion() -> None:
    total = Total(tiny_modern_pet(1), None, CovalentZBL({1: 0.31, 6: 0.76, 8: 1.6}))
    few: dict[str, Atoms] = {name: FEW[name] for name in ("bent", "line")}
    check_potential(total, symmetry=None, structures=few)
    assert total.cutoff == 3.2
