"""md moves atoms and analyze looks at them, as the library does."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
from ase import Atoms

from ase_pet.formats import Model, native
from ase_pet.potentials.total import Total
from tests.tiny import tiny_modern_pet


def test_md_runs_and_continues(run, checkpoint: Path, silicon: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    options = ("--steps", 4, "--interval", 2, "--symmetry", "none")
    found = run("md", checkpoint, silicon, "--temperature", 300, *options, "--out", first)
    assert found.exit_code == 0
    assert "nve: 4/4" in found.stdout
    found = run("md", checkpoint, first / "final.extxyz", *options, "--out", second, "--json")
    assert found.exit_code == 0
    summary = json.loads((second / "summary.json").read_text())
    assert json.loads(found.stdout)["drift_meV_per_atom_per_ps"] == pytest.approx(
        summary["drift_meV_per_atom_per_ps"]
    )
    assert summary["calculator"]["checkpoint"] == str(checkpoint)
    assert len(summary["calculator"]["sha256"]) == 64
    assert summary["settings"]["temperature"] is None
    assert summary["mean_temperature_K"] > 50.0


def test_md_repeats_the_cell(run, checkpoint: Path, silicon: Path, tmp_path: Path) -> None:
    arguments = (
        "--repeat",
        2,
        1,
        1,
        "--steps",
        1,
        "--temperature",
        300,
        "--symmetry",
        "none",
        "--out",
        tmp_path / "a",
    )
    assert run("md", checkpoint, silicon, *arguments).exit_code == 0
    assert len(ase.io.read(tmp_path / "a" / "final.extxyz")) == 16


def test_md_resumes(run, checkpoint: Path, silicon: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    options = ("--interval", 2, "--symmetry", "none", "--out", out)
    options += ("--dynamics", "mtk-full", "--temperature", 300, "--pressure", 1, "--format", "h5")
    assert run("md", checkpoint, silicon, "--steps", 4, *options).exit_code == 0
    found = run("md", checkpoint, silicon, "--steps", 4, *options, "--resume")
    assert found.exit_code == 0
    assert "finished before" in found.stdout
    found = run("md", checkpoint, silicon, "--steps", 6, *options, "--resume")
    assert "mtk-full: 6/6" in found.stdout
    assert json.loads((out / "summary.json").read_text())["first_step"] == 4
    found = run("md", checkpoint, silicon, "--steps", 6, "--seed", 1, *options, "--resume")
    assert found.exit_code == 1
    assert "settings seed is 0 there and 1 here" in found.stderr
    found = run("md", checkpoint, silicon, "--steps", 2, "--seed", 1, *options, "--no-resume")
    assert found.exit_code == 0


def test_md_refuses_a_charge_that_may_be_of_one_cell_or_of_all(
    run, silicon: Path, tmp_path: Path
) -> None:
    network = tiny_modern_pet(conditioning=True, max_charge=2, max_spin=3)
    native.save(Model(Total(network), "float64", architecture="pet-metatrain"), tmp_path / "m.pt")
    atoms = Atoms("CO", [[0, 0, 0], [1.2, 0, 0]], cell=[4, 4, 4], pbc=True)
    atoms.write(tmp_path / "co.extxyz")
    options = ("--temperature", 50, "--steps", 1, "--symmetry", "none", "--repeat", 2, 1, 1)
    options += ("--out", tmp_path / "a")
    found = run("md", tmp_path / "m.pt", tmp_path / "co.extxyz", "--charge", 1, *options)
    assert found.exit_code == 1
    assert "1 may be the charge of one cell or of all 2" in found.stderr
    atoms.info["charge"] = 1
    atoms.write(tmp_path / "co.extxyz")
    assert run("md", tmp_path / "m.pt", tmp_path / "co.extxyz", *options).exit_code == 0
    assert ase.io.read(tmp_path / "a" / "final.extxyz").info["charge"] == 2


def test_analyze(run, checkpoint: Path, silicon: Path, tmp_path: Path) -> None:
    options = ("--temperature", 300, "--symmetry", "none", "--steps", 130, "--interval", 2)
    assert run("md", checkpoint, silicon, *options, "--out", tmp_path).exit_code == 0
    found = run("analyze", tmp_path / "md.traj", "--skip", 1, "--r-max", 4, "--json")
    assert found.exit_code == 0
    summary = json.loads((tmp_path / "analysis.json").read_text())
    assert json.loads(found.stdout).items() <= summary.items()
    assert summary["command"].startswith("ase-pet analyze")
    assert summary["n_frames"] == 65
    assert summary["spacing_ps"] == pytest.approx(0.002)
    assert summary["rdf"]["Si-Si"]["highest_peak_A"] == pytest.approx(2.35, abs=0.3)
    assert summary["msd"]["Si"]["standard_error_cm2_per_s"] > 0
    for kind in ("rdf", "msd", "vdos"):
        assert (tmp_path / f"{kind}.png").stat().st_size > 1000
        assert (tmp_path / f"{kind}.csv").read_text().count("\n") > 5


def test_analyze_says_what_it_leaves_out(run, silicon: Path, tmp_path: Path) -> None:
    found = run("analyze", silicon, "--out", tmp_path)
    assert found.exit_code == 1
    assert "frame 1 has other atoms" in found.stderr
    ase.io.write(tmp_path / "one.xyz", ase.io.read(silicon, "1"))
    found = run("analyze", tmp_path / "one.xyz", "--json")
    assert json.loads(found.stdout)["left_out"].keys() == {"msd", "vdos"}
    found = run("analyze", tmp_path / "one.xyz", "--kinds", "rdf, vdos")
    assert found.exit_code == 1
    assert "vdos: " in found.stderr
    found = run("analyze", tmp_path / "one.xyz", "--kinds", "rdf,xrd")
    assert "kinds: expected some of" in found.stderr
