"""A committee answers with means and knows its spread."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ase_pet.committee import Committee, CommitteeEngine
from ase_pet.engine import Engine
from ase_pet.formats import Model
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, TENSORS, tiny_modern_pet, tiny_pet, tiny_tensornet

EVERY = structures(SPECIES)
BATCH = system_from_atoms([EVERY[name] for name in ("triclinic", "molecule")])


def model(network=None, **metadata) -> Model:
    return Model(Total(network or tiny_pet()), "float64", metadata)


def engines(*networks) -> list[Engine]:
    return [Engine(Total(network), device="cpu") for network in networks]


def test_results_are_means_of_the_members() -> None:
    members = engines(tiny_pet(**TENSORS), tiny_tensornet(**TENSORS), tiny_pet(seed=2))
    committee = CommitteeEngine(members)
    found, each = committee(BATCH), [engine(BATCH) for engine in members]
    for name in ("energy", "energies", "forces", "virial", "virials"):
        expected = sum(getattr(one, name) for one in each) / 3
        torch.testing.assert_close(getattr(found, name), expected, rtol=1e-13, atol=1e-13)
    assert found.tensors == {}  # the last one has none
    both = CommitteeEngine(members[:2])(BATCH).tensors["dipole"]
    torch.testing.assert_close(2.0 * both, each[0].tensors["dipole"] + each[1].tensors["dipole"])


def test_the_uncertainty_is_the_spread() -> None:
    members = engines(tiny_pet(), tiny_tensornet(), tiny_pet(seed=2))
    given = system_from_atoms([EVERY["triclinic"]])
    found, each = CommitteeEngine(members).uncertainty(given), [e(given) for e in members]
    energies, forces, virials = (
        np.array([getattr(one, name).numpy() for one in each])
        for name in ("energy", "forces", "virial")
    )
    assert (found.kind, found.n_atoms) == ("committee", len(EVERY["triclinic"]))
    assert found.energy == pytest.approx(energies.std(ddof=1), rel=1e-12)
    assert found.per_atom == found.energy / found.n_atoms
    assert found.energies is None
    np.testing.assert_allclose(found.forces, forces.var(0, ddof=1).sum(1) ** 0.5, rtol=1e-12)
    frobenius = virials.var(0, ddof=1).sum() ** 0.5 / EVERY["triclinic"].get_volume()
    assert found.stress == pytest.approx(frobenius, rel=1e-12)
    finite = CommitteeEngine(members).uncertainty(system_from_atoms([EVERY["molecule"]]))
    assert finite.stress is None


def test_equal_members_agree() -> None:
    committee = CommitteeEngine(engines(*[tiny_pet()] * 3))
    found = committee.uncertainty(system_from_atoms([EVERY["triclinic"]]))
    assert found.energy < 1e-13
    assert found.forces.max() < 1e-13
    assert found.stress < 1e-13


def test_a_structure_is_evaluated_once() -> None:
    committee = CommitteeEngine(engines(tiny_pet(), tiny_pet(seed=1)))
    calls = []

    def counted(engine):
        return lambda system: (calls.append(1), engine(system))[1]

    committee.engines = tuple(counted(engine) for engine in committee.engines)
    given = system_from_atoms([EVERY["triclinic"]])
    committee(given)
    committee.uncertainty(system_from_atoms([EVERY["triclinic"]]))
    assert len(calls) == 2
    moved = dataclasses.replace(given, positions=given.positions + 0.01)
    committee.uncertainty(moved)
    assert len(calls) == 4
    moved.positions[0, 0] += 0.01  # in place, as some host programs move atoms
    committee.uncertainty(moved)
    assert len(calls) == 6
    charged = dataclasses.replace(moved, charge=torch.zeros(1, dtype=torch.float64))
    committee.uncertainty(charged)
    assert len(calls) == 8


def test_ensembles_and_types_of_the_members() -> None:
    members = engines(tiny_pet(), tiny_tensornet())
    assert CommitteeEngine(members).ensemble(4, periodic=False) == "local"
    assert CommitteeEngine(members[1:] * 2).ensemble(4, periodic=False) is None
    deep = Engine(Total(tiny_pet(2)), device="cpu", dtype="float32")
    mixed = CommitteeEngine([members[0], deep])
    assert mixed.ensemble(4, periodic=False) == "local and shared"
    assert (CommitteeEngine(members).dtype, mixed.dtype) == ("float64", None)


def test_direct_forces_without_a_stress_have_a_spread() -> None:
    scales = {"forces_scales": (1.0, 1.0, 1.0)}
    networks = [tiny_modern_pet(seed=seed, **scales) for seed in (0, 1)]
    members = [Engine(Total(net), device="cpu", forces="direct") for net in networks]
    found = CommitteeEngine(members).uncertainty(system_from_atoms([EVERY["triclinic"]]))
    assert found.stress is None
    assert found.energy > 0.0
    assert found.forces.min() > 0.0


def test_what_a_committee_knows() -> None:
    hypers = PETHypers(cutoff=2.6, d_model=8, n_heads=2, d_feedforward=8, n_attention_layers=1)
    other = model(PET(hypers, (6, 8, 14)).double(), level_of_theory="PBE")
    committee = Committee((model(tiny_pet(dipole=True)), other))
    assert (committee.species, committee.tensors) == ((6, 8), ())
    assert committee.uncertainties == ("committee",)
    same = Committee((model(tiny_pet(**TENSORS)), model(tiny_tensornet(dipole=True))))
    assert same.tensors == ("dipole",)


def test_models_that_make_no_committee() -> None:
    with pytest.raises(ValueError, match="expected at least 2 models, got 1; a model alone is"):
        Committee((model(),))
    hypers = PETHypers(d_model=8, n_heads=2, d_feedforward=8, n_attention_layers=1)
    with pytest.raises(ValueError, match="no element in common; give"):
        Committee((model(), model(PET(hypers, (14,)))))
    theories = (model(level_of_theory="PBE"), model(level_of_theory="r2SCAN"))
    with pytest.raises(ValueError, match=r"levels of theory, \['PBE', 'r2SCAN'\]"):
        Committee(theories)
    assert Committee((theories[0], model())).members[0] is theories[0]
