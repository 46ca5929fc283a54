"""Trajectories are read as they were written, whatever the format."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT

from ase_pet.workflows.md import MDSettings, run_md
from ase_pet.workflows.motion import read_motion


@pytest.mark.parametrize("file", ["traj", "extxyz", "h5"])
def test_of_a_run(tmp_path: Path, file: str) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    run_md(atoms, MDSettings(steps=20, temperature=300.0, format=file, interval=4), tmp_path)
    motion = read_motion(tmp_path / f"md.{file}")
    assert len(motion) == 6
    assert motion.spacing == pytest.approx(0.004)
    assert motion.pbc.all()
    assert motion.numbers.tolist() == [29] * 4
    assert np.allclose(motion.positions[-1], atoms.positions, atol=1e-7)
    assert np.allclose(motion.velocities[-1], atoms.get_velocities() * units.fs, atol=1e-8)
    assert np.allclose(motion.cells, atoms.cell.array)
    assert np.allclose(motion.after(2).positions, motion.positions[2:])
    with pytest.raises(ValueError, match="skip: expected 0 to 5 frames, got 6"):
        motion.after(6)
    with pytest.raises(ValueError, match=r"says 0.004 ps between frames, got 0.1"):
        read_motion(tmp_path / f"md.{file}", 0.1)


def test_of_other_programs(tmp_path: Path) -> None:
    frames = [bulk("Cu"), bulk("Cu")]
    ase.io.write(tmp_path / "a.xyz", frames)
    motion = read_motion(tmp_path / "a.xyz", 0.5)
    assert motion.spacing == 0.5
    assert motion.velocities is None
    assert read_motion(tmp_path / "a.xyz").spacing is None
    with pytest.raises(ValueError, match="spacing: expected a positive number"):
        read_motion(tmp_path / "a.xyz", 0.0)


def test_files_that_are_no_trajectories(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_motion(tmp_path / "a.xyz")
    ase.io.write(tmp_path / "a.xyz", [bulk("Cu"), bulk("Al")])
    with pytest.raises(ValueError, match="frame 1 has other atoms"):
        read_motion(tmp_path / "a.xyz")
    for name in ("b.xyz", "b.h5"):
        (tmp_path / name).write_text("nothing")
        with pytest.raises(ValueError, match=r"b\.\w+: "):
            read_motion(tmp_path / name)
    frames = [bulk("Cu") for _ in range(3)]
    for atoms, t in zip(frames, (0.0, 1.0, 3.0), strict=True):
        atoms.info["time_ps"] = t
    ase.io.write(tmp_path / "c.extxyz", frames)
    with pytest.raises(ValueError, match="not evenly spaced"):
        read_motion(tmp_path / "c.extxyz")
