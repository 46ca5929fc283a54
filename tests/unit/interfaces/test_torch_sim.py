"""The torch-sim model: its own validation, and the numbers of the calculator."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_pet import PETCalculator
from ase_pet.errors import GeometryError, UnknownSpeciesError
from ase_pet.formats import Model
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from tests.optional import imported, needs

pytestmark = needs("torch_sim")


@pytest.fixture(scope="module")
def ts() -> ModuleType:
    return imported("torch_sim")


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    sizes = {"d_model": 8, "n_heads": 2, "d_feedforward": 8, "head_width": 8}
    pet = PET(PETHypers(cutoff=3.2, n_attention_layers=1, **sizes), [1, 8, 14, 26])
    with torch.no_grad():
        for parameter in pet.parameters():
            parameter.mul_(1.7)
    return Model(Total(pet, Composition({1: -13.0, 8: -2000.0, 14: -5.4, 26: -8.0})), "float64")


def make(model: Model, **options: Any) -> Any:
    return imported("ase_pet.interfaces.torch_sim").TorchSimModel(model, device="cpu", **options)


def crystals() -> list[Atoms]:
    """Two sizes, one of them skewed, so that rows and columns of cells differ."""
    skewed, cubic = bulk("Si"), bulk("Si", cubic=True)
    skewed.set_cell(skewed.cell @ [[1.0, 0.1, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 1.0]], True)
    for k, atoms in enumerate((skewed, cubic)):
        atoms.rattle(0.1, seed=k)
    return [skewed, cubic]


def test_torch_sim_validates_it(ts: ModuleType, model: Model) -> None:
    validate = imported("torch_sim.models.interface").validate_model_outputs
    validate(make(model), torch.device("cpu"), torch.float64)
    validate(make(model, dtype=torch.float32), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_same_numbers_as_the_calculator(ts: ModuleType, model: Model, dtype: torch.dtype) -> None:
    wrapped = make(model, dtype=dtype)
    state = ts.io.atoms_to_state(crystals(), wrapped.device, wrapped.dtype)
    found = wrapped(state)
    assert {value.dtype for value in found.values()} == {dtype}
    calculator = PETCalculator(model, device="cpu")
    # Positions of a state in float32 are rounded, which changes results by a few of their digits.
    tolerance = {"rtol": 0, "atol": 1e-10 if dtype == torch.float64 else 1e-3}
    for k, atoms in enumerate(crystals()):
        atoms.calc = calculator
        of_atoms = (state.system_idx == k).numpy()
        assert np.allclose(found["energy"][k], atoms.get_potential_energy(), **tolerance)
        assert np.allclose(found["energies"][of_atoms], atoms.get_potential_energies(), **tolerance)
        assert np.allclose(found["forces"][of_atoms], atoms.get_forces(), **tolerance)
        assert np.allclose(found["stress"][k], atoms.get_stress(voigt=False), **tolerance)
        assert abs(atoms.get_stress()).max() > 10 * tolerance["atol"]


def test_a_dictionary_is_a_state(ts: ModuleType, model: Model) -> None:
    wrapped = make(model)
    state = ts.io.atoms_to_state(crystals()[:1], wrapped.device, wrapped.dtype)
    names = ("positions", "cell", "pbc", "atomic_numbers")
    found = wrapped({name: getattr(state, name) for name in names})
    assert torch.equal(found["forces"], wrapped(state)["forces"])


def test_molecules_have_no_stress(ts: ModuleType, model: Model) -> None:
    state = ts.io.atoms_to_state([molecule("H2O")], torch.device("cpu"), torch.float64)
    state.pbc = False
    assert set(make(model, compute_stress=False)(state)) == {"energy", "energies", "forces"}
    with pytest.raises(GeometryError, match="structure 0 has no volume; set compute_stress=False"):
        make(model)(state)


def test_bad_input(ts: ModuleType, model: Model) -> None:
    state = ts.io.atoms_to_state([bulk("Cu")], torch.device("cpu"), torch.float64)
    with pytest.raises(UnknownSpeciesError, match="Cu"):
        make(model)(state)
    with pytest.raises(ValueError, match=r"dtype: expected torch\.float32 or torch\.float64"):
        make(model, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match="unexpected keyword argument 'ensembl'"):
        make(model, ensembl="local")


def test_energy_is_conserved_in_a_batch(ts: ModuleType, model: Model) -> None:
    wrapped = make(model, compute_stress=False)
    run = {"integrator": ts.nve, "temperature": 300.0, "timestep": 0.001, "seed": 0}
    totals = []
    for n_steps in (1, 10):
        state = ts.integrate(crystals(), wrapped, n_steps=n_steps, **run)
        kinetic = state.momenta.square().sum(1) / (2.0 * state.masses)
        totals.append(state.energy.index_add(0, state.system_idx, kinetic))
    moved = (
        state.positions
        - ts.io.atoms_to_state(crystals(), torch.device("cpu"), torch.float64).positions
    )
    assert float(moved.abs().amax()) > 0.02
    assert torch.allclose(totals[0], totals[1], rtol=0, atol=1e-3)
