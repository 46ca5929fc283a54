"""Molecular dynamics, a relaxation and phonons of silicon, in any orientation: ``make demo``.

Everything runs on the shipped model ``checkpoints/pet-si.pt`` in a few minutes on two CPU cores.
Files and pictures go to ``demo/``.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from ase.build import bulk
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

from ase_pet import PETCalculator
from ase_pet.workflows.checks import rotation_errors
from ase_pet.workflows.md import MDSettings, run_md
from ase_pet.workflows.phonons import PhononSettings, compute_phonons
from ase_pet.workflows.relax import RelaxSettings, relax

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "checkpoints" / "pet-si.pt"
OUT = ROOT / "demo"
MD_STEPS, MAX_STEPS = 150, 100
console = Console()


def rotations() -> None:
    """Compare a rotated crystal with the rotated results, with ECSE and without."""
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    table = Table(title="20 rotations and reflections of rattled silicon: largest deviation")
    for column in ("", "energy (rel.)", "forces (eV/Å)", "virial (eV)"):
        table.add_column(column, justify="left" if not column else "right")
    for name, symmetry in (("ECSE", "O(3)"), ("bare network", None)):
        calc = PETCalculator(MODEL, dtype="float64", symmetry=symmetry)
        errors = rotation_errors(calc, atoms, n_rotations=20)
        table.add_row(name, *(f"{x:.1e}" for x in (errors.energy, errors.forces, errors.virial)))
    console.print(table)


def dynamics() -> None:
    """Heat 64 atoms with a thermostat, then let them go."""
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.calc = PETCalculator(MODEL)
    nvt = MDSettings(
        "bussi", steps=MD_STEPS, time_step=2.0, temperature=300.0, damping=50.0, interval=2
    )
    run_md(atoms, nvt, OUT / "nvt", console=console)
    record = run_md(
        atoms, MDSettings("nve", steps=MD_STEPS, time_step=2.0, interval=2), OUT / "nve"
    )
    found = record.summary()
    console.print(
        f"NVE, 64 atoms, {found['time_ps']:.2f} ps at {found['mean_temperature_K']:.0f} K: drift "
        f"{found['drift_meV_per_atom_per_ps']:+.4f} meV/atom/ps, fluctuation "
        f"{found['fluctuation_meV_per_atom']:.4f} meV/atom"
    )


def spinning_cluster() -> None:
    """A free, spinning cluster keeps its angular momentum with ECSE, and only with it."""
    crystal = bulk("Si", cubic=True).repeat(2)
    middle = np.linalg.norm(crystal.positions - crystal.positions.mean(0), axis=1)
    start = crystal[np.argsort(middle)[:10]]
    start.pbc = False
    start.cell = None
    spin = np.cross([0.0, 0.0, 0.01], start.positions - start.get_center_of_mass())
    start.set_velocities(spin)
    for name, symmetry in (("ECSE", "O(3)"), ("bare network", None)):
        atoms = start.copy()
        atoms.calc = PETCalculator(MODEL, dtype="float64", symmetry=symmetry)
        nve = MDSettings("nve", steps=MD_STEPS, time_step=1.0, interval=5)
        found = run_md(atoms, nve, OUT / ("cluster-ecse" if symmetry else "cluster-bare")).summary()
        before = found["angular_momentum_start_hbar"]
        change = found["angular_momentum_change_hbar"]
        console.print(
            f"angular momentum of a free Si10 cluster, {name}: changes by {change / before:.1e} "
            f"of {before:.0f} ħ"
        )


def relaxation() -> float:
    """Relax a strained cell; return the lattice constant, Å."""
    atoms = bulk("Si")
    strain = np.eye(3) + np.array([[0.02, 0.01, 0.0], [0.01, -0.01, 0.0], [0.0, 0.0, 0.015]])
    turn = Rotation.from_rotvec([0.3, -0.5, 0.8]).as_matrix()
    atoms.set_cell(atoms.cell.array @ strain @ turn.T, scale_atoms=True)
    atoms.calc = PETCalculator(MODEL, dtype="float64")
    settings = RelaxSettings("lbfgs", fmax=1e-6, steps=MAX_STEPS, cell="full")
    record = relax(atoms, settings, OUT / "relax", console=console)
    lattice = float((4.0 * atoms.get_volume()) ** (1 / 3))
    before, after = record.space_groups
    console.print(
        f"relaxation of a strained, rotated cell: {before} -> {after} in {record.n_steps} steps, "
        f"lattice constant {lattice:.4f} Å"
    )
    return lattice


def phonons(lattice: float) -> None:
    """Bands and density of states, of the crystal as it lies and rotated."""
    calc = PETCalculator(MODEL, dtype="float64")
    turn = Rotation.from_rotvec([0.3, -0.5, 0.8]).as_matrix()
    settings = PhononSettings(supercell=(3, 3, 3), two_sided=False)
    optical = []
    for name, q in (("phonons", np.eye(3)), ("phonons-rotated", turn)):
        crystal = bulk("Si", a=lattice)
        crystal.set_cell(crystal.cell.array @ q.T, scale_atoms=True)
        crystal.calc = calc
        record = compute_phonons(crystal, settings, OUT / name, console=console)
        optical.append(np.sort(record.gamma)[3:])
    split = max(np.ptp(o) for o in optical)
    console.print(
        f"phonons: Γ optical mode at {optical[0].mean():.3f} cm⁻¹, triplet split by {split:.1e} "
        f"cm⁻¹, rotated crystal differs by {np.abs(optical[0] - optical[1]).max():.1e} cm⁻¹"
    )


def main() -> None:
    """Run all parts and say where the pictures are."""
    if not MODEL.exists():
        raise SystemExit(f"{MODEL} is missing; get it back with: git checkout -- checkpoints")
    OUT.mkdir(exist_ok=True)
    start = time.perf_counter()
    for title, part in (
        ("Orientation", rotations),
        ("Molecular dynamics", dynamics),
        ("Angular momentum", spinning_cluster),
        ("Relaxation and phonons", lambda: phonons(relaxation())),
    ):
        console.rule(title)
        part()
    console.rule("Done")
    pictures = sorted(str(path.relative_to(ROOT)) for path in OUT.rglob("*.png"))
    console.print(f"{time.perf_counter() - start:.0f} s; pictures: {', '.join(pictures)}")


if __name__ == "__main__":
    main()
