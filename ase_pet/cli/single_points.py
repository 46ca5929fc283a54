"""The command that evaluates structures as they are: eval."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ase_pet.cli.options import (
    Json,
    StructurePath,
    check_out,
    frame_number,
    make_console,
    read_structures,
    show_json,
    takes_calculator,
)

if TYPE_CHECKING:
    from ase import Atoms

    from ase_pet import PETCalculator

#: Structures that are evaluated together.
_BATCH = 32


@takes_calculator
def evaluate_structures(
    calculator: PETCalculator,
    structure: StructurePath,
    index: Annotated[str, typer.Option(help="Which structures of the file, as ASE writes.")] = ":",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Extended XYZ file for the results; NAME.summary.json beside it."
        ),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Also that of the energy, of models that have one.")
    ] = False,
    json: Json = False,
) -> None:
    """Energies, forces and stress of the structures in a file, and what else a model predicts."""
    from ase_pet.interfaces.ase_models import WHICH
    from ase_pet.interfaces.ase_structures import evaluate_together
    from ase_pet.workflows.output import check_format, write_summary
    from ase_pet.workflows.progress import Progress

    if uncertainty and not calculator.model.uncertainties:
        raise ValueError(f"--uncertainty: this model has none; {WHICH}")
    structures = read_structures(structure, index)
    if out is not None:
        check_out(out)
        check_format(out, len(structures))
    results: list[dict[str, Any]] = []
    shown = None if json or len(structures) <= _BATCH else make_console()
    with Progress(shown, "structures", len(structures)) as progress:
        for start in range(0, len(structures), _BATCH):

            def name(k: int, start: int = start) -> str:
                return f"{structure}: frame {frame_number(structure, index, start + k)}"

            batch = structures[start : start + _BATCH]
            results += evaluate_together(calculator.compute, batch, name)
            progress.advance(n_steps=len(batch))
    for atoms, found in zip(structures, results, strict=True) if uncertainty else ():
        found["energy_uncertainty"] = calculator.uncertainty(atoms).energy
    if out is not None:
        _write_results(out, structures, results)
        settings = {"structure": str(structure), "index": index, "uncertainty": uncertainty}
        energies = {"energy_eV": [found["energy"] for found in results]}
        write_summary(out.with_suffix(".summary.json"), calculator, settings, energies)
    if json:
        return show_json(results)
    models = [Path(path).name for path in calculator.model.path.split(", ")]
    _show(structures, results, f"{structure}, {' and '.join(models)}")
    return None


def _show(structures: list[Atoms], results: list[dict[str, Any]], title: str) -> None:
    import numpy as np

    from ase_pet.units import EV_PER_A3_IN_GPA

    console = make_console()
    table = Table(title=title, min_width=min(len(title), console.width))
    uncertain = any("energy_uncertainty" in found for found in results)
    columns = ["", "formula", "energy\neV", "\neV/atom", "max force\neV/Å", "pressure\nGPa"]
    has_dipoles = any("dipole" in found for found in results)
    columns += ["dipole\ne·Å"] if has_dipoles else []
    for column in [*columns, "uncertainty\neV"] if uncertain else columns:
        table.add_column(column, justify="right", no_wrap=column != "formula")
    for k, (atoms, found) in enumerate(zip(structures, results, strict=True)):
        force = np.linalg.norm(found["forces"], axis=1).max()
        pressure = -found["stress"][:3].mean() * EV_PER_A3_IN_GPA if "stress" in found else None
        table.add_row(
            str(k),
            atoms.get_chemical_formula(),
            f"{found['energy']:.6f}",
            f"{found['energy'] / len(atoms):.6f}",
            f"{force:.6f}",
            "-" if pressure is None else f"{pressure:.4f}",
            *([_norm(found.get("dipole"))] if has_dipoles else []),
            *([f"{found['energy_uncertainty']:.6f}"] if uncertain else []),
        )
    console.print(table)


def _write_results(out: Path, structures: list[Atoms], results: list[dict[str, Any]]) -> None:
    """Write structures with what ASE knows as results, and the rest as their information."""
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    from ase_pet.potentials.tensors import RANKS
    from ase_pet.workflows.output import write_structure

    for atoms, found in zip(structures, results, strict=True):
        known = {name: value for name, value in found.items() if name in all_properties}
        atoms.calc = SinglePointCalculator(atoms, **known)
        for label in (*RANKS, "energy_uncertainty"):  # that of the file is not the model's
            atoms.info.pop(label, None)
        atoms.info.update({k: value for k, value in found.items() if k not in known})
    write_structure(out, structures)


def _norm(vector: Any) -> str:
    """Length of a vector with four digits; a dash for none."""
    import numpy as np

    return "-" if vector is None else f"{np.linalg.norm(vector):.4f}"


COMMANDS: dict[str, Callable[..., None]] = {"eval": evaluate_structures}
