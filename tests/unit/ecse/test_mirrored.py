from __future__ import annotations

import pytest
import torch

from ase_pet import derivatives
from ase_pet.ecse import Mirrored
from ase_pet.potentials.base import Backbone
from ase_pet.testing import check_potential
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_pet, tiny_tensornet

EVERY = structures(SPECIES)


def test_the_mean_of_both_hands() -> None:
    net = tiny_tensornet(2, group="SO(3)")
    graph = graph_of([EVERY["molecule"]], 2.6)
    mirrored = Mirrored(net)
    left, right = net(graph), net(graph.with_vectors(-graph.vectors))
    assert float((left - right).abs().max()) > 1e-4
    torch.testing.assert_close(mirrored(graph), 0.5 * (left + right), rtol=0, atol=0)
    ours, g, *_ = derivatives.evaluate(mirrored, graph)
    other, h, *_ = derivatives.evaluate(mirrored, graph.with_vectors(-graph.vectors))
    torch.testing.assert_close(ours, other, rtol=0, atol=1e-14)
    torch.testing.assert_close(g, -h, rtol=0, atol=1e-14)


def test_it_keeps_every_contract() -> None:
    mirrored = Mirrored(tiny_tensornet(1, group="SO(3)"))
    assert isinstance(mirrored, Backbone)
    few = {name: EVERY[name] for name in ("wire", "molecule", "line")}
    check_potential(mirrored, symmetry="O(3)", structures=few)
    assert mirrored.memory(4, 5) == 2 * mirrored.backbone.memory(4, 5)


def test_it_needs_rotations_to_be_there() -> None:
    with pytest.raises(ValueError, match="backbone: expected one that is invariant"):
        Mirrored(tiny_pet())
