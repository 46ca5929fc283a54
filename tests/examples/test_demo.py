"""The demo runs from end to end and its numbers are what it claims."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = ROOT / "examples" / "demo.py"
    monkeypatch.setattr("sys.argv", [str(script), "--steps", "12", "--out", str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    found = json.loads((tmp_path / "demo.json").read_text())
    exact, bare = found["equivariance"]["ECSE"], found["equivariance"]["bare"]
    assert max(exact.values()) < 1e-10 < 1e-4 < bare["forces"]
    assert found["relaxation"]["space_group"] == ["P-1 (2)", "Fd-3m (227)"]
    gamma = {name: sorted(found["phonons"][name]["gamma_cm-1"])[-1] for name in found["phonons"]}
    assert abs(gamma["ECSE, rotated"] - gamma["ECSE, straight"]) < 1e-6
    assert abs(gamma["bare, rotated"] - gamma["bare, straight"]) > 1e-4
    assert abs(found["dynamics"]["nve"]["drift_meV_per_atom_per_ps"]) < 10.0
    change, start = (
        {n: found["cluster"][n][f"angular_momentum_{k}_hbar"] for n in ("ECSE", "bare")}
        for k in ("change", "start")
    )
    assert change["ECSE"] / start["ECSE"] < 1e-9 < change["bare"] / start["bare"]
    figures = {"phonons.png", "angular_momentum.png", "relax/relax.png", "nvt/md.png", "nve/md.png"}
    assert all((tmp_path / name).stat().st_size > 5000 for name in figures)
