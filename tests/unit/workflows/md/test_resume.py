"""A run that was stopped continues bit for bit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from matplotlib.figure import Figure
from rich.console import Console

from ase_pet.workflows.md import DYNAMICS, FORMATS, MDSettings, run_md
from ase_pet.workflows.md.checkpoint import NAME, Checkpoint

BENCHMARKS = Path(__file__).resolve().parents[4] / "benchmarks"
Make = Callable[..., Atoms]


@pytest.fixture(autouse=True)
def _empty_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("ase_pet.workflows.md.files.plot_md", lambda *_, **__: Figure((1, 1)))


def settings_of(dynamics: str, **options: object) -> MDSettings:
    common = {"steps": 24, "temperature": 500.0, "interval": 3, "equilibration": 4}
    common |= {"damping": 20.0, "pressure_damping": 100.0}
    if dynamics.startswith("mtk"):
        common["pressure"] = 1.0
    return MDSettings(dynamics, **{**common, **options})


def stop_after(atoms: Atoms, n: int, error: BaseException | None = None) -> Atoms:
    """Let the calculator answer ``n`` times."""
    answer, left = atoms.calc.calculate, [n]

    def calculate(*args, **kwargs) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise error or KeyboardInterrupt
        answer(*args, **kwargs)

    atoms.calc.calculate = calculate
    return atoms


def contents(folder: Path) -> dict[str, bytes]:
    """All that must be the same; the summary says how long it took."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "summary.json"}


@pytest.mark.parametrize(
    ("dynamics", "end_temperature", "file"),
    [
        *((name, None, FORMATS[k % 3]) for k, name in enumerate(DYNAMICS)),
        *((name, 800.0, FORMATS[k % 3]) for k, name in enumerate(DYNAMICS[1:])),
    ],
)
def test_stopped_twice_is_never_stopped(
    silicon: Make, tmp_path: Path, dynamics: str, end_temperature: float | None, file: str
) -> None:
    settings = settings_of(dynamics, end_temperature=end_temperature, format=file)
    whole = run_md(silicon(), settings, tmp_path / "whole")
    for n in (3, 14):  # in the equilibration, and later
        with pytest.raises(KeyboardInterrupt):
            run_md(stop_after(silicon(), n), settings, tmp_path / "parts", resume=True)
    # the neighbour list of the first two was older, and longer
    atoms = silicon(skin=0.5)
    record = run_md(atoms, settings, tmp_path / "parts", resume=True)
    assert json.loads((tmp_path / "parts" / "summary.json").read_text())["first_step"] >= 14
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert np.array_equal(record.rows, whole.rows, equal_nan=True)


@pytest.mark.parametrize("file", FORMATS)
def test_what_was_written_after_the_checkpoint_is_taken_back(
    silicon: Make, tmp_path: Path, file: str
) -> None:
    settings = settings_of("langevin", format=file, steps=150)  # tables of .traj grow after 42
    run_md(silicon(), settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_md(stop_after(silicon(), 40), settings, tmp_path / "parts")
    early = (tmp_path / "parts" / NAME).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run_md(stop_after(silicon(), 105), settings, tmp_path / "parts", resume=True)
    (tmp_path / "parts" / NAME).write_bytes(early)
    run_md(silicon(), settings, tmp_path / "parts", resume=True)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_killed_at_random_moments(
    silicon: Make, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    kill_md = pytest.importorskip("kill_md")
    assert sys.modules["kill_md"].__file__ == str(BENCHMARKS / "kill_md.py")
    ase.io.write(tmp_path / "si.extxyz", silicon())
    options = {"dynamics": "langevin", "temperature": 500.0, "steps": 100, "interval": 2}
    options |= {"checkpoint_seconds": 0.01, "format": "traj"}
    found = kill_md.torture(str(checkpoint), tmp_path / "si.extxyz", options, 3, tmp_path / "runs")
    assert found.kills == 3
    assert any(step > 0 for step in found.resumed)
    assert found.different == []


def test_bits_depend_neither_on_the_skin_nor_on_steps_before(silicon: Make) -> None:
    ends = []
    for skin in (0.0, 0.5, 1.5):
        atoms = silicon(skin=skin)
        run_md(atoms, settings_of("nve", temperature=900.0, steps=60))
        fresh = silicon()
        fresh.positions = atoms.positions
        assert np.array_equal(fresh.get_forces(), atoms.get_forces())
        ends.append(atoms.positions)
    assert np.array_equal(ends[0], ends[1])
    assert np.array_equal(ends[0], ends[2])


def test_constraints_and_a_finished_run_that_becomes_longer(silicon: Make, tmp_path: Path) -> None:
    def fixed() -> Atoms:
        atoms = silicon()
        atoms.set_constraint(FixAtoms([0, 1]))
        return atoms

    run_md(fixed(), settings_of("bussi"), tmp_path / "whole")
    run_md(fixed(), settings_of("bussi", steps=9), tmp_path / "parts")
    run_md(fixed(), settings_of("bussi"), tmp_path / "parts", resume=True)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"is at step 28 already, 13 were asked for"):
        run_md(fixed(), settings_of("bussi", steps=9), tmp_path / "parts", resume=True)


def test_a_finished_run_is_left_as_it_is(silicon: Make, tmp_path: Path) -> None:
    settings = settings_of("nve")
    first = silicon()
    whole = run_md(first, settings, tmp_path)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    said, again = StringIO(), stop_after(silicon(), 0)
    record = run_md(again, settings, tmp_path, resume=True, console=Console(file=said))
    assert "finished before" in said.getvalue()
    assert np.array_equal(record.rows, whole.rows)
    assert record.summary() == whole.summary()
    assert np.array_equal(again.positions, first.positions)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()} == before
    run_md(silicon(), settings, tmp_path)  # replaced, as files of all workflows are


def test_an_unfinished_run_is_neither_continued_nor_replaced_unasked(
    silicon: Make, tmp_path: Path
) -> None:
    settings = settings_of("nve")
    with pytest.raises(KeyboardInterrupt):
        run_md(stop_after(silicon(), 10), settings, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"after step 9 of 28; continue it with resume=True"):
        run_md(silicon(), settings, tmp_path)
    assert contents(tmp_path) == before
    run_md(silicon(), settings, tmp_path, resume=False)
    assert Checkpoint.read(tmp_path).step == 28


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 600.0}, "settings temperature is 500.0 there and 600.0 here"),
        ({"steps": 2}, "settings interval is 3 there and 2 here"),
        ({"end_temperature": 600.0}, "settings end_temperature is None there and 600.0 here"),
    ],
)
def test_other_settings_are_refused(
    silicon: Make, tmp_path: Path, change: dict, message: str
) -> None:
    run_md(silicon(), settings_of("bussi"), tmp_path)
    with pytest.raises(ValueError, match=message):
        run_md(silicon(), settings_of("bussi", **change), tmp_path, resume=True)


def test_another_structure_or_model_is_refused(silicon: Make, tmp_path: Path) -> None:
    run_md(silicon(), settings_of("nve"), tmp_path)
    moved = silicon()
    moved.positions[0, 0] += 1e-12
    with pytest.raises(ValueError, match="holds another run: structure positions differs"):
        run_md(moved, settings_of("nve"), tmp_path, resume=True)
    with pytest.raises(ValueError, match="calculator dtype is float32 there and float64 here"):
        run_md(silicon(dtype="float64"), settings_of("nve"), tmp_path, resume=True)


@pytest.mark.parametrize("name", [NAME, "md.csv", "md.traj", "md.h5"])
def test_files_that_were_cut_are_refused(silicon: Make, tmp_path: Path, name: str) -> None:
    settings = settings_of("nve", format="h5" if name == "md.h5" else "traj")
    with pytest.raises(KeyboardInterrupt):
        run_md(stop_after(silicon(), 20), settings, tmp_path)
    path = tmp_path / name
    if name == "md.h5":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises((ValueError, RuntimeError), match=rf"{name}: .*begin anew"):
        run_md(silicon(), settings, tmp_path, resume=True)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    np.savez(tmp_path / NAME, version=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        Checkpoint.read(tmp_path)


def test_a_kill_before_the_first_checkpoint_leaves_no_older_one(
    silicon: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_md(silicon(), settings_of("nve"), tmp_path)
    monkeypatch.setattr(Checkpoint, "write", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        run_md(stop_after(silicon(), 5), settings_of("nve"), tmp_path, resume=False)
    assert Checkpoint.read(tmp_path) is None


@pytest.mark.parametrize(("seconds", "last"), [(60.0, None), (1e-9, 27)])
def test_no_run_counts_as_finished_before_its_last_files_are_there(
    silicon: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    last: int | None,
) -> None:
    found = []
    monkeypatch.setattr(
        "ase_pet.workflows.md.files.write_figure",
        lambda *_: found.append(Checkpoint.read(tmp_path)),
    )
    run_md(silicon(), settings_of("nve", checkpoint_seconds=seconds), tmp_path)
    assert [checkpoint and checkpoint.step for checkpoint in found] == [last]
    assert Checkpoint.read(tmp_path).step == 28


def test_h5md_in_the_field_s_layout(silicon: Make, tmp_path: Path) -> None:
    import h5py

    atoms = silicon()
    settings = settings_of("mtk-full", format="h5")
    run_md(atoms, settings, tmp_path / "h5")
    run_md(silicon(), settings_of("mtk-full"), tmp_path / "traj")
    frames = ase.io.read(tmp_path / "traj" / "md.traj", ":")
    with h5py.File(tmp_path / "h5" / "md.h5") as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        group = file["particles/all"]
        assert group["position/step"][:].tolist() == list(range(4, 29, 3))
        assert group["position/time"][-1] == pytest.approx(0.028)
        assert group["velocity/step"] == group["position/step"]  # one array, linked
        assert np.array_equal(group["position/value"], [x.positions for x in frames])
        forces = np.array([x.get_forces() for x in frames])
        assert np.allclose(group["force/value"], forces * 96.485332, rtol=1e-6)  # kJ/mol
        # what MDAnalysis 2.11 reads; it refuses files with forces in eV
        assert group["force/value"].attrs["unit"] == "kJ mol-1 Angstrom-1"
        assert file["h5md/modules/units"].attrs["version"].tolist() == [1, 0]
        assert np.array_equal(group["box/edges/value"], [x.cell.array for x in frames])
        assert group["box"].attrs["boundary"].tolist() == ["periodic"] * 3
        assert group["species"][:].tolist() == [14] * 8
        assert group["position/value"].attrs["unit"] == "Angstrom"
    assert frames[0].info["step"] == 4


def test_a_run_that_stops_early_leaves_no_empty_frames(silicon: Make, tmp_path: Path) -> None:
    import h5py

    with pytest.raises(KeyboardInterrupt):
        run_md(stop_after(silicon(), 12), settings_of("nve", format="h5"), tmp_path)
    with h5py.File(tmp_path / "md.h5") as file:
        assert file["particles/all/position/step"][:].tolist() == [4, 7, 10]
        assert np.isfinite(file["particles/all/position/value"]).all()


def test_a_killed_writer_of_h5md_leaves_a_file_that_opens(tmp_path: Path) -> None:
    import h5py

    from ase_pet.workflows.md.h5md import H5MDFrames

    atoms = bulk("Si")
    frames = H5MDFrames(tmp_path / "md.h5", 5, atoms)
    with h5py.File(tmp_path / "md.h5") as file:  # while it is written
        assert file["particles/all/position/step"][:].tolist() == [-1] * 5
        assert np.isnan(file["particles/all/position/value"]).all()
    frames.close()
