"""The example of an infrared spectrum runs and finds the lines that it should."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_infrared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    script = ROOT / "examples" / "infrared.py"
    for _ in range(2):  # a second run replaces the first
        arguments = [str(script), "--steps", "40", "--out", str(tmp_path)]
        monkeypatch.setattr("sys.argv", arguments)
        runpy.run_path(str(script), run_name="__main__")
    dipole = float(capsys.readouterr().out.split()[1])
    assert 1.3 < dipole < 2.0  # debye
    text = (tmp_path / "modes.txt").read_text()
    assert text.count("Zero-point energy") == 1
    wavenumbers = [
        float(line.split()[2].rstrip("i"))
        for line in text.splitlines()
        if line[:5].strip().isdigit()
    ]
    assert len(wavenumbers) == 27
    assert 3500 < wavenumbers[-1] < 4100  # O-H stretches
    assert np.loadtxt(tmp_path / "spectrum.csv", delimiter=",", skiprows=1).shape[1] == 2
    assert (tmp_path / "infrared.png").stat().st_size > 5000
