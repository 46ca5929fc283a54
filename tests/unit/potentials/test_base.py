from __future__ import annotations

import pytest
import torch

from ase_pet.ecse import Symmetrized
from ase_pet.potentials.base import Backbone, Potential, check_state, takes_charge, takes_spin
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL
from tests.tiny import Pairwise, tiny_modern_pet, tiny_pet


def test_every_term_is_a_potential() -> None:
    for potential in (tiny_pet(), Composition({1: 0.0}), ZBL(), Total(tiny_pet()), Pairwise()):
        assert isinstance(potential, Potential)


def test_backbones_know_their_species_and_memory() -> None:
    assert isinstance(tiny_pet(), Backbone)
    assert isinstance(tiny_modern_pet(), Backbone)
    assert isinstance(Symmetrized(tiny_pet()), Backbone)
    assert isinstance(Pairwise(), Backbone)
    assert not isinstance(ZBL(), Backbone)
    assert not isinstance(torch.nn.Linear(1, 1), Potential)


def test_backbones_say_whether_charge_and_spin_matter() -> None:
    for backbone in (tiny_pet(), Pairwise(), tiny_modern_pet()):
        assert not takes_charge(backbone)
        assert not takes_spin(backbone)
    conditioned = tiny_modern_pet(conditioning=True)
    assert takes_charge(conditioned)
    assert takes_spin(conditioned)


@pytest.mark.parametrize(
    ("charge", "spin", "message"),
    [
        (float("nan"), 1.0, "charge: expected a finite number, got nan"),
        (0.0, 0.0, "spin: expected a multiplicity 2S \\+ 1 of 1 or more, got 0.0"),
        (1.0, 1.0, "charge: the model was trained without a total charge, got charge=1"),
        (0.0, 2.0, "spin: the model was trained without a spin multiplicity, got spin=2"),
    ],
)
def test_a_state_that_means_nothing_is_refused(charge: float, spin: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_state(tiny_pet(), charge, spin)
    if "trained without" in message:
        check_state(tiny_modern_pet(conditioning=True), charge, spin)
