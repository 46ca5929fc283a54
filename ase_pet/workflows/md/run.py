"""Molecular dynamics by ASE's integrators, watched at every step."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from rich.console import Console

from ase_pet.workflows.md import checkpoint
from ase_pet.workflows.md.checkpoint import Checkpoint
from ase_pet.workflows.md.files import Folder, read_rows
from ase_pet.workflows.md.integrator import Integrator, place
from ase_pet.workflows.md.record import MDRecord, measure
from ase_pet.workflows.md.settings import MDSettings
from ase_pet.workflows.md.watch import Watch
from ase_pet.workflows.progress import Progress


def run_md(
    atoms: Atoms,
    settings: MDSettings,
    out_dir: str | Path | None = None,
    *,
    resume: bool | None = None,
    console: Console | None = None,
) -> MDRecord:
    """Run molecular dynamics; the atoms, with a calculator attached, are moved.

    As the run goes, the folder receives ``md.csv``, ``md.traj`` (or ``.extxyz`` or ``.h5``) and
    ``md.checkpoint.npz``; at its end, also when it is interrupted or fails, ``md.png``,
    ``final.extxyz`` (positions and velocities, from which another run can start) and
    ``summary.json``. Files of an earlier run are left alone until the first evaluation has
    succeeded.

    A run that was stopped, by whatever means, continues from its checkpoint. What it wrote after
    the checkpoint is taken back, and the outcome is that of a run that was never stopped, bit for
    bit, if the calculator gives the same bits for the same structure: a ``PETCalculator`` does on
    a CPU with the same number of threads. (GPUs add up in no fixed order.)

    Args:
        atoms: Structure with a calculator; where a run continues, the one it started from.
        settings: What to run. A run at constant temperature may be continued with more steps.
        out_dir: Folder for the files; nothing is written if None.
        resume: True continues the run in the folder if there is one (a finished run is left as it
            is), False replaces it; None refuses to replace a run that is not finished.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If there is no calculator, or the atoms are at rest and no temperature is
            given, or the folder holds a run that is not this one.
        RuntimeError: If energy, forces or temperature run away, or an atom leaves all others;
            ``final.extxyz`` then holds the last good structure, if there is one.
    """
    if atoms.calc is None:
        raise ValueError("atoms: no calculator attached; set atoms.calc first")
    identity = checkpoint.identity_of(atoms, settings)
    out = None if out_dir is None else Path(out_dir)
    found = None if out is None else checkpoint.find(out, identity, settings, resume)
    n_equilibration = settings.equilibration // settings.every
    record = MDRecord(len(atoms), bool(atoms.pbc.any()), n_equilibration)
    if found is not None and out is not None:
        record.rows = read_rows(out / "md.csv", found.csv)
        if found.step == settings.total:
            place(atoms, found.state)
            if console is not None:
                console.print(f"{out}: finished before; more steps would continue it")
            return record
    watch = Watch(atoms, settings)
    integrator = _start(atoms, settings, found)
    folder = None if out is None else Folder(out, atoms, settings, identity, found)
    _run(integrator, record, watch, folder, console)
    return record


def _start(atoms: Atoms, settings: MDSettings, found: Checkpoint | None) -> Integrator:
    """The integrator at the beginning, or as it was at a checkpoint."""
    if found is not None:
        return Integrator.restored(atoms, settings, found.state)
    rng = np.random.default_rng(settings.seed)
    if settings.temperature is not None and not atoms.get_momenta().any():
        thermalize_momenta(atoms, settings.temperature, exact_temperature=True, rng=rng)
        if len(atoms) > 1:
            Stationary(atoms)
    if not atoms.get_momenta().any():
        raise ValueError(
            "atoms: at rest; give a temperature in K (--temperature on the command line) or "
            "velocities"
        )
    return Integrator(atoms, settings, rng)


def _run(
    integrator: Integrator,
    record: MDRecord,
    watch: Watch,
    folder: Folder | None,
    console: Console | None,
) -> None:
    """Go to the end, or to where it cannot go on; files are left whole in any case."""
    settings, first = integrator.settings, integrator.step
    status, began = "failed", time.perf_counter()
    try:
        with Progress(console, settings.dynamics, settings.total) as progress:
            if first:
                progress.keep("continued", first)
            for step in integrator.run():
                _look(integrator, record, watch, folder, is_new=step > first or not record.rows)
                if step > first:
                    progress.advance(f"{integrator.atoms.get_temperature():.0f} K")
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except (ValueError, RuntimeError) as error:
        kept = ""
        if folder is not None and folder.last is not None:
            kept = f"The last good structure is in {folder.path / 'final.extxyz'}. "
        raise RuntimeError(
            f"molecular dynamics stopped after step {integrator.step}: {error}. {kept}"
            "Try a shorter time_step or relax the structure first"
        ) from error
    finally:
        if folder is not None:
            seconds = time.perf_counter() - began
            timing = {"n_steps": integrator.step, "first_step": first, "seconds": seconds}
            try:
                folder.summarise(record, integrator.atoms, {**timing, "status": status})
            finally:
                # Last: a run whose checkpoint says that it is finished has all its files.
                folder.close()


def _look(
    integrator: Integrator, record: MDRecord, watch: Watch, folder: Folder | None, *, is_new: bool
) -> None:
    """Check a step, and record it unless a checkpoint was taken after that."""
    step, atoms = integrator.step, integrator.atoms
    watch.check(step)
    is_due = is_new and integrator.settings.is_recorded(step)
    if is_due:
        record.append(measure(atoms, integrator.time_ps, integrator.conserved))
    if folder is not None:
        folder.begin()
        if is_due:
            folder.record(record, atoms, step)
        folder.keep(integrator.state())
