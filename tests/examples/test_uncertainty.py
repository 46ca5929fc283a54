"""The example of a committee runs, and its models differ more where they were not trained."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def test_uncertainty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    script = ROOT / "examples" / "uncertainty.py"
    monkeypatch.setattr("sys.argv", [str(script), "--points", "3", "--out", str(tmp_path)])
    with pytest.warns(UserWarning, match="above uncertainty_threshold=0.05"):
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.count("±") == 9
    table = np.genfromtxt(tmp_path / "strain.csv", delimiter=",", names=True)
    assert table["strain"].tolist() == pytest.approx([-0.05, 0.025, 0.1])
    assert table["energy"].argmax() == 2
    assert 10 * table["uncertainty"][:2].max() < table["uncertainty"][2] < 0.3
    assert (tmp_path / "uncertainty.png").stat().st_size > 5000
