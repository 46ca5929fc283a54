"""Projections are averaged as energies are."""

from __future__ import annotations

import pytest
import torch

from ase_pet.derivatives import evaluate
from ase_pet.ecse import Symmetrized
from ase_pet.ecse.projected import Projected, project
from ase_pet.potentials.tensors import predict
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_modern_pet, tiny_tensornet

GRAPH = graph_of([structures(SPECIES)[name] for name in ("molecule", "triclinic")], 2.6)


def last_weights(net) -> torch.Tensor:
    """Those that the features meet to become the energy, one row."""
    rows = [(read.nodes[-1].weight, read.edges[-1].weight) for read in net.energies]
    return torch.cat([weight for pair in rows for weight in pair], 1)


@pytest.mark.parametrize("symmetrized", ["bare", "local", "global"])
@pytest.mark.parametrize("messages", ["residual", "feedforward"])
def test_last_weights_project_to_the_energy(symmetrized: str, messages: str) -> None:
    """But for a constant, which has no gradient; a small budget makes several chunks."""
    net = tiny_modern_pet(2, messages=messages)
    for read in net.energies:
        read.nodes[-1].bias.zero_()
    no_edges = sum(float(read.edges[-1].bias) for read in net.energies)
    potential = net
    if symmetrized != "bare":
        potential = Symmetrized(net, ensemble=symmetrized, memory_budget=3_000_000)
    w = last_weights(net)
    weights = torch.cat([w, 2.0 * w, torch.zeros_like(w)])
    for read in net.energies:
        read.edges[-1].bias.zero_()
    assert no_edges != 0.0
    expected, found = evaluate(potential, GRAPH), evaluate(project(potential, weights), GRAPH)
    for ours, theirs in (
        (found.energies, expected.energies),
        (found.gradients, expected.gradients),
    ):
        assert ours.shape == (*theirs.shape, 3)
        scale = theirs.abs().max()
        for column, factor in zip(ours.unbind(-1), (1.0, 2.0, 0.0), strict=True):
            torch.testing.assert_close(column, factor * theirs, rtol=0, atol=1e-12 * scale)
    with torch.no_grad():
        values, tensors = predict(project(potential, weights), GRAPH)
    torch.testing.assert_close(values, found.energies, rtol=0, atol=1e-13)
    assert tensors == {}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="TensorNet gives no features"):
        Projected(tiny_tensornet(), torch.ones(1, 16))
    with pytest.raises(ValueError, match=r"projections: expected \[n, 16\], got \[2, 5\]"):
        Projected(tiny_modern_pet(), torch.ones(2, 5))
