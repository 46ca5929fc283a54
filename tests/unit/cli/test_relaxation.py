"""relax gives what the library gives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ase.io


def test_relax_writes_its_files_also_if_it_does_not_converge(
    run, checkpoint: Path, silicon: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found = run("relax", checkpoint, silicon, "--steps", 2, "--fmax", 1e-9, "--out", out)
    assert found.exit_code == 1
    assert "space group" in found.stdout
    assert "not converged to 1e-09 eV/Å after 2 steps" in found.stderr
    assert len(ase.io.read(out / "relaxed.extxyz")) == 8
    options = ("--fmax", 10, "--symprec", 0.3, "--keep-symmetry", "--out", out, "--json")
    found = run("relax", checkpoint, silicon, *options)
    assert found.exit_code == 0
    rows = json.loads(found.stdout)
    assert rows["converged"] is True
    assert rows["space_group"] == ["Fd-3m (227)", "Fd-3m (227)"]
    assert rows["largest_displacement_A"] > 0.01


def test_progress_tells_the_pressure_where_the_cell_moves(
    run, checkpoint: Path, silicon: Path, tmp_path: Path
) -> None:
    options = ("--fmax", 1e-9, "--out", tmp_path / "out")
    lines = run("relax", checkpoint, silicon, *options, "--steps", 1, "--cell", "full").stdout
    assert re.search(r"fire: 1/1 .* eV/Å, -?\d+\.\d{3} GPa", lines)
    lines = run("relax", checkpoint, silicon, *options, "--steps", 1).stdout
    assert "GPa\n" not in lines.partition("relaxation")[0]
