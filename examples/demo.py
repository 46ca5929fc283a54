"""Silicon with a shipped model: dynamics, relaxation, phonons, and what exact symmetry brings.

Run by ``make demo``; takes a few minutes on two CPU cores. Figures and summaries go to ``demo/``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

from ase_pet import PETCalculator
from ase_pet.testing.contracts import transformed
from ase_pet.workflows.checks import rotation_errors
from ase_pet.workflows.md import MDRecord, MDSettings, run_md
from ase_pet.workflows.output import write_figure, write_json
from ase_pet.workflows.phonons import PhononSettings, compute_phonons
from ase_pet.workflows.plots import plot_bands
from ase_pet.workflows.relax import RelaxSettings, relax

ROOT = Path(__file__).resolve().parents[1]
#: Symmetry of the calculator -> its name in tables and figures.
MODELS = {"O(3)": "ECSE", None: "bare"}
console = Console(highlight=False)


def main() -> None:
    """Run all parts, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(ROOT / "checkpoints" / "pet-si.pt"))
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument("--steps", type=int, default=300, help="of molecular dynamics")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    found = {"equivariance": show_equivariance(given.model)}
    crystal, found["relaxation"] = run_relaxation(given.model, given.out)
    found["phonons"] = run_phonons(given.model, crystal, given.out)
    found["dynamics"] = run_dynamics(given.model, crystal, given.steps, given.out)
    found["cluster"] = run_cluster(given.model, given.steps, given.out)
    found["seconds"] = time.perf_counter() - began
    write_json(given.out / "demo.json", found)
    console.print(f"\nDone in {found['seconds']:.0f} s. Figures and numbers: {given.out}/")
    for path in sorted(given.out.rglob("*.png")):
        console.print(f"  {path}")


def show_equivariance(model: str) -> dict[str, dict[str, float]]:
    """One table: a rattled crystal against its rotations and reflections."""
    console.rule("A rotated crystal")
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    table = Table(title="largest relative deviation over 10 random rotations and reflections")
    for column in ("", "energy", "forces", "stress"):
        table.add_column(column, justify="right" if column else "left")
    found = {}
    for symmetry, name in MODELS.items():
        errors = rotation_errors(PETCalculator(model, symmetry=symmetry, dtype="float64"), atoms)
        # The virial is the stress times the volume: relative deviations are the same.
        found[name] = {"energy": errors.energy, "forces": errors.forces, "stress": errors.virial}
        table.add_row(name, *(f"{x:.1e}" for x in found[name].values()))
    console.print(table)
    return found


def run_relaxation(model: str, out: Path) -> tuple[Atoms, dict[str, object]]:
    """A strained, rotated crystal finds its space group again."""
    console.rule("Relaxation of a strained cell")
    strain = np.array([[1.03, 0.02, 0.0], [0.02, 0.98, 0.01], [0.0, 0.01, 1.01]])
    turn = Rotation.random(random_state=7).as_matrix()
    atoms = transformed(transformed(bulk("Si"), strain), turn)
    atoms.positions[1] += [0.05, -0.03, 0.02]
    atoms.calc = PETCalculator(model, dtype="float64")
    settings = RelaxSettings("lbfgs", fmax=1e-7, steps=200, cell="full")
    record = relax(atoms, settings, out / "relax", console=console)
    before, after = record.space_groups
    console.print(
        f"space group {before} -> {after}, lattice parameter {lattice_parameter(atoms):.3f} Å, "
        f"largest force {record.forces[-1]:.1e} eV/Å after {record.n_steps} steps"
    )
    return atoms, record.summary()


def run_phonons(model: str, crystal: Atoms, out: Path) -> dict[str, object]:
    """Bands and density of states; the optical modes at Γ in two orientations."""
    console.rule("Phonons")
    settings = PhononSettings(supercell=(4, 4, 4), n_points=51, mesh=60.0)
    straight = bulk("Si", a=lattice_parameter(crystal))
    turned = transformed(straight, Rotation.random(random_state=7).as_matrix())
    table = Table(title="optical frequencies at Γ, cm⁻¹: one triplet in every orientation")
    for column in ("", "as built", "rotated", "spread"):
        table.add_column(column, justify="right" if column else "left")
    records, found = {}, {}
    for symmetry, name in MODELS.items():
        optical = []
        for way, structure in (("straight", straight), ("rotated", turned)):
            atoms = structure.copy()
            atoms.calc = PETCalculator(model, symmetry=symmetry, dtype="float64")
            label = f"{name}, {way}"
            folder = out / "phonons" / label.replace(", ", "-")
            records[label] = compute_phonons(atoms, settings, folder, console=console)
            found[label] = records[label].summary()
            gamma = records[label].gamma  # unstable modes are negative
            optical.append(np.sort(gamma[np.abs(gamma).argsort()[3:]]))
        cells = (" ".join(f"{x:.3f}" for x in modes) for modes in optical)
        table.add_row(name, *cells, f"{np.ptp(np.concatenate(optical)):.1e}")
    write_figure(out / "phonons.png", plot_bands(records))
    console.print(table)
    return found


def lattice_parameter(crystal: Atoms) -> float:
    """Of the cubic cell, Å, from the volume of diamond's primitive cell."""
    return float((4.0 * crystal.get_volume()) ** (1 / 3))


def run_dynamics(model: str, crystal: Atoms, n_steps: int, out: Path) -> dict[str, object]:
    """Heat a crystal with a thermostat, then let it go and watch its energy."""
    console.rule("Molecular dynamics")
    atoms = bulk("Si", a=lattice_parameter(crystal), cubic=True).repeat((2, 2, 1))
    atoms.calc = PETCalculator(model)
    heat = MDSettings(
        "langevin", steps=n_steps // 2, time_step=2.0, temperature=600.0, damping=50.0, interval=5
    )
    free = MDSettings("nve", steps=n_steps, time_step=2.0, interval=5)
    found = {
        "nvt": run_md(atoms, heat, out / "nvt", resume=False, console=console).summary(),
        "nve": run_md(atoms, free, out / "nve", resume=False, console=console).summary(),
    }
    console.print(
        f"{len(atoms)} atoms, NVE: mean temperature {found['nve']['mean_temperature_K']:.0f} K, "
        f"energy drift {found['nve']['drift_meV_per_atom_per_ps']:.1e} meV/atom/ps, fluctuation "
        f"{found['nve']['fluctuation_meV_per_atom']:.1e} meV/atom"
    )
    return found


def run_cluster(model: str, n_steps: int, out: Path) -> dict[str, object]:
    """The angular momentum of a free cluster is conserved where energies are invariant."""
    console.rule("Angular momentum of a free cluster")
    table = Table(title="relative change of the angular momentum")
    table.add_column("")
    table.add_column("largest change", justify="right")
    records, found = {}, {}
    relaxed = cluster(8)
    relaxed.calc = PETCalculator(model)
    relax(relaxed, RelaxSettings("lbfgs", fmax=0.05, steps=n_steps), console=console)
    for symmetry, name in MODELS.items():
        atoms = relaxed.copy()
        atoms.calc = PETCalculator(model, symmetry=symmetry, dtype="float64")
        settings = MDSettings(steps=n_steps, time_step=1.0, temperature=300.0, interval=5, seed=3)
        folder = out / "cluster" / name
        record = run_md(atoms, settings, folder, resume=False, console=console)
        records[name], found[name] = record, record.summary()
        start, change = (found[name][f"angular_momentum_{k}_hbar"] for k in ("start", "change"))
        table.add_row(name, f"{change / start:.1e}")
    write_figure(out / "angular_momentum.png", plot_angular_momentum(records))
    console.print(table)
    return found


def cluster(n_atoms: int) -> Atoms:
    """The atoms of a crystal that are nearest to the middle of a bond."""
    crystal = bulk("Si", cubic=True).repeat(3)
    bonded = crystal.get_distances(0, range(len(crystal)), mic=True).argsort()[1]
    middle = crystal[0].position + 0.5 * crystal.get_distance(0, bonded, mic=True, vector=True)
    offsets = crystal.get_positions() - middle
    offsets -= np.round(offsets / crystal.cell.lengths()) * crystal.cell.lengths()
    nearest = np.linalg.norm(offsets, axis=1).argsort(kind="stable")[:n_atoms]
    return Atoms("Si" * n_atoms, offsets[nearest])


def plot_angular_momentum(records: dict[str, MDRecord]) -> Figure:
    """Relative change of the angular momentum over time, on a logarithmic scale."""
    figure = Figure(figsize=(6, 4), layout="constrained", dpi=120)
    axes = figure.subplots()
    for name, record in records.items():
        momentum = record.angular_momentum
        change = np.linalg.norm(momentum - momentum[0], axis=1) / np.linalg.norm(momentum[0])
        axes.semilogy(record["time_ps"][1:], np.maximum(change[1:], 1e-18), label=name)
    axes.set(xlabel="time, ps", ylabel="relative change of the angular momentum")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
