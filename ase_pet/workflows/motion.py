"""Trajectories as arrays, from any file that ASE reads and from H5MD."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import units
from ase.geometry import complete_cell

from ase_pet.workflows.md.h5md import ROOT


@dataclass(frozen=True)
class Motion:
    """A trajectory of the same atoms, its frames evenly spaced in time.

    Attributes:
        numbers: Atomic numbers [n_atoms].
        masses: [n_atoms], u.
        pbc: [3].
        cells: [n_frames, 3, 3], Å, rows are lattice vectors.
        positions: [n_frames, n_atoms, 3], Å.
        velocities: [n_frames, n_atoms, 3], Å/fs; ``None`` where the file has none.
        spacing: ps between two frames; ``None`` where the file does not say.
    """

    numbers: np.ndarray
    masses: np.ndarray
    pbc: np.ndarray
    cells: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray | None
    spacing: float | None

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.positions)

    def after(self, n_frames: int) -> Motion:
        """The same without its first frames.

        Raises:
            ValueError: If none is left.
        """
        if not 0 <= n_frames < len(self):
            raise ValueError(f"skip: expected 0 to {len(self) - 1} frames, got {n_frames}")
        v = self.velocities
        return replace(
            self,
            cells=self.cells[n_frames:],
            positions=self.positions[n_frames:],
            velocities=None if v is None else v[n_frames:],
        )

    def displacements(self) -> np.ndarray:
        """Ways of the atoms since the first frame [n_frames, n_atoms, 3], Å.

        Atoms may have been wrapped into the cell: from frame to frame each takes the shorter way,
        which must be less than half a cell along each vector. Breathing of the cell is no way:
        differences of fractional coordinates are taken, times the cell of the later frame. The
        centre of mass stays.
        """
        cells = np.array([complete_cell(cell) for cell in self.cells])
        fractional = self.positions @ np.linalg.inv(cells)
        steps = np.diff(fractional, axis=0)
        steps -= np.round(steps) * self.pbc
        moves = np.zeros_like(self.positions)
        np.cumsum(steps @ cells[1:], axis=0, out=moves[1:])
        drift = np.einsum("i,tix->tx", self.masses, moves) / self.masses.sum()
        return moves - drift[:, None]


def read_motion(path: str | Path, spacing: float | None = None) -> Motion:
    """Read a trajectory.

    Args:
        path: In any format that ASE reads, or H5MD as ``ase-pet md`` writes it.
        spacing: ps between two frames, for files that do not say.

    Raises:
        ValueError: If it cannot be read, or its frames are not of the same atoms or not evenly
            spaced, or two spacings contradict each other.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check the path")
    found, times = _read_h5md(path) if path.suffix == ".h5" else _read_ase(path)
    if spacing is not None and not 0 < spacing < float("inf"):
        raise ValueError(f"spacing: expected a positive number of ps, got {spacing}")
    if times is not None and len(times) > 1:
        steps = np.diff(times)
        if not np.allclose(steps, steps[0], rtol=1e-6) or steps[0] <= 0:
            raise ValueError(f"{path}: frames are not evenly spaced in time; take a part of it")
        if spacing is not None and not np.isclose(spacing, steps[0], rtol=1e-6):
            raise ValueError(
                f"spacing: {path} says {steps[0]:g} ps between frames, got {spacing:g}; leave it "
                "out"
            )
        spacing = float((times[-1] - times[0]) / (len(times) - 1))
    return replace(found, spacing=spacing)


def _read_ase(path: Path) -> tuple[Motion, np.ndarray | None]:
    try:
        frames: Any = ase.io.read(path, ":")
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: ASE cannot read it as a trajectory: {reason}") from error
    if not frames:
        raise ValueError(f"{path}: no frame in it")
    first = frames[0]
    for k, atoms in enumerate(frames):
        same = np.array_equal(atoms.numbers, first.numbers) and (atoms.pbc == first.pbc).all()
        if not same:
            raise ValueError(f"{path}: frame {k} has other atoms than the first; split the file")
    has_velocities = all(atoms.has("momenta") for atoms in frames)
    times = [atoms.info.get("time_ps") for atoms in frames]
    found = Motion(
        numbers=first.numbers,
        masses=first.get_masses(),
        pbc=first.pbc.copy(),
        cells=np.array([atoms.cell.array for atoms in frames]),
        positions=np.array([atoms.positions for atoms in frames]),
        velocities=np.array([atoms.get_velocities() * units.fs for atoms in frames])
        if has_velocities
        else None,
        spacing=None,
    )
    return found, None if None in times else np.array(times, float)


def _read_h5md(path: Path) -> tuple[Motion, np.ndarray | None]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            group = file[ROOT]
            n = int((group["position/step"][:] >= 0).sum())
            if n == 0:
                raise ValueError(f"{path}: no frame in it yet")
            found = Motion(
                numbers=group["species"][:],
                masses=group["mass"][:],
                pbc=np.array([kind == "periodic" for kind in group["box"].attrs["boundary"]]),
                cells=group["box/edges/value"][:n],
                positions=group["position/value"][:n],
                velocities=group["velocity/value"][:n],
                spacing=None,
            )
            return found, group["position/time"][:n]
    except (OSError, KeyError) as error:
        raise ValueError(f"{path}: not H5MD as `ase-pet md` writes it: {error}") from error
