"""Many structures, evaluated together where the calculator can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator
from rich.console import Console

from ase_pet.workflows.progress import Progress

#: Atoms that are handed to the calculator at once.
_BATCH_ATOMS = 1024


def evaluate_all(
    calculator: Calculator,
    structures: Sequence[Atoms],
    properties: Sequence[str],
    *,
    label: str = "structures",
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Properties of each structure by name, in ASE's units.

    Args:
        calculator: Any ASE calculator; one with ``compute`` is asked for many at a time.
        structures: What to evaluate.
        properties: Names, like "energy".
        label: Of the progress.
        console: Where progress is shown; silent if None.
    """
    found: list[dict[str, Any]] = []
    size = max(1, _BATCH_ATOMS // max(map(len, structures), default=1))
    with Progress(console, label, len(structures)) as progress:
        for start in range(0, len(structures), size):
            batch = structures[start : start + size]
            if hasattr(calculator, "compute"):
                found += calculator.compute(batch)
            else:
                found += [
                    {name: calculator.get_property(name, atoms) for name in properties}
                    for atoms in batch
                ]
            progress.advance(n_steps=len(batch))
    return found
