"""The folder of a run: what is written as it goes, and what at its end."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ase_pet.formats.files import remove_leftovers
from ase_pet.workflows.md import checkpoint
from ase_pet.workflows.md.checkpoint import Checkpoint
from ase_pet.workflows.md.integrator import place
from ase_pet.workflows.md.record import MDRecord
from ase_pet.workflows.md.settings import MDSettings
from ase_pet.workflows.md.trajectory import START, Frames, Lines, open_frames
from ase_pet.workflows.output import write_figure, write_structure, write_summary
from ase_pet.workflows.plots import plot_md


class Folder:
    """Files of a run in the making.

    Args:
        path: The folder, which is made.
        atoms: At the start of the run.
        settings: What is run.
        identity: Of the run, for its checkpoints.
        found: Where to go on; what was written after it is forgotten.
    """

    def __init__(
        self,
        path: Path,
        atoms: Atoms,
        settings: MDSettings,
        identity: dict[str, Any],
        found: Checkpoint | None,
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.settings, self.identity = path, settings, identity
        self.last = found
        self._like, self._written = atoms.copy(), time.monotonic()
        self._rows: Lines | None = None
        self._frames: Frames | None = None

    @property
    def csv(self) -> Path:
        """Thermodynamics."""
        return self.path / "md.csv"

    @property
    def trajectory(self) -> Path:
        """Frames."""
        return self.path / f"md.{self.settings.format}"

    def begin(self) -> None:
        """Open the files; only now is anything of an earlier run replaced."""
        if self._rows is not None:
            return
        mark = self.last.mark if self.last else START
        n_frames = self.settings.steps // self.settings.every + 1
        if self.last is None:
            # Without its files, the checkpoint of an earlier run must not be continued.
            (self.path / checkpoint.NAME).unlink(missing_ok=True)
        for path in (self.path / checkpoint.NAME, self.trajectory):
            remove_leftovers(path)
        self._frames = open_frames(self.trajectory, n_frames, self._like, mark)
        self._rows = Lines(self.csv, self.last.csv if self.last else 0)

    def record(self, record: MDRecord, atoms: Atoms, step: int) -> None:
        """Append the last row of a record and, after equilibration, a frame."""
        assert self._rows is not None
        assert self._frames is not None
        if len(record.rows) == 1:
            self._rows.write(",".join(record.names) + "\n")
        row = dict(zip(record.COLUMNS, record.rows[-1], strict=True))
        self._rows.write(",".join(repr(row[name]) for name in record.names) + "\n")
        if step >= self.settings.equilibration:
            frame = atoms.copy()
            frame.calc = atoms.calc
            frame.info |= {"step": step, "time_ps": row["time_ps"]}
            self._frames.append(frame)

    def keep(self, state: dict[str, np.ndarray]) -> None:
        """Remember a moment, and write it down if it is time to; the last waits for `close`."""
        assert self._rows is not None
        assert self._frames is not None
        self.last = Checkpoint(self.identity, state, self._rows.size, self._frames.mark())
        is_due = time.monotonic() - self._written >= self.settings.checkpoint_seconds
        if is_due and self.last.step < self.settings.total:
            self._write()

    def _write(self) -> None:
        if self.last is None or self._rows is None or self._frames is None:
            return
        self._rows.sync()
        self._frames.sync()
        self.last.write(self.path)
        self._written = time.monotonic()

    def close(self) -> None:
        """Write down the last moment that was good, and leave whole files."""
        if self._rows is None or self._frames is None:
            return
        try:
            self._write()
        finally:
            self._rows.close()
            self._frames.close()

    def summarise(self, record: MDRecord, atoms: Atoms, found: dict[str, Any]) -> None:
        """Write what a run leaves at its end: the last good structure, a figure, a summary."""
        if self.last is None or not record.rows:
            return
        final = self._like.copy()
        place(final, self.last.state)
        write_structure(self.path / "final.extxyz", final)
        figure = plot_md(record.columns(), record.n_atoms, periodic=record.periodic)
        write_figure(self.path / "md.png", figure)
        write_summary(self.path, atoms.calc, self.settings, {**found, **record.summary()})


def read_rows(path: Path, size: int) -> list[tuple[float, ...]]:
    """Rows of :class:`MDRecord` from the first bytes of ``md.csv``, bit for bit.

    Raises:
        ValueError: If the file is not as the run left it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(size)
        if len(text) < size:
            raise ValueError("it is shorter than its checkpoint says")
        rows = csv.DictReader(text.decode().splitlines())
        return [tuple(float(row.get(name, "nan")) for name in MDRecord.COLUMNS) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: not as the run left it ({error}); begin anew in another folder, or here "
            "without resuming"
        ) from error
