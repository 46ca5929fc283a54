"""Conservation in NVE: energy of 64 silicon atoms for 10 ps, angular momentum of a free cluster.

``--picoseconds`` shortens the run of silicon.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from common import CHECKPOINTS, RESULTS, console, show, write

from ase_pet import PETCalculator

TIME_STEP = 2.0


def run(atoms: Atoms, n_steps: int, time_step: float, every: int = 1) -> dict[str, np.ndarray]:
    """NVE with velocity Verlet; time (ps), total energy (eV), angular momentum (3 components)."""
    rows = []

    def record() -> None:
        rows.append([dyn.get_time() / units.fs / 1000, atoms.get_total_energy()])
        momenta.append(atoms.get_angular_momentum())

    momenta: list[np.ndarray] = []
    dyn = VelocityVerlet(atoms, timestep=time_step * units.fs)
    dyn.attach(record, interval=every)
    for _ in dyn.irun(n_steps):
        if dyn.nsteps % 100 == 0:
            console.print(f"step {dyn.nsteps} of {n_steps}, {rows[-1][1]:.6f} eV")
    table = np.array(rows)
    return {"time": table[:, 0], "energy": table[:, 1], "angular momentum": np.array(momenta)}


def silicon(calc: PETCalculator, picoseconds: float) -> tuple[list[float], dict[str, np.ndarray]]:
    """Drift and fluctuation of the total energy, meV/atom/ps and meV/atom."""
    atoms = bulk("Si", cubic=True).repeat(2)
    rng = np.random.default_rng(0)
    # Twice the temperature: half of the kinetic energy goes into the potential at once.
    thermalize_momenta(atoms, 600.0, exact_temperature=True, rng=rng)
    Stationary(atoms)
    atoms.calc = calc
    start = time.perf_counter()
    n_steps = round(1000 * picoseconds / TIME_STEP)
    out = run(atoms, n_steps, TIME_STEP, every=5)
    seconds = time.perf_counter() - start
    slope, offset = np.polyfit(out["time"], out["energy"], 1)
    residual = out["energy"] - slope * out["time"] - offset
    per_atom = 1e3 / len(atoms)
    return [slope * per_atom, residual.std() * per_atom, 1e3 * seconds / n_steps], out


def cluster(calc: PETCalculator) -> tuple[float, dict[str, np.ndarray]]:
    """Relative change of the angular momentum of a free, spinning cluster."""
    crystal = bulk("Si", cubic=True).repeat(2)
    middle = crystal.positions.mean(0)
    nearest = np.argsort(np.linalg.norm(crystal.positions - middle, axis=1))[:10]
    atoms = Atoms("Si10", positions=crystal.positions[nearest])
    rng = np.random.default_rng(1)
    thermalize_momenta(atoms, 300.0, rng=rng)
    Stationary(atoms)
    spin = np.cross([0.0, 0.0, 0.01], atoms.positions - atoms.get_center_of_mass())
    atoms.set_velocities(atoms.get_velocities() + spin)
    atoms.calc = calc
    out = run(atoms, 500, 1.0)
    momentum = out["angular momentum"]
    change = np.linalg.norm(momentum - momentum[0], axis=1) / np.linalg.norm(momentum[0])
    return float(change.max()), {"time": out["time"], "change": change}


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--picoseconds", type=float, default=10.0)
    picoseconds = parser.parse_args().picoseconds
    model: Path = CHECKPOINTS / "pet-si.pt"
    spins = {
        name: cluster(PETCalculator(model, dtype="float64", symmetry=symmetry))
        for name, symmetry in (("ECSE", "O(3)"), ("bare", None))
    }
    show(
        "Angular momentum of a free Si10 cluster, NVE, 0.5 ps, float64",
        ["surface", "largest relative change"],
        [[name, change] for name, (change, _) in spins.items()],
    )
    drift, out = silicon(PETCalculator(model), picoseconds)
    columns = ["drift meV/atom/ps", "fluctuation meV/atom", "ms/step"]
    show(f"NVE, 64 Si atoms, {picoseconds:g} ps, {TIME_STEP:g} fs, ECSE", columns, [drift])
    data = {"picoseconds": picoseconds, **dict(zip(columns, drift, strict=True))}
    spin_data = {name: change for name, (change, _) in spins.items()}
    write("dynamics", {"silicon": data, "angular momentum": spin_data})
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    left.plot(out["time"], 1e3 * (out["energy"] - out["energy"][0]) / 64)
    left.set(xlabel="time (ps)", ylabel="total energy (meV/atom)", title="NVE, 64 Si atoms, ECSE")
    for name, (_, curve) in spins.items():
        right.semilogy(curve["time"], curve["change"] + 1e-17, label=name)
    right.set(xlabel="time (ps)", ylabel="relative change", title="angular momentum, free Si10")
    right.legend()
    fig.tight_layout()
    fig.savefig(RESULTS / "dynamics.png", dpi=110)


if __name__ == "__main__":
    main()
