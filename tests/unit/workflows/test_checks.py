"""The checks see what is wrong, and nothing where nothing is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from ase_pet.formats import Model, load
from ase_pet.formats.shipped import shipped_models
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from ase_pet.training.result import record_self_test
from ase_pet.workflows.checks import (
    Deviations,
    derivative_errors,
    each_rotation,
    largest,
    replay_self_test,
    rotation_errors,
)


class Flawed(Calculator):
    """EMT with a field along x that is felt in the energy and, or not, in the forces."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, *, in_energy: float = 0.0, in_forces: float = 0.0) -> None:
        super().__init__()
        self.in_energy, self.in_forces = in_energy, in_forces

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        copied = atoms.copy()
        copied.calc = EMT()
        x = atoms.positions[:, 0] - atoms.positions[:, 0].mean()
        self.results = {
            "energy": copied.get_potential_energy() + self.in_energy * float((x**2).sum()),
            "forces": copied.get_forces() + np.outer(self.in_forces * x, [-2.0, 0.0, 0.0]),
        }
        if atoms.cell.rank == 3:
            self.results["stress"] = copied.get_stress()


def rattled() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=2)
    return atoms


def test_an_invariant_model_passes() -> None:
    every = each_rotation(Flawed(), rattled(), n_rotations=7)
    assert len({errors.forces for errors in every}) == 7
    errors = rotation_errors(Flawed(), rattled(), n_rotations=7)
    assert errors.forces == max(one.forces for one in every)
    assert errors.within(1e-10)
    assert errors.virial is not None
    assert derivative_errors(Flawed(), rattled()).within(1e-6)


def test_a_field_breaks_the_symmetry_but_is_a_true_derivative_for_a_cluster() -> None:
    atoms = rattled()
    atoms.pbc, atoms.cell = False, None
    calculator = Flawed(in_energy=0.01, in_forces=0.01)
    errors = rotation_errors(calculator, atoms)
    assert errors.energy > 1e-3
    assert errors.forces > 1e-3
    assert errors.virial is None
    assert derivative_errors(calculator, atoms).within(1e-6)


def test_forces_that_are_no_derivative_are_found() -> None:
    errors = derivative_errors(Flawed(in_energy=0.01), rattled())
    assert errors.energy is None
    assert errors.forces > 1e-3
    assert errors.virial is not None
    assert errors.virial > 1e-3


def test_rotations_alone_do_not_see_a_chiral_model() -> None:
    class Chiral(Flawed):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            a, b, c = atoms.positions[1:4] - atoms.positions[0]
            self.results["energy"] += 0.1 * float(a @ np.cross(b, c))

    atoms = rattled()
    atoms.pbc = False
    assert rotation_errors(Chiral(), atoms, reflections=False).energy < 1e-10
    assert rotation_errors(Chiral(), atoms).energy > 1e-2


def test_a_nearly_flat_cell_has_no_virial() -> None:
    atoms = molecule("CO", calculator=EMT(), cell=[[9, 0, 0], [0, 9, 0], [0, 9, 1e-13]])
    assert derivative_errors(atoms.calc, atoms).virial is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rotations": 0}, "n_rotations: expected 1 or more, got 0"),
        ({"n_rotations": -1}, "n_rotations: expected 1 or more, got -1"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
    ],
)
def test_rotations_that_cannot_be_drawn(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rotation_errors(Flawed(), bulk("Cu"), **options)


def test_nan_is_never_within() -> None:
    assert not Deviations(float("nan"), 0.0, None).within(1.0)
    assert Deviations(None, 0.5, None).within(0.5)
    assert not largest([Deviations(0.0, float("nan")), Deviations(0.0, 1.0)]).within(2.0)


def test_self_tests_are_replayed() -> None:
    torch.manual_seed(0)
    hypers = PETHypers(
        cutoff=3.2, d_model=8, n_heads=2, d_feedforward=8, n_attention_layers=1, head_width=4
    )
    potential = Total(PET(hypers, [14]))
    model = Model(potential, "float32")
    assert replay_self_test(model) == {}
    self_test = record_self_test(model, bulk("Si"))
    model = dataclasses.replace(model, self_test=self_test)
    found = replay_self_test(model, "cpu")
    assert set(found) == {"bare", "symmetrized"}
    assert all(deviations.within(1e-10) for deviations in found.values())
    with torch.no_grad():
        next(potential.parameters()).mul_(1.1)
    assert not any(d.within(1e-10) for d in replay_self_test(model, "cpu").values())


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_answer_as_when_they_were_written(name: str) -> None:
    found = replay_self_test(load(name), "cpu")
    assert set(found) == {"bare", "symmetrized"}
    assert all(deviations.within(1e-10) for deviations in found.values())
