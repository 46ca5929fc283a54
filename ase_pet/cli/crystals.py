"""The commands of crystals under load: eos, elastic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

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
    from ase import Atoms
    from rich.console import Console

    from ase_pet import PETCalculator

Relax = Annotated[bool, typer.Option(help="Relax atoms and cell before.")]
Steps = Annotated[int, typer.Option(help="Most steps of each relaxation.")]
Symprec = Annotated[float, typer.Option(help="Tolerance of the space group, Å.")]


@takes_calculator
def run_eos(
    calculator: PETCalculator,
    structure: StructurePath,
    form: Annotated[
        str,
        typer.Option(
            help="birchmurnaghan, birch, murnaghan, vinet, pouriertarantola or anton-schmidt."
        ),
    ] = "birchmurnaghan",
    n_volumes: Annotated[int, typer.Option(help="How many volumes.")] = 11,
    change: Annotated[float, typer.Option(help="Largest relative change of the volume.")] = 0.06,
    relax_atoms: Annotated[bool, typer.Option(help="Relax atoms at each volume.")] = True,
    relax: Relax = True,
    fmax: Annotated[float, typer.Option(help="Largest force of relaxations, eV/Å.")] = 1e-3,
    steps: Steps = 500,
    symprec: Symprec = 1e-5,
    out: OutFolder = Path("eos"),
    json: Json = False,
) -> None:
    """Energy over volume: V0, E0, bulk modulus and its derivative."""
    from ase_pet.workflows.crystal import require_crystal
    from ase_pet.workflows.eos import EOSSettings, compute_eos

    check_out(out, folder=True)
    settings = EOSSettings(form, n_volumes, change, relax_atoms, fmax, steps)
    console = None if json else make_console()
    atoms = read_structures(structure, "-1")[0]
    require_crystal(atoms, "an equation of state needs")
    atoms.calc = calculator
    if relax:
        _relax(atoms, out, console, fmax=fmax, steps=steps, symprec=symprec)
    record = compute_eos(atoms, settings, out, console=console)
    show(record.summary(), f"equation of state ({form}), files in {out}", as_json=json)


@takes_calculator
def run_elastic(
    calculator: PETCalculator,
    structure: StructurePath,
    strain: Annotated[float, typer.Option(help="Of the cell, both ways.")] = 0.005,
    relax_ions: Annotated[
        bool, typer.Option(help="Relax atoms in strained cells, beside clamped ones.")
    ] = True,
    symmetrize: Annotated[bool, typer.Option(help="Average over the point group.")] = True,
    relax: Relax = True,
    fmax: Annotated[float, typer.Option(help="Largest force of relaxations, eV/Å.")] = 1e-4,
    steps: Steps = 500,
    symprec: Symprec = 1e-5,
    out: OutFolder = Path("elastic"),
    json: Json = False,
) -> None:
    """Elastic constants, moduli and stability; give --dtype float64 for the most."""
    from ase_pet.workflows.crystal import require_crystal
    from ase_pet.workflows.elastic import ElasticSettings, compute_elastic

    check_out(out, folder=True)
    settings = ElasticSettings(strain, relax_ions, fmax, steps, symmetrize, symprec)
    console = None if json else make_console()
    atoms = read_structures(structure, "-1")[0]
    require_crystal(atoms, "elastic constants need")
    atoms.calc = calculator
    if relax:
        _relax(atoms, out, console, fmax=fmax, steps=steps, symprec=symprec)
    record = compute_elastic(atoms, settings, out, console=console)
    if not json:
        constants = record.conventional(record.best)
        _show_constants(constants, "relaxed" if relax_ions else "clamped")
    found: dict[str, Any] = record.summary()
    if not json:  # matrices are in the table and in the files
        del found["conventional_axes"]
        for kind in found.keys() & {"clamped", "relaxed"}:
            del found[kind]["C_GPa"], found[kind]["C_conventional_GPa"]
    show(found, f"elastic constants, files in {out}", as_json=json)


def _relax(atoms: Atoms, out: Path, console: Console | None, **settings: Any) -> None:
    """Relax atoms and cell before anything else."""
    from ase_pet.workflows.relax import RelaxSettings, relax

    to_rest = RelaxSettings("lbfgs", cell="full", **settings)
    if not relax(atoms, to_rest, out / "relax", console=console).converged:
        raise RuntimeError(
            f"the relaxation did not reach {to_rest.fmax} eV/Å in {to_rest.steps} steps; raise "
            "--steps or --fmax, or relax with `ase-pet relax` first, then give --no-relax"
        )


def _show_constants(C: Any, kind: str) -> None:
    table = Table(title=f"GPa, along conventional axes, {kind} ions")
    axes = ("xx", "yy", "zz", "yz", "xz", "xy")
    for column in ("", *axes):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in zip(axes, C, strict=True):
        table.add_row(name, *(f"{round(value, 2) + 0.0:.2f}" for value in row))
    make_console().print(table)


COMMANDS: dict[str, Callable[..., None]] = {"eos": run_eos, "elastic": run_elastic}
