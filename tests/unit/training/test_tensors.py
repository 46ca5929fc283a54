"""Dipoles and polarizabilities are learnt beside energies, by every architecture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from ase_pet import PETCalculator, load
from ase_pet.cli.main import app
from ase_pet.training.evaluation import evaluate
from ase_pet.training.loop import train
from ase_pet.workflows import checks

TENSORNET = {"architecture": "tensornet", "n_units": 8, "n_functions": 6, "readout_width": 8}


@pytest.fixture(scope="module")
def molecules() -> list[ase.Atoms]:
    """Bent molecules with point charges, and polarizable atoms along their bonds."""
    rng = np.random.default_rng(3)
    result = []
    for k in range(40):
        angle, bonds = rng.uniform(1.4, 2.2), rng.uniform(0.9, 1.1, 2)
        positions = np.array([[0, 0, 0], [bonds[0], 0, 0], [0, 0, 0]])
        positions[2] = bonds[1] * np.array([np.cos(angle), np.sin(angle), 0.0])
        positions = positions @ Rotation.random(random_state=k).as_matrix().T
        atoms = ase.Atoms("OH2", positions, info={"split": "val" if k % 5 == 0 else "train"})
        bonds = positions[1:] - positions[0]
        atoms.info["polarizability"] = 0.05 * np.eye(3) + 0.1 * bonds.T @ bonds
        energy = float(((np.linalg.norm(bonds, axis=1) - 1.0) ** 2).sum())
        forces = np.zeros((3, 3))
        labels = {"energy": energy, "forces": forces, "dipole": 0.3 * bonds.sum(0)}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        result.append(atoms)
    return result


@pytest.mark.parametrize("architecture", ["pet", "tensornet"])
def test_a_run_learns_tensors(
    architecture: str,
    recipe: dict[str, Any],
    write_recipe: Callable[..., Path],
    molecules: list[ase.Atoms],
    tmp_path: Path,
) -> None:
    data = tmp_path / "water.extxyz"
    write(data, molecules)
    for part, split in (("train", "train"), ("validation", "val")):
        recipe["data"][part] = {"path": str(data), "where": {"split": split}}
    if architecture == "tensornet":
        recipe |= {"model": dict(TENSORNET), "rotations": "none"}
    recipe["model"] |= {"dipole": True, "polarizability": True, "cutoff": 2.5}
    recipe["loss"] = {"energy": {"weight": 0.01, "scale": 0.1}, "forces": {"weight": 0, "scale": 1}}
    recipe["optimizer"] = {"learning_rate": 0.01, "ema": 0.5}
    path = train(write_recipe(recipe | {"epochs": 25, "frames": 0.9 * (architecture == "pet")}))

    model = load(path)
    assert model.tensors == ("dipole", "polarizability")
    held_out = [atoms for atoms in molecules if atoms.info["split"] == "val"]
    found = evaluate(model, held_out)["O(3)"]["all"]
    spread = np.std([atoms.get_dipole_moment() for atoms in molecules])
    assert found["dipole_rmse"] < 0.4 * spread
    assert found["polarizability_rmse"] < 0.03
    history = np.genfromtxt(tmp_path / "run" / "history.csv", delimiter=",", names=True)
    assert history["validation_dipole_mae"][-1] < 0.5 * history["validation_dipole_mae"][0]

    calculator = PETCalculator(model, dtype="float64", device="cpu")
    errors = checks.rotation_errors(calculator, held_out[0])
    assert errors.tensors is not None
    assert errors.within(1e-11)
    replayed = checks.replay_self_test(model, "cpu")
    assert all(part.tensors is not None and part.tensors < 1e-12 for part in replayed.values())

    runner = CliRunner()
    assert "energy, forces, stress, dipole, polarizability" in runner.invoke(
        app, ["info", str(path)], env={"COLUMNS": "200"}
    ).stdout.replace("\n", " ")
    out = tmp_path / "out.extxyz"
    told = runner.invoke(app, ["eval", str(path), str(data), "-o", str(out), "--json"])
    assert told.exit_code == 0, told.stderr
    written = read(out, index="0")
    assert json.loads(told.stdout)[0]["dipole"] == pytest.approx(
        list(written.get_dipole_moment()), abs=1e-7
    )
    assert written.info["polarizability"].shape == (3, 3)
    table = runner.invoke(app, ["eval", str(path), str(data)], env={"COLUMNS": "80"}).stdout
    assert f"{np.linalg.norm(written.get_dipole_moment()):.4f}" in table
    checked = runner.invoke(app, ["check", str(path)], env={"COLUMNS": "80"}).stdout
    assert "…" not in table + checked  # nothing is cut off


def test_validation_needs_labels_too(
    recipe: dict[str, Any],
    write_recipe: Callable[..., Path],
    molecules: list[ase.Atoms],
    tmp_path: Path,
) -> None:
    for part, labelled in (("train", True), ("validation", False)):
        chosen = molecules[:4] if labelled else [atoms.copy() for atoms in molecules[4:6]]
        for atoms, original in zip(chosen, molecules[4:], strict=False):
            if not labelled:
                kept = {k: v for k, v in original.calc.results.items() if k != "dipole"}
                atoms.calc = SinglePointCalculator(atoms, **kept)
        write(tmp_path / f"{part}.extxyz", chosen)
        recipe["data"][part] = {"path": str(tmp_path / f"{part}.extxyz")}
    recipe["model"] |= {"dipole": True, "cutoff": 2.5}
    with pytest.raises(ValueError, match="no validation frame has a dipole"):
        train(write_recipe(recipe))


def test_a_recipe_without_labels(recipe: dict[str, Any], write_recipe: Callable[..., Path]) -> None:
    recipe["model"] |= {"dipole": True}
    with pytest.raises(ValueError, match=r"model\.dipole is on, but no training frame"):
        train(write_recipe(recipe))
