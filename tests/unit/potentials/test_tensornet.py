from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from ase_pet import derivatives
from ase_pet.data import Graph
from ase_pet.ecse import Symmetrized
from ase_pet.errors import UnknownSpeciesError
from ase_pet.potentials.base import Backbone
from ase_pet.potentials.tensornet import TensorNet, TensorNetHypers
from ase_pet.potentials.tensornet_readouts import in_double
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.dense_tensornet import energies as dense_energies
from tests.tiny import SPECIES, tiny_tensornet

OPTIONS: list[dict[str, Any]] = [
    {},
    {"n_layers": 0},
    {"n_layers": 3},
    {"rbf": "gaussian"},
    {"rbf": "bessel"},
    {"rbf": "smooth_bessel"},
    {"group": "SO(3)"},
    {"self_loops": True},
    {"self_loops": True, "group": "SO(3)", "rbf": "bessel"},
    {"inner_cutoff": 1.1},
    {"inner_cutoff": 1.1, "self_loops": True},
    {"messages": "center", "self_loops": True},
    {"activation": "tanh"},
    {"activation": "shifted_softplus"},
    {"activation": "sigmoid", "readout": "gated"},
    {"activation": "mish"},
    {"readout": "gated", "readout_depth": 3, "readout_width": 7},
    {"readout_depth": 2},
    {"energy_scale": 3.5, "energy_shift": -2.0},
]
NAMES = ("wire", "bent", "atom", "molecule", "triclinic", "one_atom_cell")


def batch(cutoff: float = 2.6) -> Graph:
    every = structures(SPECIES)
    return graph_of([every[name] for name in NAMES], cutoff)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_energies_and_gradients_are_those_of_the_equations(option: dict[str, Any]) -> None:
    net = tiny_tensornet(**{"n_layers": 2, **option})
    graph = batch()
    ours, by_ours, *_ = derivatives.evaluate(net, graph)
    dense, by_dense, *_ = derivatives.evaluate(lambda g: dense_energies(net, g), graph)
    # What is called dE/dr of an edge and what of its reverse is a matter of taste.
    by_dense = 0.5 * (by_dense - by_dense[graph.reverse])
    by_ours = 0.5 * (by_ours - by_ours[graph.reverse])
    assert float((ours - dense).abs().max()) < 1e-12 * float(dense.abs().max())
    assert float((by_ours - by_dense).abs().max()) < 1e-11 * max(1, float(by_dense.abs().max()))
    assert float(dense.std()) > 1e-3


def test_every_option_matters() -> None:
    graph = batch()
    plain = tiny_tensornet(2)(graph)
    for option in ({"self_loops": True}, {"group": "SO(3)"}, {"messages": "center"}):
        changed = tiny_tensornet(2, **option)(graph)
        assert float((changed - plain).abs().max()) > 1e-4, option


def test_a_pair_shares_its_gradient_evenly() -> None:
    graph = batch()
    _, g, *_ = derivatives.evaluate(tiny_tensornet(2), graph)
    torch.testing.assert_close(g, -g[graph.reverse], rtol=0, atol=0)


def test_edges_beyond_the_cutoff_do_not_matter() -> None:
    net = tiny_tensornet(2)
    near, far = batch(2.6), batch(4.0)
    assert far.n_edges > near.n_edges
    torch.testing.assert_close(net(near), net(far), rtol=1e-13, atol=1e-13)


def test_rotations_and_reflections() -> None:
    graph = batch()
    R = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    proper = R * torch.linalg.det(R).sign()
    for group in ("O(3)", "SO(3)"):
        net = tiny_tensornet(2, group=group)
        assert net.symmetry == group
        energies = net(graph)
        turned = net(graph.with_vectors(graph.vectors @ proper.T))
        mirrored = net(graph.with_vectors(-graph.vectors))
        assert float((turned - energies).abs().max()) < 1e-13
        deviation = float((mirrored - energies).abs().max())
        assert deviation < 1e-13 if group == "O(3)" else deviation > 1e-4


def test_the_receptive_field_is_what_it_says() -> None:
    """A chain of atoms, each within reach of the next one only; the last one moves."""
    for n_layers, messages in ((0, "neighbor"), (1, "neighbor"), (2, "neighbor"), (2, "center")):
        net = tiny_tensornet(n_layers, messages=messages)
        chain = structures(SPECIES)["atom"].repeat(1)
        for k in range(1, 5):
            chain.append("C")
            chain.positions[k] = chain.positions[0] + [2.0 * k, 0.3 * (k % 2), 0.0]
        moved = chain.copy()
        moved.positions[4] += [0.1, 0.05, -0.05]
        a, b = net(graph_of([chain], 2.6)), net(graph_of([moved], 2.6))
        changed = [k for k in range(5) if abs(float(a[k] - b[k])) > 1e-13]
        assert min(changed) == 4 - net.n_layers


def test_local_copies_give_the_same_energies() -> None:
    """Ego graphs hold all that matters, so that symmetrising changes nothing but the cost."""
    graph = graph_of([structures(SPECIES)["molecule"]], 2.0)
    net = tiny_tensornet(1, cutoff=2.0)
    ours = Symmetrized(net, ensemble="local")(graph)
    torch.testing.assert_close(ours, net(graph), rtol=1e-11, atol=1e-11)


def test_the_total_charge_scales_interactions() -> None:
    net, graph = tiny_tensornet(2, charge=True), batch()
    neutral = net(graph)
    charges = torch.tensor([0.0, 1.0, 0.0, -2.0, 0.0, 0.0], dtype=torch.float64)
    charged = net(_with_charge(graph, charges))
    same = charges[graph.system_index] == 0
    torch.testing.assert_close(charged[same], neutral[same], rtol=0, atol=0)
    assert float((charged - neutral)[~same].abs().min()) > 1e-6
    assert not tiny_tensornet().takes_charge
    assert net.takes_charge


def _with_charge(graph: Graph, charge: torch.Tensor) -> Graph:
    return replace(graph, charge=charge)


def test_single_precision_keeps_exact_constants() -> None:
    """Weights that are stored in single precision compute in double precision later."""
    net = tiny_tensornet(2, rbf="smooth_bessel").float().double()
    graph = batch()
    ours, dense = net(graph), dense_energies(net, graph)
    assert float((ours - dense).abs().max()) < 1e-12 * float(dense.abs().max())
    single = copy.deepcopy(net).float()(graph)
    assert single.dtype == torch.float64
    assert 1e-9 < float((single - dense).abs().max()) < 1e-6 * float(dense.abs().max())


def test_second_derivatives() -> None:
    """Training differentiates forces by weights."""
    net = tiny_tensornet(1, cutoff=2.0).requires_grad_(True)
    graph = graph_of([structures(SPECIES)["bent"]], 2.0)
    names = ["layers.0.filters.2.weight", "layers.0.mix_in.weight", "embedding.species.weight"]

    def loss(*values: torch.Tensor) -> torch.Tensor:
        bound = dict(zip(names, values, strict=True))
        _, g, *_ = derivatives.evaluate(
            lambda x: torch.func.functional_call(net, bound, (x,)), graph, create_graph=True
        )
        return g.square().sum()

    values = [dict(net.named_parameters())[name].detach().requires_grad_(True) for name in names]
    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


def test_memory_is_an_upper_bound_that_is_not_far_off() -> None:
    """Against what autograd keeps for the gradient."""
    graph = graph_of([structures(SPECIES)["bulk"].repeat(2)], 4.5)
    net = TensorNet(TensorNetHypers(cutoff=4.5, n_units=32, n_layers=2, n_functions=4), SPECIES)
    net = net.double().requires_grad_(False)
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        vectors = graph.vectors.requires_grad_(True)
        energies = net(graph.with_vectors(vectors))
    widest = int(torch.bincount(graph.centers).max())
    estimate = net.memory(graph.n_atoms, widest)
    assert energies.requires_grad
    assert 0.4 * estimate < sum(kept.values()) < estimate


def test_it_is_a_backbone_and_knows_its_elements() -> None:
    net = tiny_tensornet()
    assert isinstance(net, Backbone)
    assert net.species == SPECIES
    atoms = structures((26,))["atom"]
    with pytest.raises(UnknownSpeciesError, match="Fe"):
        net(graph_of([atoms], 2.6))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_units": 0}, "n_units: expected at least 1, got 0"),
        ({"n_layers": -1}, "n_layers: expected at least 0, got -1"),
        ({"inner_cutoff": 5.0}, "inner_cutoff: .* less than cutoff=5.0, got 5.0"),
        ({"group": "U(1)"}, "group: expected one of .*got 'U"),
        ({"rbf": "sine"}, "rbf: expected one of"),
        ({"activation": "relu"}, "activation: expected one of"),
        ({"messages": "both"}, "messages: expected one of"),
        ({"readout": "sum"}, "readout: expected one of"),
        ({"coulomb": True}, "coulomb: expected n_charges of at least 1"),
    ],
)
def test_bad_hyperparameters_are_named(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorNetHypers(**option)


def test_the_readout_in_double_precision_follows_its_weights() -> None:
    """Copies that are kept between evaluations are never those of other weights."""
    net = tiny_tensornet(1).float()
    x = torch.randn(9, 4, 6)
    weight = net.readout.linear.weight

    def exact() -> torch.Tensor:
        return copy.deepcopy(net.readout).double()(x.double())

    first = in_double(net.readout, x)
    torch.testing.assert_close(first, exact(), rtol=0, atol=0)
    weight.mul_(2.0)
    torch.testing.assert_close(in_double(net.readout, x), exact(), rtol=0, atol=0)
    net.readout.linear.weight = torch.nn.Parameter(3.0 * weight, requires_grad=False)
    torch.testing.assert_close(in_double(net.readout, x), exact(), rtol=0, atol=0)
    net.readout.requires_grad_(True)
    in_double(net.readout, x).sum().backward()
    assert net.readout.linear.weight.grad is not None
    net.double().requires_grad_(False)
    torch.testing.assert_close(in_double(net.readout, x), exact(), rtol=0, atol=0)
