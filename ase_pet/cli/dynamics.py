"""The commands ``md`` and ``analyze``."""

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
    dynamics: Annotated[
        str, typer.Option(help="nve, langevin, bussi, nose-hoover, mtk-isotropic or mtk-full.")
    ] = "nve",
    steps: Annotated[int, typer.Option(help="Number of time steps.")] = 1000,
    time_step: Annotated[float, typer.Option(help="fs.")] = 1.0,
    temperature: Annotated[
        float | None, typer.Option(help="K; also of the velocities given to atoms at rest.")
    ] = None,
    damping: Annotated[float, typer.Option(help="Time constant of the thermostat, fs.")] = 100.0,
    interval: Annotated[int, typer.Option(help="Steps between two records.")] = 10,
    seed: Annotated[int, typer.Option(help="Of velocities and thermostat.")] = 0,
    max_temperature: Annotated[float, typer.Option(help="K, beyond which to stop.")] = 10_000.0,
    end_temperature: Annotated[
        float | None, typer.Option(help="K, to which the thermostat goes during the steps.")
    ] = None,
    pressure: Annotated[float | None, typer.Option(help="GPa, for mtk-...")] = None,
    pressure_damping: Annotated[
        float, typer.Option(help="Time constant of the barostat, fs.")
    ] = 1000.0,
    equilibration: Annotated[
        int, typer.Option(help="Steps before the others, in no average and no frame.")
    ] = 0,
    format: Annotated[  # noqa: A002
        str, typer.Option(help="Of the trajectory: traj, extxyz or h5 (H5MD).")
    ] = "traj",
    max_gap: Annotated[
        float, typer.Option(help="Å; an atom further from all others is lost: stop.")
    ] = 10.0,
    checkpoint_seconds: Annotated[
        float, typer.Option(help="Wall time between two checkpoints.")
    ] = 60.0,
    repeat: Annotated[
        tuple[int, int, int], typer.Option(help="Repeat the cell along its vectors.")
    ] = (1, 1, 1),
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Continue the run in the folder, if there is one, or replace it; by default one "
            "that is not finished is neither continued nor replaced.",
        ),
    ] = None,
    out: OutFolder = Path("md"),
    json: Json = False,
) -> None:
    """Molecular dynamics; starts from the velocities in the file, if there are any."""
    from ase_pet.workflows.md import MDSettings, run_md
    from ase_pet.workflows.repeat import repeat as repeated

    check_out(out, folder=True)
    settings = MDSettings(
        dynamics=dynamics,
        steps=steps,
        time_step=time_step,
        temperature=temperature,
        damping=damping,
        interval=interval,
        seed=seed,
        max_temperature=max_temperature,
        end_temperature=end_temperature,
        pressure=pressure,
        pressure_damping=pressure_damping,
        equilibration=equilibration,
        format=format,
        max_gap=max_gap,
        checkpoint_seconds=checkpoint_seconds,
    )
    atoms = repeated(read_structures(structure, "-1")[0], repeat, calculator.parameters)
    atoms.calc = calculator
    console = None if json else make_console()
    record = run_md(atoms, settings, out, resume=resume, console=console)
    show(record.summary(), f"molecular dynamics, files in {out}", as_json=json)


def analyze_trajectory(
    trajectory: Annotated[
        Path, typer.Argument(metavar="TRAJ", help="md.traj, md.h5, or any file that ASE reads.")
    ],
    kinds: Annotated[
        str | None,
        typer.Option("--kinds", help="Like rdf,msd,vdos (default: those that the file allows)."),
    ] = None,
    skip: Annotated[int, typer.Option(help="Frames to leave out at the start.")] = 0,
    spacing: Annotated[
        float | None, typer.Option(help="ps between frames, if the file does not say.")
    ] = None,
    r_max: Annotated[float, typer.Option(help="Å, reach of the radial distribution.")] = 6.0,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Lags, ps, between which diffusion is fitted."),
    ] = None,
    segments: Annotated[
        int, typer.Option(help="How much shorter than the run a window of the VDOS is.")
    ] = 4,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder (default: that of the trajectory).")
    ] = None,
    json: Json = False,
) -> None:
    """Radial distribution, diffusion and vibrations of a trajectory: tables and pictures."""
    from ase_pet.workflows.analyze import analyze

    out = trajectory.parent if out is None else out
    check_out(out, folder=True)
    found = analyze(
        trajectory,
        out,
        [kind.strip() for kind in kinds.split(",")] if kinds else None,
        skip=skip,
        spacing=spacing,
        r_max=r_max,
        window=window,
        n_segments=segments,
    )
    show(found, f"analysis, files in {out}", as_json=json)


COMMANDS: dict[str, Callable[..., None]] = {"md": run_dynamics, "analyze": analyze_trajectory}
