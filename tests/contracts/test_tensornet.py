"""The conformance kit over small random TensorNets, every option that changes a sum."""

from __future__ import annotations

from typing import Any

import pytest

from ase_pet import PETCalculator
from ase_pet.formats import Model
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL
from ase_pet.testing import FLOAT32, check_potential, contracts
from ase_pet.testing.evaluators import calculator_evaluator
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_tensornet

EVERY = structures(SPECIES)
FEW = {name: EVERY[name] for name in ("wire", "bent", "line", "atom", "molecule")}
FINITE = {name: atoms for name, atoms in EVERY.items() if not atoms.pbc.any()}

OPTIONS: list[dict[str, Any]] = [
    {"n_layers": 0},
    {"group": "SO(3)"},
    {"self_loops": True},
    {"messages": "center"},
    {"readout": "gated"},
    {"rbf": "bessel"},
    {"rbf": "smooth_bessel"},
    {"rbf": "gaussian"},
    {"inner_cutoff": 0.6},
    {"n_charges": 2},
    {"energy_shift": -1.5, "energy_scale": 2.0},
]


def test_the_default_network_on_every_structure() -> None:
    check_potential(tiny_tensornet(2), symmetry="O(3)", structures=EVERY)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option(option: dict[str, Any]) -> None:
    net = tiny_tensornet(**{"n_layers": 1, **option})
    few = FEW
    if "energy_shift" in option or "n_charges" in option:
        # Once a structure, or shared by all its atoms: a repeated cell is another structure.
        few = {name: atoms for name, atoms in FEW.items() if not atoms.pbc.any()}
    # Others share their smoothness with the default network, which the test above has checked.
    continuous = bool({"inner_cutoff", "messages", "self_loops"} & option.keys())
    check_potential(net, symmetry=net.symmetry, structures=few, continuous=continuous)


def test_the_sum_with_baselines() -> None:
    total = Total(tiny_tensornet(1), Composition({1: -13.5, 6: -1030.25, 8: -2041.125}), ZBL())
    check_potential(total, symmetry="O(3)", structures=FEW, continuous=False)


def test_single_precision() -> None:
    net = tiny_tensornet(2).float()
    check_potential(net, symmetry="O(3)", structures=FEW, tolerances=FLOAT32, continuous=False)


def test_charges_between_all_atoms() -> None:
    """Such a model has no cutoff, so that only a calculator can be asked."""
    net = tiny_tensornet(1, n_charges=2, coulomb=True)
    calculator = PETCalculator(Model(Total(net), "float64"), device="cpu")
    ask = calculator_evaluator(calculator)
    contracts.check_batch(ask, list(FINITE.values()))
    for atoms in FINITE.values():
        contracts.check_permutation(ask, atoms)
        contracts.check_translation(ask, atoms)
        contracts.check_rotation(ask, atoms)
        contracts.check_net_force(ask, atoms)
        contracts.check_net_torque(ask, atoms)
        contracts.check_forces(ask, atoms)
