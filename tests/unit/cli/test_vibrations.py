"""phonons gives what the library gives."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np


def test_phonons(run, checkpoint: Path, tmp_path: Path) -> None:
    from ase.build import bulk

    ase.io.write(tmp_path / "si.extxyz", bulk("Si"))
    out = tmp_path / "out"
    arguments = ("--supercell", 2, 2, 2, "--mesh", 10, "--dtype", "float64", "--fmax", 10)
    found = run("phonons", checkpoint, tmp_path / "si.extxyz", *arguments, "--out", out, "--json")
    assert found.exit_code == 0
    summary = json.loads(found.stdout)
    assert summary["n_atoms_supercell"] == 16
    assert summary["n_supercells"] == 1
    optical = np.sort(np.abs(summary["gamma_cm-1"]))[3:]
    assert np.ptp(optical) < 1e-6  # a triplet, by symmetry
    assert (out / "bands.png").stat().st_size > 1000
    assert (out / "relax" / "summary.json").is_file()
