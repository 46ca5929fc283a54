"""Derivatives written by hand against those of autograd."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.derivatives import gradients
from ase_pet.potentials.pet import ModernPET, parts
from ase_pet.potentials.pet.pullbacks import (
    attention,
    glu,
    layer_norm,
    linear,
    mish,
    normalize,
    silu,
)
from ase_pet.potentials.pet.tokens import attend
from ase_pet.testing.evaluators import graph_of
from tests.tiny import tiny_modern_pet
from tests.unit.potentials.pet.test_modern import OPTIONS, identify

SHORT = [option for option in OPTIONS if isinstance(option, dict)]  # without long range
WIDTHS = [{}, {"d_node": 8}]


def both(model: ModernPET, graph: Graph) -> list[tuple[Tensor, Tensor]]:
    """Energies and gradients with weights that are differentiated, and with constant ones."""
    found = []
    for trained in (True, False):
        model.requires_grad_(trained)
        vectors = graph.vectors.detach().requires_grad_(True)
        energies = model(graph.with_vectors(vectors))
        found.append((energies.detach(), gradients(energies, [vectors])[0]))
    return found


def assert_same(model: ModernPET, graph: Graph) -> None:
    (energies, gradients), (fast, slopes) = both(model, graph)
    torch.testing.assert_close(fast, energies, rtol=0.0, atol=1e-13)
    torch.testing.assert_close(slopes, gradients, rtol=0.0, atol=1e-13)
    assert float(gradients.abs().max()) > 1e-6


@pytest.fixture(scope="module")
def structures() -> Graph:
    """A molecule, a crystal with edges to images of the same atom, and an atom alone."""
    crystal = bulk("C", "fcc", a=2.6)
    crystal.rattle(0.05, seed=2)
    return graph_of([molecule("CH3OH"), crystal, Atoms("O")], 2.6)


@pytest.mark.parametrize("width", WIDTHS, ids=identify)
@pytest.mark.parametrize("option", SHORT, ids=identify)
def test_all_options_agree_with_autograd(option: dict, width: dict, structures: Graph) -> None:
    assert_same(tiny_modern_pet(2, cutoff=2.3, **{**width, **option}), structures)


@pytest.mark.parametrize("width", WIDTHS, ids=identify)
@pytest.mark.parametrize("messages", ["residual", "feedforward"])
@pytest.mark.parametrize("normalization", ["RMSNorm", "LayerNorm"])
@pytest.mark.parametrize("transformer", ["PreLN", "PostLN"])
def test_norms_go_with_both_kinds_of_blocks(
    transformer: str, normalization: str, messages: str, width: dict, structures: Graph
) -> None:
    options = {"transformer": transformer, "normalization": normalization, "messages": messages}
    assert_same(tiny_modern_pet(2, cutoff=2.3, **width, **options), structures)


@pytest.mark.parametrize("messages", ["residual", "feedforward"])
def test_parts_are_as_the_whole(
    messages: str, structures: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_modern_pet(2, cutoff=2.3, messages=messages)
    whole = both(model, structures)[1]
    monkeypatch.setattr(parts, "ROWS", 1)  # an atom at a time
    assert_same(model, structures)
    torch.testing.assert_close(both(model, structures)[1][0], whole[0], rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("trained", ["energies", "layers"])
def test_weights_are_differentiated_beside_constant_ones(trained: str, structures: Graph) -> None:
    model = tiny_modern_pet(2, cutoff=2.3).requires_grad_(False)
    chosen = getattr(model, trained).requires_grad_(True)
    vectors = structures.vectors.detach().requires_grad_(True)
    model(structures.with_vectors(vectors)).sum().backward()
    assert all(p.grad is not None for p in chosen.parameters())


def test_charges_matter(structures: Graph) -> None:
    model = tiny_modern_pet(2, cutoff=2.3, conditioning=True)
    charged = replace(structures, charge=torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64))
    assert_same(model, charged)


def test_factors_that_underflow_have_finite_gradients(structures: Graph) -> None:
    """Just within the cutoff, single precision has no factor left."""
    model = tiny_modern_pet(2, cutoff=2.3).float().requires_grad_(False)
    lengths = torch.linalg.vector_norm(structures.vectors, dim=1, keepdim=True)
    scale = torch.where(lengths == lengths.max(), (2.3 - 2e-3) / lengths, 1.0)
    vectors = (scale * structures.vectors).requires_grad_(True)
    slopes = gradients(model(structures.with_vectors(vectors)), [vectors])[0]
    assert bool(torch.isfinite(slopes).all())


def test_a_second_derivative_is_refused(structures: Graph) -> None:
    model = tiny_modern_pet(2, cutoff=2.3).requires_grad_(False)
    vectors = structures.vectors.detach().requires_grad_(True)
    energies = model(structures.with_vectors(vectors))
    with pytest.raises(RuntimeError, match="first derivatives only"):
        gradients(energies, [vectors], create_graph=True)


def test_a_second_gradient_is_refused(structures: Graph) -> None:
    model = tiny_modern_pet(2, cutoff=2.3).requires_grad_(False)
    vectors = structures.vectors.detach().requires_grad_(True)
    energy = model(structures.with_vectors(vectors)).sum()
    torch.autograd.grad(energy, vectors, retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated before"):
        torch.autograd.grad(energy, vectors)


def _random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _norm(kind: type[nn.Module]) -> nn.Module:
    norm = kind(6).double()
    for k, p in enumerate(norm.parameters()):
        nn.init.normal_(p, generator=torch.Generator().manual_seed(k))
    return norm.requires_grad_(False)


@pytest.mark.parametrize(
    "operation",
    [
        silu,
        mish,
        glu,
        lambda x: linear(x, _random(4, 6), _random(4)),
        lambda x: layer_norm(x, _norm(nn.LayerNorm)),
        lambda x: normalize(x, _norm(nn.RMSNorm)),
    ],
    ids=["silu", "mish", "glu", "linear", "LayerNorm", "RMSNorm"],
)
def test_pullbacks_against_differences(operation: object) -> None:
    torch.manual_seed(0)
    x, step = _random(5, 6), 1e-6 * _random(5, 6).flip(0)

    def value(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return operation(x)[0]

    torch.manual_seed(0)
    y, pull = operation(x)
    g = _random(*y.shape)
    expected = ((value(x + step) - value(x - step)) * g).sum() / 2.0
    torch.testing.assert_close((pull(g.clone()) * step).sum(), expected, rtol=1e-8, atol=0.0)


@pytest.mark.parametrize("size", [1.0, 60.0], ids=["plain", "overflow"])
@pytest.mark.parametrize("low", [0.0, -2e3], ids=["all", "none"])
def test_attention_against_autograd(low: float, size: float) -> None:
    """Exponentials of scores may overflow, and vanish where nothing has a weight."""
    qkv, bias = (size * _random(3, 5, 24)).requires_grad_(True), _random(3, 1, 1, 5)
    bias[1] += low
    bias.requires_grad_(True)
    g, error = _random(3, 5, 8).flip(0), 1e-15 * max(100.0, -low) * size
    expected = attend(qkv, bias, 2, 1.5)
    by_qkv, by_bias = torch.autograd.grad(expected, [qkv, bias], g)

    def heads(rows: Tensor) -> Tensor:
        return rows.view(3, 5, -1, 2, 4).permute(2, 0, 3, 1, 4).reshape(-1, 6, 5, 4)

    made = heads(qkv.detach())
    binary = (bias.detach() / math.log(2.0)).repeat(1, 2, 1, 1).view(6, 1, 5)
    found, pull = attention(*made, binary, 1.5)
    assert (float(made[0].square().sum(2).max()) > 800.0) == (size > 1.0)
    torch.testing.assert_close(found, heads(expected.detach())[0], rtol=0.0, atol=error)
    by_heads = torch.full_like(made, torch.nan)
    by_bias_of_heads = pull(heads(g)[0], by_heads)
    torch.testing.assert_close(by_heads, heads(by_qkv), rtol=0.0, atol=error)
    torch.testing.assert_close(
        by_bias_of_heads.view(3, 2, 5).sum(1), by_bias[:, 0, 0], rtol=0.0, atol=size * error
    )
