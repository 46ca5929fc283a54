"""phonons gives what the library gives."""

from __future__ import annotations

import json
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ase_pet.workflows import phonons


def test_phonons(run, checkpoint: Path, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "si.extxyz", bulk("Si"))
    out = tmp_path / "out"
    arguments = ("--supercell", 2, 2, 2, "--mesh", 10, "--dtype", "float64", "--fmax", 10)
    arguments += ("--band-points", 3)
    found = run("phonons", checkpoint, tmp_path / "si.extxyz", *arguments, "--out", out, "--json")
    assert found.exit_code == 0
    summary = json.loads(found.stdout)
    assert summary["n_atoms_supercell"] == 16
    assert summary["n_supercells"] == 1
    optical = np.sort(np.abs(summary["gamma_cm-1"]))[3:]
    assert np.ptp(optical) < 1e-6  # a triplet, by symmetry
    assert (out / "bands.png").stat().st_size > 1000
    assert (out / "relax" / "summary.json").is_file()
    again = run("phonons", checkpoint, tmp_path / "si.extxyz", *arguments, "--out", out, "--json")
    resumed = json.loads(again.stdout)
    assert resumed.pop("n_supercells_of_an_earlier_run") == 2
    for other in (summary, resumed):
        other.pop("seconds")
    assert summary.pop("n_supercells_of_an_earlier_run") == 0
    assert resumed == summary


def test_everything_at_once(
    run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def threads(n_workers: int) -> Executor:
        made.append(n_workers)
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(phonons, "make_workers", threads)
    ase.io.write(tmp_path / "si.extxyz", bulk("Si"))
    born = "14.4\n12 0 0 0 12 0 0 0 12\n0 0 0 0 0 0 0 0 0\n"
    (tmp_path / "BORN").write_text(born)
    out = tmp_path / "out"
    arguments = ["--supercell", 1, 1, 1, "--mesh", 5, "--dtype", "float64", "--no-relax"]
    arguments += ["--force-constants", "symfc", "--random", 6, "--seed", 3, "--irreps"]
    arguments += ["--nac", tmp_path / "BORN", "--max-temperature", 30, "--workers", 3]
    arguments += ["--gruneisen", "--volume-change", 0.02, "--band-points", 3]
    found = run("phonons", checkpoint, tmp_path / "si.extxyz", *arguments, "--out", out)
    assert found.exit_code == 0, found.output
    assert made == [3]
    assert "irrep: T2g" in found.stdout
    assert "gruneisen mean at 300 K" in found.stdout
    settings = json.loads((out / "summary.json").read_text())["settings"]
    assert (settings["n_random"], settings["seed"]) == (6, 3)
    assert settings["nac"] == str(tmp_path / "BORN")
    names = {path.name for path in (out / "gruneisen").iterdir()}
    assert names >= {"gruneisen.csv", "gruneisen.png", "summary.json", "volume-0.9800"}


@pytest.mark.parametrize(("lattice", "told"), [("CuAu", True), ("Cu", False)])
def test_of_compounds_the_splitting_that_is_missing_is_told(
    run, tmp_path: Path, lattice: str, told: bool
) -> None:
    atoms = bulk(lattice, "cesiumchloride", a=3.0) if told else bulk(lattice)
    ase.io.write(tmp_path / "x.extxyz", atoms)
    arguments = ("--supercell", 2, 2, 2, "--mesh", 10, "--band-points", 3, "--no-relax")
    found = run("phonons", "pet-emt", tmp_path / "x.extxyz", *arguments, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert ("without --nac" in found.stdout) == told


def test_qha(run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def compute(atoms: Atoms, settings: object, out: Path, **options: object) -> object:
        asked.update(options, out=out)
        return SimpleNamespace(summary=lambda: {"volume_A3": 40.0})

    monkeypatch.setattr(phonons, "compute_qha", compute)
    ase.io.write(tmp_path / "si.extxyz", bulk("Si"))
    arguments = ("--supercell", 1, 1, 1, "--mesh", 5, "--no-relax", "--qha", "--pressure", 2)
    arguments += ("--band-points", 2)
    arguments += ("--volumes", "-0.02,0,0.02,0.03,0.04", "--out", tmp_path / "out", "--json")
    found = run("phonons", checkpoint, tmp_path / "si.extxyz", *arguments)
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["qha"] == {"volume_A3": 40.0}
    assert asked["changes"] == [-0.02, 0.0, 0.02, 0.03, 0.04]
    assert (asked["pressure"], asked["at_rest"]) == (2.0, None)
    assert asked["out"] == tmp_path / "out" / "qha"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--volumes", "0,x"), "--volumes: expected numbers with a comma"),
        (("--random", "3"), "n_random: random displacements need a fit"),
        (("--workers", "0"), "workers: expected at least 1"),
        (("--nac", "none"), "nac: none: no such file"),
        (("--gruneisen", "--volume-change", "2"), "change: expected a relative volume"),
        (("--qha", "--volumes", "0,0.1"), "changes: expected five relative volumes"),
    ],
)
def test_failures(run, checkpoint: Path, tmp_path: Path, options: tuple, message: str) -> None:
    ase.io.write(tmp_path / "si.extxyz", bulk("Si"))
    found = run("phonons", checkpoint, tmp_path / "si.extxyz", "--out", tmp_path / "out", *options)
    assert found.exit_code == 1
    assert not (tmp_path / "out").exists()  # nothing was computed before
    assert message in found.stderr
