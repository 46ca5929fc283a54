"""Trajectories that grow as a run goes, and go back to where a checkpoint was taken.

Each kind appends one frame at a time, so that a process that is killed leaves whole frames, and
says in a *mark* (three integers) how far it is. Opened with a mark, it forgets what came after.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz
from ase.io.trajectory import TrajectoryWriter
from ase.io.ulm import VERSION

Mark = tuple[int, int, int]
START: Mark = (0, 0, 0)


class Frames(Protocol):
    """A trajectory that grows."""

    def append(self, atoms: Atoms) -> None:
        """Write a frame with its results, momenta and ``info``."""

    def mark(self) -> Mark:
        """How far it is: number of frames, and what else the file needs to go back there."""

    def sync(self) -> None:
        """Return when all is on the disk."""

    def close(self) -> None:
        """Leave a file that is whole."""


class Lines:
    """Text that grows line by line.

    Args:
        path: The file, which is begun anew unless a size is given.
        size: Bytes to keep of the file that is there.

    Raises:
        ValueError: If the file has not as many.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        # Without a buffer, a piece is there as a whole or not at all if the process is killed.
        self._file = _opened(path, size)

    def write(self, text: str) -> None:
        """Append a piece of text."""
        self._file.write(text.encode())

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._file.tell()

    def sync(self) -> None:
        """Return when all is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ExtxyzFrames:
    """Extended XYZ, with eight decimals.

    Args:
        path: The file.
        mark: Where to go on; begun anew by default.
    """

    def __init__(self, path: Path, mark: Mark = START) -> None:
        self._lines, self._n_frames = Lines(path, mark[1]), mark[0]

    def append(self, atoms: Atoms) -> None:
        """Write a frame."""
        text = io.StringIO()
        write_extxyz(text, atoms)
        self._lines.write(text.getvalue())
        self._n_frames += 1

    def mark(self) -> Mark:
        """Frames and bytes."""
        return self._n_frames, self._lines.size, 0

    def sync(self) -> None:
        """Return when all is on the disk."""
        self._lines.sync()

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class TrajFrames:
    """ASE's binary trajectory.

    A file begins with its number of frames and the place of a table of them; both are set back.

    Args:
        path: The file.
        mark: Where to go on; begun anew by default.
    """

    def __init__(self, path: Path, mark: Mark = START) -> None:
        n_frames, size, table = mark
        if n_frames:
            with _opened(path, size) as file:
                file.seek(24)
                file.write(np.array([VERSION, n_frames, table], "<i8").tobytes())
        self._writer = TrajectoryWriter(path, "a" if n_frames else "w")

    def append(self, atoms: Atoms) -> None:
        """Write a frame."""
        self._writer.write(atoms)

    def mark(self) -> Mark:
        """Frames, bytes, and where the table is."""
        file = self._writer.backend
        return (file.nitems, file.fd.tell(), file.pos0) if file.nitems else START

    def sync(self) -> None:
        """Return when all is on the disk."""
        os.fsync(self._writer.backend.fd.fileno())

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def open_frames(path: Path, n_frames: int, like: Atoms, mark: Sequence[int] = START) -> Frames:
    """A trajectory of the kind that the name of the file asks for.

    Args:
        path: ``.traj``, ``.extxyz`` or ``.h5``.
        n_frames: How many frames there will be.
        like: The first frame, or one like it.
        mark: Where to go on; begun anew by default.

    Raises:
        ValueError: If the file holds less than the mark says.
    """
    n, size, table = mark
    if path.suffix == ".traj":
        return TrajFrames(path, (n, size, table))
    if path.suffix == ".extxyz":
        return ExtxyzFrames(path, (n, size, table))
    from ase_pet.workflows.md.h5md import H5MDFrames

    return H5MDFrames(path, n_frames, like, n)


def _opened(path: Path, size: int) -> io.FileIO:
    """The first ``size`` bytes of a file, to be written at its end."""
    if size and (not path.is_file() or path.stat().st_size < size):
        raise ValueError(
            f"{path}: shorter than its checkpoint says; begin anew in another folder, or here "
            "without resuming"
        )
    file = io.FileIO(path, "r+" if size else "w")
    file.truncate(size)
    file.seek(size)
    return file
