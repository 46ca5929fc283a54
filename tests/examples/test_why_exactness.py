"""Exactness shows: ECSE at rounding, the bare network and its average over a grid far above it."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ase_pet.testing.contracts import transformed
from ase_pet.units import EV_PER_A3_IN_GPA

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "why_exactness.ipynb"


@pytest.fixture
def why(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "examples")
    import why_exactness

    return why_exactness


def test_why_exactness(why, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["why_exactness.py", "--quick", "--out", str(tmp_path)])
    why.main()
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "quick.json").read_text())["cases"]["Si"]
    ways = ("bare", "84 orientations", "ECSE")

    for kind in ("raw", "subtracted"):
        gamma = {way: found["gamma"][way]["2×2×2"][kind] for way in ways}
        assert 400 < gamma["ECSE"][0] < 550
        assert np.ptp(gamma["ECSE"]) < 1e-6 < 1.0 < np.ptp(gamma["bare"])
        assert np.ptp(gamma["84 orientations"]) > 1.0
    assert all(found["groups"]["ECSE"]["converged"])
    groups = {way: np.array(found["groups"][way]["groups"]) for way in ways}
    assert (groups["ECSE"] == "Fd-3m (227)").all()
    assert not (groups["bare"][:, -1] == "Fd-3m (227)").any()

    momentum = {way: max(found["rotation"][way]["momentum"]) for way in ways}
    assert momentum["ECSE"] < 1e-11 < 1e-4 < momentum["84 orientations"] < momentum["bare"]
    parts = {way: why.cubic(found["elastic"][way]["constants"]) for way in ways}
    assert np.ptp(parts["ECSE"], axis=0).max() < 1e-6
    assert parts["ECSE"][:, 3].max() < 1e-6 < 1.0 < parts["bare"][:, 3].min()
    assert np.ptp(parts["bare"], axis=0).min() > 1.0

    names = [f"{name}.png" for name in ("gamma", "groups", "rotation", "elastic")]
    assert all((tmp_path / name).stat().st_size > 10_000 for name in names)
    table = printed[printed.index("| Si and ethanol") :].split("\n\n")[0]
    del found["elastic"]["84 orientations"]  # a run that was stopped goes on
    (tmp_path / "quick.json").write_text(json.dumps({"cases": {"Si": found}}))
    why.main()
    again = capsys.readouterr().out
    assert table in again
    assert again.count(" s\n") == 1


def test_elastic_constants_are_curvatures_of_the_energy(why) -> None:
    exact = why.calculators("pet-si")["ECSE"]
    crystal = why.perfect(why.QUICK, exact)
    ((c11, _, c44, forbidden),) = why.cubic(
        why.measure_elastic(why.replace(why.QUICK, orientations=1), exact, crystal)["constants"]
    )
    assert forbidden < 1e-6
    strains = (np.diag([1.0, 0.0, 0.0]), np.array([[0.0, 0.5, 0.0], [0.5, 0.0, 0.0], [0.0] * 3]))
    for strain, expected in zip(strains, (c11, c44), strict=True):
        cells = [transformed(crystal, np.eye(3) + x * strain) for x in (-2e-3, 0.0, 2e-3)]
        below, middle, above = (results["energy"] for results in exact.compute(cells))
        curvature = (above - 2.0 * middle + below) / 2e-3**2 / crystal.get_volume()
        # Differences of fourth order in the strain are left, of both ways.
        assert curvature * EV_PER_A3_IN_GPA == pytest.approx(expected, rel=1e-3)


def test_cubic_part(why) -> None:
    C = np.zeros((1, 6, 6))
    C[0, :3, :3] = 60.0
    C[0, range(6), range(6)] = [160.0] * 3 + [80.0] * 3
    np.testing.assert_allclose(why.cubic(C), [[160.0, 60.0, 80.0, 0.0]], atol=1e-12)
    C[0, 0, 4] = -3.0
    C[0, 4, 4] += 3.0
    np.testing.assert_allclose(why.cubic(C), [[160.0, 60.0, 81.0, 3.0]], atol=1e-12)


def test_notebook(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """By a kernel where there is one; otherwise its cells one after the other."""
    monkeypatch.setenv("WHY_QUICK", "1")
    text = NOTEBOOK.read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    if find_spec("nbclient") and find_spec("ipykernel"):
        printed = run_by_kernel(text, monkeypatch)
    else:
        monkeypatch.chdir(NOTEBOOK.parent)
        monkeypatch.setattr("sys.path", [*sys.path])
        scope: dict[str, Any] = {}
        for cell in cells:
            exec("".join(line for line in cell["source"] if line[0] != "%"), scope)
        printed = capsys.readouterr().out
    assert "| Si and ethanol | bare | 84 orientations | ECSE |" in printed


def run_by_kernel(text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the last cell prints, after four have shown a picture."""
    import nbformat
    from nbclient import NotebookClient

    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    ran = nbformat.reads(text, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(ran, timeout=600, resources=resources).execute()
    outputs = [output for cell in ran.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    return outputs[-1]["text"]
