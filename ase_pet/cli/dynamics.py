"""The command that moves atoms in time: md."""

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
def run_dynamics(
    calculator: PETCalculator,
    structure: StructurePath,
    dynamics: Annotated[str, typer.Option(help="nve, langevin, bussi or nose-hoover.")] = "nve",
    steps: Annotated[int, typer.Option(help="Number of time steps.")] = 1000,
    time_step: Annotated[float, typer.Option(help="fs.")] = 1.0,
    temperature: Annotated[
        float | None, typer.Option(help="K; also of the velocities given to atoms at rest.")
    ] = None,
    damping: Annotated[float, typer.Option(help="Time constant of the thermostat, fs.")] = 100.0,
    interval: Annotated[int, typer.Option(help="Steps between two records.")] = 10,
    seed: Annotated[int, typer.Option(help="Of velocities and thermostat.")] = 0,
    max_temperature: Annotated[float, typer.Option(help="K, beyond which to stop.")] = 10_000.0,
    repeat: Annotated[
        tuple[int, int, int], typer.Option(help="Repeat the cell along its vectors.")
    ] = (1, 1, 1),
    out: OutFolder = Path("md"),
    json: Json = False,
) -> None:
    """Molecular dynamics; continues from the velocities in the file, if there are any."""
    from ase_pet.workflows.md import MDSettings, run_md

    check_out(out, folder=True)
    if min(repeat) < 1:
        raise ValueError(f"--repeat: expected three positive numbers like 2 2 2, got {repeat}")
    settings = MDSettings(
        dynamics, steps, time_step, temperature, damping, interval, seed, max_temperature
    )
    atoms = read_structures(structure, "-1")[0].repeat(repeat)
    atoms.calc = calculator
    record = run_md(atoms, settings, out, console=None if json else make_console())
    show(record.summary(), f"molecular dynamics, files in {out}", as_json=json)


COMMANDS: dict[str, Callable[..., None]] = {"md": run_dynamics}
