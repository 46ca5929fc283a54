"""Files are whole or absent."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io.formats import UnknownFileTypeError

from ase_pet.workflows.output import (
    check_format,
    write_csv,
    write_json,
    write_structure,
    write_summary,
)
from ase_pet.workflows.relax import RelaxSettings


@pytest.mark.parametrize(
    ("name", "n_structures", "message"),
    [
        ("x.foo", 1, "ASE cannot write such a file"),
        ("x", 1, "ASE cannot write such a file"),
        ("x.extxyz", 3, None),
        ("POSCAR", 1, None),
        ("POSCAR", 2, "the format vasp holds one structure, not 2"),
    ],
)
def test_formats_are_known_before_anything_is_written(
    tmp_path: Path, name: str, n_structures: int, message: str | None
) -> None:
    told = nullcontext() if message is None else pytest.raises(ValueError, match=message)
    with told:
        check_format(tmp_path / name, n_structures)


def test_json_takes_arrays_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": np.arange(3), "y": np.float64(0.5), "path": tmp_path})
    assert json.loads(path.read_text()) == {"x": [0, 1, 2], "y": 0.5, "path": str(tmp_path)}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    with pytest.raises(TypeError, match="set cannot be written as JSON"):
        write_json(path, {"x": {1}})
    assert json.loads(path.read_text())["y"] == 0.5
    assert list(tmp_path.iterdir()) == [path]


def test_csv_needs_columns_of_one_length(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(ValueError, match=r"shorter|longer"):
        write_csv(path, {"a": [1.0], "b": [1.0, 2.0]})
    assert not path.exists()
    write_csv(path, {"a": [1.0, 2.0], "b": np.array([3.0, 4.0])})
    assert path.read_text().splitlines() == ["a,b", "1.0,3.0", "2.0,4.0"]


@pytest.mark.parametrize("name", ["a.extxyz", "a.vasp", "a.cif", "a.traj"])
def test_structures_in_the_format_of_the_name(tmp_path: Path, name: str) -> None:
    write_structure(tmp_path / name, bulk("Cu", cubic=True))
    assert len(ase.io.read(tmp_path / name)) == 4
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.extxyz"
    write_structure(path, bulk("Cu"))

    def fail_halfway(where: Path, _: object) -> None:
        where.write_text("4\nhalf")
        raise OSError("disk full")

    monkeypatch.setattr(ase.io, "write", fail_halfway)
    with pytest.raises(OSError, match="disk full"):
        write_structure(path, bulk("Cu", cubic=True))
    assert len(ase.io.read(path)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownFileTypeError, match="nonsense"):
        write_structure(tmp_path / "a.nonsense", bulk("Cu"))
    assert list(tmp_path.iterdir()) == []


def test_summaries_name_calculator_versions_and_settings(tmp_path: Path) -> None:
    write_summary(tmp_path, EMT(asap_cutoff=True), RelaxSettings(fmax=0.3), {"n": 1})
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["calculator"] == {"asap_cutoff": True}
    assert found["settings"]["fmax"] == 0.3
    assert found["n"] == 1
    versions = found["versions"]
    assert set(versions) == {"ase_pet", "torch", "ase", "numpy", "phonopy", "python"}
    assert versions["numpy"] == np.__version__
    assert abs(datetime.fromisoformat(found["date"]) - datetime.now(timezone.utc)).seconds < 60
    assert found["command"] == shlex.join(sys.argv)
    write_summary(tmp_path / "other.json", EMT(), {"given": 2}, {})
    assert json.loads((tmp_path / "other.json").read_text())["settings"] == {"given": 2}
