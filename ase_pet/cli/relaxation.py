"""The command that relaxes atoms and cells: relax."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ase_pet.cli.options import (
    Json,
    OutFolder,
    StructurePath,
    check_out,
    make_console,
    read_structures,
    show,
    takes_calculator,
)

if TYPE_CHECKING:
    from ase_pet import PETCalculator


@takes_calculator
def relax_structure(
    calculator: PETCalculator,
    structure: StructurePath,
    optimizer: Annotated[str, typer.Option(help="fire or lbfgs.")] = "fire",
    fmax: Annotated[float, typer.Option(help="Largest force at which to stop, eV/Å.")] = 0.01,
    steps: Annotated[int, typer.Option(help="Most steps.")] = 500,
    cell: Annotated[str, typer.Option(help="fixed, full, isotropic or shape.")] = "fixed",
    pressure: Annotated[float, typer.Option(help="GPa.")] = 0.0,
    symprec: Annotated[float, typer.Option(help="Tolerance of the space group, Å.")] = 1e-5,
    keep_symmetry: Annotated[
        bool, typer.Option("--keep-symmetry", help="Snap to the space group and keep it.")
    ] = False,
    out: OutFolder = Path("relax"),
    json: Json = False,
) -> None:
    """Relax atoms and, if asked for, the cell; tells the space group before and after."""
    from ase_pet.workflows.relax import RelaxSettings, relax

    check_out(out, folder=True)
    settings = RelaxSettings(optimizer, fmax, steps, cell, pressure, symprec, keep_symmetry)
    atoms = read_structures(structure, "-1")[0]
    atoms.calc = calculator
    record = relax(atoms, settings, out, console=None if json else make_console())
    show(record.summary(), f"relaxation, files in {out}", as_json=json)
    if not record.converged:
        raise RuntimeError(
            f"not converged to {fmax} eV/Å after {steps} steps (largest force "
            f"{record.forces[-1]:.4g} eV/Å); continue from {out / 'relaxed.extxyz'} or raise "
            "--steps"
        )


COMMANDS: dict[str, Callable[..., None]] = {"relax": relax_structure}
