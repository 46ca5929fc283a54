from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from torch import nn

from ase_pet import PETCalculator
from ase_pet.data import Graph
from ase_pet.errors import GeometryError, UnknownSpeciesError
from ase_pet.formats import Model
from ase_pet.potentials import compiled
from ase_pet.potentials.base import Backbone
from ase_pet.potentials.compiled import Compiled, enlarge
from ase_pet.potentials.last_layer import LastLayer
from ase_pet.potentials.pet import PET
from ase_pet.potentials.pet.tokens import Environments
from ase_pet.potentials.tensors import predict
from ase_pet.potentials.total import Total
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.tolerances import FLOAT32
from tests.tiny import NEEDS_TORCH_PME, TENSORS, tiny_modern_pet, tiny_pet, tiny_tensornet

NETWORKS = {
    "pet": lambda: tiny_pet(2, **TENSORS),
    "modern pet": lambda: tiny_modern_pet(2, n_neighbors=4.0, conditioning=True),
    "tensornet": lambda: tiny_tensornet(2, self_loops=True, charge=True, **TENSORS),
}
#: As many atoms and neighbours as each other, one atom, two, several structures.
BATCHES = (["CH3OH"], ["H2O"], ["C6H6", "CH4"], ["H"], ["OH"], ["CH3CH2OH", "H", "CH3OH"])


class Count:
    """A backend of ``torch.compile`` that counts, and evaluates what it is given as it is."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, module: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self.n += 1
        return module.forward


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    count = Count()
    monkeypatch.setattr(compiled, "BACKEND", count)
    return count


def model(network: Backbone, **options: Any) -> Model:
    return Model(Total(network), "float64", **options)


def everything(network: Backbone, graph: Graph) -> list[torch.Tensor]:
    """Energies, their gradient, tensors."""
    vectors = graph.vectors.detach().requires_grad_(True)
    energies, tensors = predict(network, graph.with_vectors(vectors))
    (gradient,) = torch.autograd.grad(energies.sum(), vectors)
    return [energies, gradient, *tensors.values()]


def hot() -> Atoms:
    """A crystal whose neighbours change within a few steps."""
    atoms = bulk("C")
    atoms.rattle(0.05, seed=1)
    thermalize_momenta(atoms, 5000, rng=np.random.default_rng(0))
    return atoms


@pytest.mark.parametrize("name", NETWORKS)
def test_one_compilation_serves_all_sizes_and_changes_nothing(name: str, count: Count) -> None:
    network = NETWORKS[name]()
    fast = Compiled(network, padded=True)
    for names in BATCHES:
        graph = graph_of([molecule(one) for one in names], 2.6)
        for got, wanted in zip(everything(fast, graph), everything(network, graph), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
    assert count.n == 1


def test_what_is_added_is_finite_and_unheard() -> None:
    """The gradient by all that is packed, where most of it is padding."""
    graph = graph_of([molecule("CH3OH")], 2.6)
    for make in NETWORKS.values():
        network = make()
        inputs = network.inputs(graph)
        vectors, *others = inputs.pack(lambda n: 5 * n)
        vectors = vectors.detach().requires_grad_(True)
        packed = type(inputs).unpack(vectors, *others)
        energies = network.read(packed)[0][: graph.n_atoms]
        (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        present = gradient.flatten(0, -2).abs().sum(1) > 0
        assert bool(torch.isfinite(gradient).all())
        assert int(present.sum()) == len(inputs.vectors)
        assert len(present) >= 5 * len(inputs.vectors)


def test_sizes_grow_in_few_steps() -> None:
    sizes = [enlarge(n) for n in range(10_000)]
    assert all(n <= size <= max(2, 1.25 * n) for n, size in enumerate(sizes) if n)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) <= 40


@pytest.mark.parametrize("symmetry", [None, "O(3)"])
def test_a_hot_run_is_compiled_once(
    symmetry: str | None, count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"symmetry": symmetry, "ensemble": "local", "memory_budget": "1MB"}
    atoms, plain = hot(), hot()
    atoms.calc = PETCalculator(model(tiny_pet(1)), compile=True, **options)
    plain.calc = PETCalculator(model(tiny_pet(1)), **options)
    shapes, forces = set(), []
    inputs = PET.inputs

    def look(network: PET, graph: Graph) -> Environments:
        found = inputs(network, graph)
        shapes.add(found.rows.factors.shape)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(PET, "inputs", look)
        rng = np.random.RandomState(0)
        run = Langevin(atoms, units.fs, temperature_K=5000, friction=0.02, rng=rng, fixcm=False)
        run.attach(lambda: forces.append((atoms.get_positions(), atoms.get_forces())), interval=40)
        run.run(200)
    assert len(shapes) >= (3 if symmetry is None else 10)
    assert count.n == 1
    for positions, found in forces:
        plain.positions = positions
        np.testing.assert_allclose(found, plain.get_forces(), rtol=1e-10, atol=1e-10)


def test_copies_and_pickles_are_compiled_again(count: Count) -> None:
    calc = PETCalculator(model(tiny_pet(1)), compile=True)
    wanted = calc.get_potential_energy(molecule("H2O"))
    calc.get_potential_energy(molecule("CH4"))  # copies keep the last results
    engine = copy.deepcopy(calc.engine)
    for again in (pickle.loads(pickle.dumps(calc)), copy.deepcopy(calc)):
        assert again.get_potential_energy(molecule("H2O")) == wanted
    assert count.n == 3
    graph = engine.graph(calc.system_of([molecule("H2O")]))
    assert bool(torch.isfinite(engine.total(engine.way(graph.n_atoms, periodic=True))(graph)).all())
    assert count.n == 4


def test_errors_are_the_same(count: Count) -> None:
    calc = PETCalculator(model(tiny_pet(1)), compile=True, symmetry=None)
    with pytest.raises(UnknownSpeciesError, match="does not know Au"):
        calc.get_potential_energy(Atoms("Au"))
    with pytest.raises(GeometryError, match="atoms 0 and 1"):
        calc.get_potential_energy(Atoms("H2"))
    unknown = graph_of([Atoms("Au")], 2.6)
    with pytest.raises(UnknownSpeciesError, match="does not know Au"):
        Compiled(tiny_pet(1))(unknown)
    network, water = tiny_modern_pet(1, conditioning=True), graph_of([molecule("H2O")], 2.6)
    water = replace(water, charge=torch.tensor([0.5], dtype=torch.float64))
    with pytest.raises(ValueError, match="charge: the model was trained for whole numbers"):
        Compiled(network)(water)
    assert count.n == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny_tensornet(1, n_charges=2),
        pytest.param(lambda: tiny_modern_pet(1, long_range=True), marks=NEEDS_TORCH_PME),
    ],
)
def test_what_cannot_be_compiled_is_refused(make: Callable[[], Backbone]) -> None:
    with pytest.raises(ValueError, match=r"compile: this model has .* leave compile out"):
        PETCalculator(model(make()), compile=True).engine  # noqa: B018


def test_the_option_is_a_truth_value() -> None:
    with pytest.raises(ValueError, match="compile: expected True or False, got 'yes'"):
        PETCalculator(model(tiny_pet(1)), compile="yes").engine  # noqa: B018


def test_direct_forces_are_compiled(count: Count) -> None:
    network = tiny_modern_pet(2, forces_scales=(1.0, 2.0, 3.0))
    water = molecule("H2O")
    options = {"forces": "direct", "symmetry": "SO(3)"}
    wanted = PETCalculator(model(network), **options).get_forces(water)
    found = PETCalculator(model(network), compile=True, **options).get_forces(water)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
    assert count.n == 1


def test_uncertainties_come_from_the_network_inside(count: Count) -> None:
    network = tiny_modern_pet(1)
    last = LastLayer(members=torch.randn(3, network.n_last_features, dtype=torch.float64))
    water = molecule("H2O")
    known = model(network, uncertainty=last)
    found = PETCalculator(known, compile=True).uncertainty(water)
    assert found.energy == PETCalculator(known).uncertainty(water).energy > 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "dtype", "tolerance"),
    [
        (tiny_modern_pet, torch.float64, 1e-10),
        (tiny_tensornet, torch.float32, FLOAT32["gradients"]),
    ],
)
def test_what_the_compiler_makes_is_the_same(
    make: Callable[[], nn.Module], dtype: torch.dtype, tolerance: float
) -> None:
    network, filters = make().to(dtype), list(warnings.filters)
    fast = Compiled(network)
    for names in BATCHES[:3]:
        graph = graph_of([molecule(one) for one in names], 2.6)
        for got, wanted in zip(everything(fast, graph), everything(network, graph), strict=True):
            torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)
    assert warnings.filters == filters
    vectors = graph.vectors.clone().requires_grad_(True)
    energies = fast(graph.with_vectors(vectors))
    with pytest.raises(RuntimeError, match="requires create_graph=False"):
        torch.autograd.grad(energies.sum(), vectors, create_graph=True)


def test_without_a_compiler_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        raise FileNotFoundError("g++")

    monkeypatch.setattr(compiled, "BACKEND", missing)
    calc = PETCalculator(model(tiny_pet(1)), compile=True)
    with pytest.raises(RuntimeError, match=r"FileNotFoundError.* g\+\+ .* or leave compile out"):
        calc.get_potential_energy(molecule("H2O"))


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_graphs_of_a_gpu_give_the_same(name: str) -> None:
    network, structures = NETWORKS[name](), [molecule(one) for batch in BATCHES for one in batch]
    fast, plain = (
        PETCalculator(model(network), device="cuda", compile=fast) for fast in (True, False)
    )
    for found, wanted in [(fast.compute([one]), plain.compute([one])) for one in structures * 2]:
        for key in ("energies", "forces", "dipole"):
            if key in wanted[0]:  # and later evaluations have not overwritten it
                np.testing.assert_allclose(found[0][key], wanted[0][key], rtol=1e-10, atol=1e-10)
