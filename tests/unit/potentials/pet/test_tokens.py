from __future__ import annotations

import torch
from ase.build import molecule

from ase_pet.potentials.pet.tokens import Rows, attend, keep_edges
from ase_pet.testing.evaluators import graph_of

GRAPH = graph_of([molecule("CH3OH"), molecule("H2O")], 1.8)


def test_what_is_padded_comes_back() -> None:
    rows = Rows.build(GRAPH, torch.rand(GRAPH.n_edges))
    values = torch.randn(GRAPH.n_edges, 3)
    padded = rows.pad(values)
    counts = torch.bincount(GRAPH.centers, minlength=GRAPH.n_atoms)
    assert padded.shape == (GRAPH.n_atoms, int(counts.max()), 3)
    assert torch.equal(rows.unpad(padded), values)
    assert torch.equal((rows.factors > 0).sum(1), counts)


def test_a_token_without_weight_is_not_seen() -> None:
    torch.manual_seed(0)
    qkv, factors = torch.randn(1, 3, 12), torch.tensor([[0.5, 0.0]])
    rows = Rows(torch.arange(2), 2, factors)
    seen = attend(qkv, rows.bias(central=True), n_heads=2)
    shorter = Rows(torch.arange(1), 1, factors[:, :1])
    expected = attend(qkv[:, :2], shorter.bias(central=True), n_heads=2)
    torch.testing.assert_close(seen[:, :2], expected)


def test_attention_is_scaled_by_factors_and_temperature() -> None:
    torch.manual_seed(0)
    qkv, factors = torch.randn(1, 2, 6).double(), torch.tensor([[0.3, 0.8]]).double()
    rows = Rows(torch.arange(2), 2, factors)
    found = attend(qkv, rows.bias(central=False), n_heads=1, temperature=1.5)
    q, k, v = qkv[0].chunk(3, 1)
    weights = factors * torch.exp(q @ k.T / (1.5 * 2**0.5))
    expected = (weights / weights.sum(1, keepdim=True)) @ v
    torch.testing.assert_close(found[0], expected, rtol=1e-13, atol=1e-13)


def test_edges_that_are_kept_find_their_reverse() -> None:
    kept = torch.ones(GRAPH.n_edges, dtype=torch.bool)
    kept[[1, 5]] = False
    kept[GRAPH.reverse[1]] = False  # with its reverse; that of edge 5 stays alone
    smaller = keep_edges(GRAPH, kept.nonzero().flatten())
    alone = int(kept.nonzero().flatten().tolist().index(int(GRAPH.reverse[5])))
    here = torch.arange(smaller.n_edges)
    assert smaller.n_edges == GRAPH.n_edges - 3
    assert smaller.reverse[alone] == alone
    paired = here != alone
    back = smaller.reverse[paired]
    assert torch.equal(smaller.vectors[back], -smaller.vectors[paired])
    assert torch.equal(smaller.reverse[back], here[paired])
