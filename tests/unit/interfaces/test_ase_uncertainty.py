"""What the calculator says of its own errors, and when it warns."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces
from numpy.testing import assert_allclose

from ase_pet import PETCalculator
from ase_pet.committee import Committee
from ase_pet.errors import CheckpointError, GeometryError, UnknownSpeciesError
from ase_pet.formats import Model, native
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.last_layer import LastLayer
from ase_pet.potentials.total import Total
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_modern_pet, tiny_pet, tiny_tensornet

EVERY = structures(SPECIES)
NET = tiny_modern_pet(conditioning=True)
A = torch.randn(40, NET.n_last_features, generator=torch.Generator().manual_seed(1))
LAYER = LastLayer(torch.linalg.cholesky(A.T @ A), 0.7, A[:3])
BASE = Composition(dict.fromkeys(SPECIES, -10.0))
WRAPPED = Model(Total(NET, BASE), "float64", architecture="pet-metatrain", uncertainty=LAYER)
MODELS = [Model(Total(network, BASE), "float64") for network in (tiny_pet(), tiny_tensornet())]


def molecule() -> Atoms:
    return EVERY["molecule"].copy()


def turned(atoms: Atoms) -> Atoms:
    """Turned and mirrored."""
    R = -np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    found = atoms.copy()
    found.set_cell(atoms.cell.array @ R.T)
    found.positions = atoms.positions @ R.T
    return found


@pytest.mark.parametrize("models", [WRAPPED, MODELS], ids=["last layer", "committee"])
@pytest.mark.parametrize("ensemble", ["local", "global"])
def test_it_does_not_depend_on_the_orientation(models, ensemble: str) -> None:
    calculator = PETCalculator(models, ensemble=ensemble)
    atoms = EVERY["triclinic"]
    for kind in calculator.model.uncertainties:
        one, other = (
            calculator.uncertainty(a, forces=True, kind=kind) for a in (atoms, turned(atoms))
        )
        assert one.kind == kind
        assert other.energy == pytest.approx(one.energy, rel=1e-10)
        assert other.stress == pytest.approx(one.stress, rel=1e-10)
        assert_allclose(other.forces, one.forces, rtol=1e-10)


def test_without_symmetry_it_does() -> None:
    calculator = PETCalculator(WRAPPED, symmetry=None)
    one, other = (calculator.uncertainty(a) for a in (molecule(), turned(molecule())))
    assert abs(one.energy - other.energy) > 1e-3 * one.energy


def test_the_structure_may_be_left_out_and_the_calculator_is_left_as_it_is() -> None:
    calculator, atoms = PETCalculator(WRAPPED), molecule()
    with pytest.raises(ValueError, match="none given, and none were evaluated before"):
        calculator.uncertainty()
    atoms.calc = calculator
    atoms.get_forces()
    results = dict(calculator.results)
    assert calculator.uncertainty().energy == calculator.uncertainty(atoms).energy
    calculator.uncertainty(EVERY["triclinic"], forces=True)
    assert calculator.results.keys() == results.keys()
    assert calculator.atoms == atoms


def test_charges_count() -> None:
    calculator, atoms = PETCalculator(WRAPPED), molecule()
    charged = atoms.copy()
    charged.info["charge"] = 1
    assert calculator.uncertainty(atoms).energy != calculator.uncertainty(charged).energy


def test_what_cannot_be_had() -> None:
    with pytest.raises(PropertyNotImplementedError, match="this model has none; models of meta"):
        PETCalculator(MODELS[0]).uncertainty(molecule())
    calculator = PETCalculator(WRAPPED)
    with pytest.raises(ValueError, match="kind: this model has llpr and ensemble, got 'comm"):
        calculator.uncertainty(molecule(), kind="committee")
    with pytest.raises(ValueError, match="kind: this model has committee, got 'llpr'"):
        PETCalculator(MODELS).uncertainty(molecule(), kind="llpr")
    with pytest.raises(UnknownSpeciesError, match="does not know Si"):
        calculator.uncertainty(Atoms("Si"))
    with pytest.raises(GeometryError, match="no atoms"):
        calculator.uncertainty(Atoms())
    with pytest.raises(TypeError, match=r"expected ase\.Atoms, got str"):
        calculator.uncertainty("water")


@pytest.mark.parametrize("models", [WRAPPED, MODELS], ids=["last layer", "committee"])
def test_it_warns_once_above_the_threshold(models) -> None:
    atoms, calm = molecule(), PETCalculator(models)
    per_atom = calm.uncertainty(atoms).per_atom
    assert per_atom > 0.0
    atoms.calc = PETCalculator(models, uncertainty_threshold=1.01 * per_atom)
    atoms.get_potential_energy()  # warnings are errors
    atoms.calc.set(uncertainty_threshold=0.99 * per_atom)
    with pytest.warns(UserWarning, match="above uncertainty_threshold="):
        atoms.get_potential_energy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.positions[0] += 0.001
        atoms.get_potential_energy()
    atoms.calc.set(uncertainty_threshold=0.9 * per_atom)
    with pytest.warns(UserWarning, match="eV an atom"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), True, "0.1"])
def test_thresholds_that_are_refused(threshold: object) -> None:
    calculator = PETCalculator(WRAPPED, uncertainty_threshold=np.float32(0.1))
    with pytest.raises(ValueError, match="uncertainty_threshold: expected a positive energy"):
        calculator.set(uncertainty_threshold=threshold)
    assert calculator.parameters["uncertainty_threshold"] == np.float32(0.1)


def test_a_threshold_for_a_model_without_an_uncertainty() -> None:
    calculator = PETCalculator(MODELS[0])
    with pytest.raises(ValueError, match="uncertainty_threshold: this model has no uncertainty"):
        calculator.set(uncertainty_threshold=0.1)


def test_a_committee_in_everyday_use(tmp_path: Path) -> None:
    paths = [tmp_path / "pet.pt", tmp_path / "tensornet.pt"]
    for model, path, name in zip(MODELS, paths, ("pet", "tensornet"), strict=True):
        native.save(replace(model, architecture=name), path)
    atoms = EVERY["triclinic"].copy()
    atoms.calc = PETCalculator([paths[0], str(paths[1])])
    each = [PETCalculator(path).compute([atoms])[0] for path in paths]
    for name in ("energy", "energies", "forces", "stress", "stresses"):
        mean = 0.5 * (each[0][name] + each[1][name])
        assert_allclose(atoms.calc.get_property(name, atoms), mean, rtol=0, atol=1e-12)
    numerical = calculate_numerical_forces(atoms, eps=1e-5, iatoms=[0])
    assert_allclose(atoms.get_forces()[:1], numerical, rtol=0, atol=1e-6)
    assert atoms.calc.ensemble == "local"
    told = json.loads(json.dumps(atoms.calc.todict()))
    assert told["checkpoint"] == ", ".join(map(str, paths))
    assert told["dtype"] == "float64"
    again = pickle.loads(pickle.dumps(atoms.calc))
    assert again.uncertainty(atoms).energy == atoms.calc.uncertainty(atoms).energy
    atoms.calc.set(symmetry=None)
    assert atoms.calc.ensemble is None
    assert atoms.get_potential_energy() != pytest.approx(again.compute([atoms])[0]["energy"])
    spawned = multiprocessing.get_context("spawn")
    with spawned.Pool(1) as pool:
        assert pool.map(again.uncertainty, [atoms])[0].energy == again.uncertainty(atoms).energy


def test_models_that_make_no_committee() -> None:
    with pytest.raises(TypeError, match="expected a path, a Model or a list of them, got int"):
        PETCalculator([WRAPPED, 3])
    with pytest.raises(ValueError, match="expected at least 2 models, got 0"):
        PETCalculator([])
    with pytest.raises(CheckpointError, match="no such file"):
        PETCalculator(["nowhere.pt", WRAPPED])
    with pytest.raises(ValueError, match="without a total charge"):
        PETCalculator([WRAPPED, MODELS[0]], charge=1.0)
    calculator = PETCalculator(Committee(tuple(MODELS)))
    with pytest.raises(UnknownSpeciesError, match="does not know Si"):
        calculator.compute([Atoms("Si")])
    with pytest.raises(PropertyNotImplementedError, match="polarizability: the model does not"):
        calculator.get_polarizability(molecule())
