"""Direct forces, targets and budgets of memory, as the calculator's options."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from numpy.testing import assert_allclose

from ase_pet import PETCalculator
from ase_pet.errors import CheckpointError
from ase_pet.formats import Model, load, native
from ase_pet.interfaces.calculator_options import parse_bytes
from ase_pet.potentials.total import Total
from tests.foreign_metatrain import checkpoint, write
from tests.tiny import tiny_modern_pet

HEADS = {"forces_scales": (0.5, 2.0, 3.0), "stress_scales": (1.0, 2.0, 0.7)}
ENERGIES = {name: {"quantity": "energy", "unit": "eV"} for name in ("mtt::a", "mtt::b")}


def made(**options: Any) -> Model:
    return Model(Total(tiny_modern_pet(1, messages="residual", **options)), "float64")


def diamond() -> Atoms:
    atoms = bulk("C")
    atoms.rattle(0.1, seed=1)
    return atoms


def test_direct_forces_are_those_of_the_heads() -> None:
    model, atoms = made(**HEADS), diamond()
    conservative = PETCalculator(model, symmetry=None).compute([atoms])[0]
    atoms.calc = PETCalculator(model, symmetry=None, forces="direct")
    assert atoms.calc.implemented_properties == [
        *("energy", "free_energy", "energies", "forces", "stress")
    ]
    assert atoms.get_potential_energy() == pytest.approx(conservative["energy"], rel=1e-14)
    assert_allclose(atoms.get_potential_energies(), conservative["energies"], rtol=1e-14)
    assert np.abs(atoms.get_forces() - conservative["forces"]).max() > 1e-2
    graph = atoms.calc.engine.graph(_system(atoms))
    heads = model.potential.backbone.predict_direct(graph)[1]
    forces, virial = heads["forces"].numpy(), heads["stress"].sum(0).numpy()
    assert_allclose(atoms.get_forces(), forces - forces.mean(0), atol=1e-14)
    expected = 0.5 * (virial + virial.T) / atoms.get_volume()
    assert_allclose(atoms.get_stress(voigt=False), expected, atol=1e-15)
    with pytest.raises(PropertyNotImplementedError, match=r"stresses: .*forces='conservative'"):
        atoms.get_stresses()


def _system(atoms: Atoms) -> Any:
    from ase_pet.interfaces.ase_structures import system_from_atoms

    return system_from_atoms([atoms])


def test_nothing_is_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a gradient")

    monkeypatch.setattr("torch.autograd.grad", refuse)
    for symmetry in (None, "O(3)"):
        calc = PETCalculator(made(**HEADS), symmetry=symmetry, forces="direct")
        assert np.isfinite(calc.compute([diamond()])[0]["forces"]).all()
    with pytest.raises(AssertionError, match="a gradient"):
        PETCalculator(made(**HEADS)).compute([diamond()])


def test_a_model_without_a_head_for_stress_has_forces_only() -> None:
    atoms = diamond()
    atoms.calc = PETCalculator(made(forces_scales=HEADS["forces_scales"]), forces="direct")
    assert "stress" not in atoms.calc.implemented_properties
    assert np.abs(atoms.get_forces()).max() > 1e-3
    with pytest.raises(PropertyNotImplementedError, match="stress: the model has no head for it"):
        atoms.get_stress()
    assert "stress" not in atoms.calc.results
    atoms.calc.set(forces="conservative")
    assert atoms.get_stress().shape == (6,)


def test_the_choice_of_forces_may_change_and_survives_copies() -> None:
    atoms, calc = diamond(), PETCalculator(made(**HEADS))
    atoms.calc = calc
    conservative = atoms.get_forces()
    assert calc.set(forces="direct") == {"forces": "direct"}
    direct = atoms.get_forces()
    assert np.abs(direct - conservative).max() > 1e-2
    assert calc.todict()["forces"] == "direct"
    for other in (pickle.loads(pickle.dumps(calc)), copy.deepcopy(calc)):
        assert np.array_equal(other.compute([atoms])[0]["forces"], direct)
        assert "stresses" not in other.implemented_properties
    calc.set(forces="conservative")
    assert_allclose(atoms.get_forces(), conservative, atol=1e-13)
    assert atoms.get_stresses().shape == (2, 6)


@pytest.mark.parametrize(
    ("forces", "message"),
    [
        ("direct", "no heads for direct forces; use forces='conservative' or load a model"),
        ("both", r"forces: expected one of \('conservative', 'direct'\), got 'both'"),
    ],
)
def test_forces_that_a_model_has_not_are_refused(forces: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PETCalculator(made(), forces=forces)
    calc = PETCalculator(made())
    with pytest.raises(ValueError, match=message):
        calc.set(forces=forces)
    assert calc.parameters["forces"] == "conservative"
    assert "stresses" in calc.implemented_properties


def test_a_target_is_chosen_when_the_file_is_read(tmp_path: Path) -> None:
    nets = {name: tiny_modern_pet(seed=k) for k, name in enumerate(ENERGIES)}
    content = checkpoint(nets["mtt::a"], targets=ENERGIES, target="mtt::a")
    other = checkpoint(nets["mtt::b"], target="mtt::b")["model_state_dict"]
    heads = {k: v for k, v in other.items() if "mtt::b" in k}
    content["model_state_dict"] |= heads
    path, atoms = write(content, tmp_path / "model.ckpt"), molecule("CH3OH")
    energies = []
    for name in ENERGIES:
        calc = PETCalculator(path, target=name)
        assert calc.model.metadata["source"]["target"] == calc.todict()["target"] == name
        assert json.loads(json.dumps(calc.todict()))["target"] == name
        assert pickle.loads(pickle.dumps(calc)).parameters["target"] == name
        energies.append(calc.compute([atoms])[0]["energy"])
        expected = PETCalculator(load(path, target=name)).compute([atoms])[0]["energy"]
        assert energies[-1] == expected
        assert calc.set(target=name) == {}
        with pytest.raises(ValueError, match="target: chosen when the model is read; make a new"):
            calc.set(target="mtt::c")
    assert energies[0] != energies[1]
    for wrong in (None, "mtt::c"):
        with pytest.raises(CheckpointError, match=r"choose one.*\['mtt::a', 'mtt::b'\]"):
            PETCalculator(path, target=wrong)
    for loaded in (calc.model, [calc.model, calc.model]):
        with pytest.raises(ValueError, match=r"loaded already; choose with load\(path, target='x'"):
            PETCalculator(loaded, target="x")
    native.save(calc.model, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="target: only models with several targets"):
        PETCalculator(tmp_path / "model.pt", target="mtt::a")


@pytest.mark.parametrize(("text", "found"), [("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), (7, 7)])
def test_bytes(text: int | str, found: int) -> None:
    assert parse_bytes(text) == found


@pytest.mark.parametrize("symmetry", [None, "O(3)"])
def test_copies_and_processes_give_the_same_bits_of_a_charged_model(
    symmetry: str | None, tmp_path: Path
) -> None:
    network = tiny_modern_pet(2, conditioning=True, max_charge=2, max_spin=3, n_neighbors=3.0)
    path = write(checkpoint(network), tmp_path / "model.ckpt")
    calc = PETCalculator(path, symmetry=symmetry, charge=-1)
    atoms = molecule("CH3OH", vacuum=3.0)
    atoms.info["spin"] = 2
    atoms.calc = calc
    here = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    neutral = PETCalculator(path, symmetry=symmetry).compute([atoms])[0]
    assert abs(neutral["energy"] - here["energy"]) > 1e-3
    found = [other.compute([atoms])[0] for other in (copy.deepcopy(calc), copy.copy(calc))]
    found.append(pickle.loads(pickle.dumps(calc)).compute([atoms])[0])
    found.append(copy.deepcopy(atoms).calc.compute([atoms])[0])
    atoms.calc = None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found += pool.apply(calc.compute, ([atoms],))
    for other in found:
        for name, value in here.items():
            assert np.array_equal(other[name], value), name
