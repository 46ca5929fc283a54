from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ase_pet import PETCalculator, derivatives
from ase_pet.engine import Engine
from ase_pet.formats import Model
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.radial import RADIAL_BASES
from ase_pet.potentials.splines import Splines
from ase_pet.potentials.total import Total
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, TENSORS, tiny_pet, tiny_tensornet

CUTOFF = 3.0


def waves(r: Tensor) -> Tensor:
    """Three functions that vanish at the cutoff, slope included."""
    envelope = (1.0 - r / CUTOFF).square()
    return torch.stack([envelope * torch.sin(k * r) for k in (1, 2, 3)], 1)


def slopes_of(splines: Splines, r: Tensor) -> Tensor:
    r = r.detach().requires_grad_(True)
    values = splines(r)
    each = [torch.autograd.grad(v.sum(), r, retain_graph=True)[0] for v in values.unbind(1)]
    return torch.stack(each, 1)


def test_values_and_slopes_are_those_of_the_function_at_knots() -> None:
    splines = Splines(waves, CUTOFF, 8)
    knots = torch.linspace(0.0, CUTOFF, 9, dtype=torch.float64)
    torch.testing.assert_close(splines(knots), waves(knots), rtol=0, atol=1e-14)
    exact = torch.autograd.functional.jvp(waves, knots, torch.ones_like(knots))[1]
    for side in (-1e-9, 1e-9):
        r = (knots + side).clamp(0.0, CUTOFF)
        torch.testing.assert_close(slopes_of(splines, r), exact, rtol=0, atol=1e-7)


def test_errors_fall_with_the_fourth_power_of_the_spacing() -> None:
    r = torch.linspace(0.01, CUTOFF - 0.01, 1001, dtype=torch.float64)
    coarse, fine = (float((Splines(waves, CUTOFF, n)(r) - waves(r)).abs().max()) for n in (32, 128))
    assert math.log(coarse / fine, 4) == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("rbf", RADIAL_BASES)
def test_every_radial_basis_has_splines(rbf: str) -> None:
    """Quotients are not differentiated at zero: all coefficients are finite."""
    layer = tiny_tensornet(1, rbf=rbf).with_splines(64).layers[0]
    assert bool(torch.isfinite(layer.splines.coefficients).all())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_splines_and_heads_on_a_gpu() -> None:
    model = Model(Total(tiny_tensornet(2, **TENSORS)), "float64")
    atoms = structures(SPECIES)["molecule"]
    here, there = (
        PETCalculator(model, device=device, splines=True).compute([atoms])[0]
        for device in ("cpu", "cuda")
    )
    for name in ("energy", "forces", "dipole", "polarizability"):
        np.testing.assert_allclose(there[name], here[name], rtol=0, atol=1e-10)


def test_derivatives_are_exact() -> None:
    r = torch.tensor([0.0, 0.4, 1.7, 2.95, CUTOFF - 1e-4], dtype=torch.float64)
    splines = Splines(waves, CUTOFF, 16)
    assert torch.autograd.gradcheck(splines, r[1:].requires_grad_(True), eps=1e-7, atol=1e-6)
    assert splines(r[:0]).shape == (0, 3)
    assert splines.float()(r.float()).dtype == torch.float32
    assert not splines.state_dict()


@pytest.mark.parametrize("option", [{}, {"self_loops": True}, {"inner_cutoff": 0.6}], ids=str)
def test_a_network_with_splines_is_nearly_the_one_without(option: dict) -> None:
    net = tiny_tensornet(2, **option)
    graph = graph_of([structures(SPECIES)[name] for name in ("bent", "molecule", "wire")], 2.6)
    energies, gradients, *_ = derivatives.evaluate(net, graph)
    assert net.with_splines(256).memory(100, 30) < net.memory(100, 30)
    deviations = []
    for n_pieces in (256, 1024):
        ours, by_ours, *_ = derivatives.evaluate(net.with_splines(n_pieces), graph)
        deviations.append(float((ours - energies).abs().max()))
        assert float((by_ours - gradients).abs().max()) < 1e-4 * 256 / n_pieces
    assert deviations[1] < 1e-8
    assert deviations[1] < 0.05 * deviations[0]


def test_an_engine_takes_splines_where_there_are_functions_of_distances() -> None:
    from ase_pet.interfaces.ase_structures import system_from_atoms

    total = Total(tiny_tensornet(1), Composition({1: -13.5, 6: -1030.0, 8: -2041.0}))
    system = system_from_atoms([structures(SPECIES)["molecule"]])
    plain, splined = (Engine(total, splines=on, device="cpu")(system) for on in (False, True))
    torch.testing.assert_close(splined.energy, plain.energy, rtol=1e-12, atol=1e-8)
    torch.testing.assert_close(splined.forces, plain.forces, rtol=1e-6, atol=1e-6)
    assert not torch.equal(splined.forces, plain.forces)
    assert total.backbone.layers[0].splines is None
    with pytest.raises(ValueError, match="splines: this model has no functions of distances"):
        Engine(Total(tiny_pet()), splines=True)
    with pytest.raises(ValueError, match=r"splines: interactions .* depend on charges"):
        Engine(Total(tiny_tensornet(1, n_charges=2)), splines=True)
    with pytest.raises(ValueError, match="n_pieces: expected at least 1, got 0"):
        tiny_tensornet(1).with_splines(0)
