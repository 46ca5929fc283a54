from __future__ import annotations

import copy

import torch

from ase_pet.potentials.constants import Constant


def test_digits_survive_a_stay_in_single_precision() -> None:
    constant = Constant([1.0 / 3.0, 2.0])
    twice = copy.deepcopy(torch.nn.Sequential(constant)).float().double()[0]
    assert torch.equal(twice(torch.float64), torch.tensor([1.0 / 3.0, 2.0], dtype=torch.float64))
    assert twice(torch.float32).dtype == torch.float32
    assert not constant.state_dict()


def test_it_follows_its_network_to_a_device() -> None:
    assert Constant(1.0).to("meta").values.device.type == "meta"
