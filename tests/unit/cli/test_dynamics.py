"""md moves atoms as the library does."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest


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
