"""What a run says: a progress bar on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ase_pet.formats.files import write_atomically
from ase_pet.units import COULOMB_EV_A, EV_IN_MEV, EV_PER_A3_IN_GPA

#: Quantity -> (column title with unit, factor from internal units).
_COLUMNS = {
    "energy": ("energy meV/atom", EV_IN_MEV),
    "forces": ("forces meV/Å", EV_IN_MEV),
    "stress": ("stress GPa", EV_PER_A3_IN_GPA),
    "dipole": ("dipole me·Å", 1000.0),
    "polarizability": ("polarizability Å³", COULOMB_EV_A),
}


class Report:
    """Messages of a training run.

    Args:
        console: Where to; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    def line(self, text: str) -> None:
        """Print a line, without markup, never wrapped."""
        self.console.print(text, markup=False, soft_wrap=True)

    def track(self, batches: Sequence[Any], label: str) -> Iterator[Any]:
        """Iterate over batches behind a progress bar, if there is a terminal to show it."""
        if not self.console.is_terminal:
            yield from batches
            return
        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield from progress.track(batches)

    def epoch(self, row: dict[str, float]) -> None:
        """Print the outcome of one epoch."""
        errors = {k.removeprefix("validation_"): v for k, v in row.items()}
        parts = [
            f"{title} {errors[f'{name}_mae'] * unit:.4g}"
            for name, (title, unit) in _COLUMNS.items()
            if f"{name}_mae" in errors
        ]
        self.line(
            f"epoch {int(row['epoch']):4d}  {row['elapsed']:7.0f} s  rate {row['rate']:.2e}  "
            f"loss {row['train_loss']:.4g} / {errors['loss']:.4g}  MAE: " + ", ".join(parts)
        )

    def table(self, title: str, rows: dict[str, dict[str, float]]) -> None:
        """Print errors (MAE / RMSE) of several sets or groups."""
        self.console.print(error_table(title, rows))


def error_table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    """Lay out summaries of errors as MAE / RMSE columns.

    Args:
        title: Heading.
        rows: Summary (see ``ErrorSums.summary``) of each set or group.
    """
    table = Table(title=title)
    table.add_column("")
    shown = [n for n in _COLUMNS if any(f"{n}_mae" in summary for summary in rows.values())]
    for name in shown:
        table.add_column(f"{_COLUMNS[name][0]}\nMAE / RMSE", justify="right")
    for label, summary in rows.items():
        cells = [
            f"{summary[f'{n}_mae'] * _COLUMNS[n][1]:.4g} / "
            f"{summary[f'{n}_rmse'] * _COLUMNS[n][1]:.4g}"
            if f"{n}_mae" in summary
            else "-"
            for n in shown
        ]
        table.add_row(label, *cells)
    return table


def write_history(path: Path, rows: Iterable[dict[str, float]]) -> None:
    """Write one line for each validated epoch as CSV."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
