"""Phonons of one crystal at several volumes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ase import Atoms
from rich.console import Console

from ase_pet.workflows.crystal import require_crystal
from ase_pet.workflows.phonons.cells import repeats_of
from ase_pet.workflows.phonons.harmonic import PhononRecord, compute_phonons
from ase_pet.workflows.phonons.settings import PhononSettings
from ase_pet.workflows.phonons.store import Store
from ase_pet.workflows.relax import RelaxSettings, relax

#: How atoms and the shape of the cell are brought to rest at a volume.
AT_REST = RelaxSettings("lbfgs", fmax=1e-4, cell="shape")


@dataclass(frozen=True, slots=True, eq=False)
class VolumePoint:
    """A crystal at one volume.

    Attributes:
        volume: Å³, of the primitive cell.
        energy: eV, of the primitive cell, without vibrations.
        record: Its phonons.
    """

    volume: float
    energy: float
    record: PhononRecord


def phonons_at(
    atoms: Atoms,
    settings: PhononSettings,
    changes: Sequence[float],
    out_dir: Path | None = None,
    *,
    at_rest: RelaxSettings | None = AT_REST,
    forces_dir: Path | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
) -> list[VolumePoint]:
    """Phonons at several volumes, each in a folder of its own.

    Args:
        atoms: Relaxed unit cell with a calculator; unchanged.
        settings: What to compute.
        changes: Relative changes of the volume; at 0 the crystal is taken as it is.
        out_dir: Folder for the folders; nothing is written if None.
        at_rest: How to relax at each volume; not at all if None.
        forces_dir: Folder in which forces are kept; none are if None.
        executor: Who evaluates supercells.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If the structure is no crystal.
        RuntimeError: If a relaxation does not converge.
    """
    require_crystal(atoms, "phonons need")
    settings = replace(settings, supercell=repeats_of(atoms, settings))
    points = []
    for change in changes:
        folder = None if out_dir is None else out_dir / f"volume-{1 + change:.4f}"
        if console is not None:
            console.print(f"volume {change:+.2%}")
        crystal = atoms.copy()
        crystal.calc = atoms.calc
        if change:
            crystal.set_cell(atoms.cell.array * (1 + change) ** (1 / 3), scale_atoms=True)
            if at_rest is not None:
                relaxed = None if folder is None else folder / "relax"
                bring_to_rest(crystal, at_rest, relaxed, kept_in=forces_dir, console=console)
        record = compute_phonons(
            crystal, settings, folder, forces_dir=forces_dir, executor=executor, console=console
        )
        part = len(record.phonon.primitive) / len(crystal)
        volume, energy = crystal.get_volume() * part, crystal.get_potential_energy() * part
        points.append(VolumePoint(volume, float(energy), record))
    return points


def bring_to_rest(
    atoms: Atoms,
    settings: RelaxSettings,
    out_dir: Path | None = None,
    *,
    kept_in: Path | None = None,
    console: Console | None = None,
) -> None:
    """Relax a crystal, or give it the outcome of the same relaxation of an earlier run.

    Args:
        atoms: Moved in place.
        settings: How to relax.
        out_dir: Folder for what the relaxation writes.
        kept_in: Folder in which the outcome is kept, to the last bit.
        console: Where progress is shown; silent if None.

    Raises:
        RuntimeError: If the relaxation does not converge.
    """
    store = None if kept_in is None else Store(kept_in, atoms.calc)
    start, steps = atoms.copy(), asdict(settings)
    if atoms.constraints:
        steps["constraints"] = [constraint.todict() for constraint in atoms.constraints]
    kept = None if store is None else store.load([start], relaxation=steps)
    if kept is None:
        record = relax(atoms, settings, out_dir, console=console)
        if not record.converged:
            raise RuntimeError(
                f"the relaxation did not reach {settings.fmax} eV/Å in {settings.steps} steps; "
                "relax with `ase-pet relax` first, then give --no-relax"
            )
        if store is not None:
            arrays = {"cell": atoms.cell.array, "positions": atoms.positions}
            store.save(arrays, [start], relaxation=steps)
        return
    atoms.set_cell(kept["cell"])
    atoms.positions[:] = kept["positions"]
