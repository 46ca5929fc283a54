"""Grüneisen parameters are logarithmic derivatives of frequencies by the volume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from ase_pet.workflows.phonons import PhononSettings, compute_gruneisen

SETTINGS = PhononSettings(supercell=(2, 2, 2), mesh=10.0, n_points=5, max_temperature=50.0)


def copper() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.5896)
    atoms.calc = EMT()
    return atoms


def test_they_are_derivatives_of_frequencies() -> None:
    record = compute_gruneisen(copper(), SETTINGS, change=0.02)
    q = [[0.5, 0.0, 0.5]]  # X, in the order of the bands
    smaller, here, larger = (
        np.sort(p.record.phonon.run_qpoints(q).frequencies[0]) for p in record.points
    )
    expected = -(larger**2 - smaller**2) / (2 * here**2 * 0.04)
    rows = np.isclose(np.stack([record.path[f"q_{k}"] for k in (1, 2, 3)], 1), q).all(1)
    rows &= record.path["segment"] == 1
    values = record.path["gruneisen"][rows][record.path["frequency_cm-1"][rows].argsort()]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert np.ptp(expected) > 0.01


def test_files_summary_and_mean(tmp_path: Path) -> None:
    record = compute_gruneisen(copper(), SETTINGS, tmp_path)
    table = np.genfromtxt(tmp_path / "gruneisen.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(table["gruneisen"], record.path["gruneisen"])
    assert (tmp_path / "gruneisen.png").stat().st_size > 1000
    assert np.abs(record.path["frequency_cm-1"]).min() > 10.0  # none at Γ
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["volumes_A3"] == pytest.approx([11.4476, 11.5632, 11.6788], abs=1e-4)
    # copper: 1.96 from thermodynamics; EMT, which is fitted to other properties, has somewhat more
    assert 1.8 < summary["gruneisen_mean_at_300_K"] < 2.5
    assert summary["gruneisen_lowest"] < record.mean(20.0) < summary["gruneisen_highest"]
    # at high temperature every mode has the same heat capacity
    plain = np.average(record.mesh["gruneisen"], weights=record.mesh["weight"])
    assert record.mean(1e5) == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("change", [0.0, -0.01, 0.3])
def test_changes_that_make_no_sense(change: float) -> None:
    with pytest.raises(ValueError, match="change: expected a relative volume"):
        compute_gruneisen(copper(), SETTINGS, change=change)
