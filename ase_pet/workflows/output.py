"""Files that workflows leave behind: whole or absent, never partial."""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io.formats import UnknownFileTypeError, filetype, ioformats
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ase_pet.formats.files import write_atomically
from ase_pet.workflows.provenance import provenance

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a summary that other programs can read.

    Raises:
        ValueError: If a number is not finite, because JSON has no such numbers.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    write_atomically(path, lambda file: file.write(text.encode() + b"\n"))


def write_summary(
    place: Path,
    calculator: Calculator,
    settings: DataclassInstance | Mapping[str, Any],
    found: Mapping[str, Any],
) -> None:
    """Write what was found, with which settings, by which model, command and versions.

    Args:
        place: The file, or the folder in which it is called ``summary.json``.
        calculator: Tells its options; a :class:`PETCalculator`, the sha256 of its model too.
        settings: Of the workflow.
        found: What else there is to write; numbers have to be finite.
    """
    given = settings if isinstance(settings, Mapping) else asdict(settings)
    head = {**provenance(), "calculator": calculator.todict(), "settings": given}
    path = place if place.suffix == ".json" else place / "summary.json"
    write_json(path, {**head, **found})


def write_csv(path: str | Path, columns: Mapping[str, Sequence[float] | np.ndarray]) -> None:
    """Write columns of equal length; the names say the units."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def write_structure(path: str | Path, structures: Atoms | Sequence[Atoms]) -> None:
    """Write structures in the format that the name of the file asks for.

    Raises:
        ValueError: If the format is unknown or cannot hold the structures.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        ase.io.write(temporary, structures)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_format(path: str | Path, n_structures: int) -> None:
    """Check, before anything is computed, that structures can be written under a name.

    Args:
        path: The file.
        n_structures: How many structures it is to hold.

    Raises:
        ValueError: If the name asks for no format that ASE writes, or for one that holds only one.
    """
    try:
        found = ioformats[filetype(str(path), read=False)]
    except (KeyError, UnknownFileTypeError):
        found = None
    if found is None or not found.can_write:
        raise ValueError(f"{path}: ASE cannot write such a file; give a name like x.extxyz")
    if found.single and n_structures > 1:
        raise ValueError(
            f"{path}: the format {found.name} holds one structure, not {n_structures}; give a name "
            "like x.extxyz"
        )


def write_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure as PNG."""
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image)
    write_atomically(path, lambda file: file.write(image.getvalue()))


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON has them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
