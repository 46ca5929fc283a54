"""eos and elastic, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

NAMES = {
    "eos": {"eos.csv", "eos.png", "summary.json", "relax"},
    "elastic": {"elastic.csv", "elastic.png", "summary.json", "relax"},
}


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    ase.io.write(tmp_path / "cu.extxyz", bulk("Cu", a=3.65))
    return tmp_path / "cu.extxyz"


@pytest.mark.parametrize("command", ["eos", "elastic"])
def test_files_and_summary(run, copper: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out"
    options = ("--symmetry", "none", "--out", out, "--fmax", "0.01", "--json")
    found = run(command, "pet-emt", copper, *options)
    assert found.exit_code == 0, found.stderr
    assert {path.name for path in out.iterdir()} == NAMES[command]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["calculator"]["symmetry"] is None
    printed = json.loads(found.stdout)
    assert {name: summary[name] for name in printed} == printed


def test_constants_are_shown_along_the_axes_of_the_conventional_cell(
    run, copper: Path, tmp_path: Path
) -> None:
    options = ("--symmetry", "none", "--no-relax-ions", "--no-relax", "--out", tmp_path / "out")
    found = run("elastic", "pet-emt", copper, *options)
    assert found.exit_code == 0, found.stderr
    assert "GPa, along conventional axes, clamped ions" in found.stdout
    assert not (tmp_path / "out" / "relax").exists()
    C = json.loads((tmp_path / "out" / "summary.json").read_text())["clamped"]["C_conventional_GPa"]
    assert f"{C[0][0]:.2f}" in found.stdout
    assert "C_GPa" not in found.stdout
    assert C[0][0] == pytest.approx(C[2][2])
    assert C[3][3] == pytest.approx(C[5][5])


@pytest.mark.parametrize("command", ["eos", "elastic"])
def test_a_relaxation_that_fails_says_what_to_do(run, copper, tmp_path, command: str) -> None:
    options = ("--symmetry", "none", "--steps", 1, "--fmax", 1e-6, "--out", tmp_path / "out")
    found = run(command, "pet-emt", copper, *options)
    assert found.exit_code == 1
    assert "did not reach 1e-06 eV/Å in 1 steps; raise --steps or --fmax" in found.stderr
    molecule = tmp_path / "molecule.xyz"
    molecule.write_text("2\n\nCu 0 0 0\nCu 0 0 2.2\n")
    found = run(command, "pet-emt", molecule, "--no-relax", "--out", tmp_path / "other")
    assert "crystal, periodic in three directions" in found.stderr
