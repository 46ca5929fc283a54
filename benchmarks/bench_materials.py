"""Physics of a universal potential, side by side with MatGL's own calculator: equal numbers.

TensorNet-MatPES-PBE-v2025.1 in double precision, by the protocols of the reference numbers:

1. Equations of state of Si, Cu, NaCl and MgO: 13 primitive cells, lattice constants 3 % about a
   guess, Birch-Murnaghan (a cubic in V^(-2/3), so that no solver rounds); the largest difference of
   the stress' pressure from that of a polynomial of sixth degree through the energies.
2. Phonons of silicon at Γ, X and L: 64 atoms, one displacement of 0.01 Å, phonopy. Γ again from the
   primitive cell, central differences of 0.001 Å: the reference gives both, and they differ by what
   is anharmonic in 0.01 Å.
3. Dynamics of 64 silicon atoms at 300 K, 2 fs: drift over ``--picoseconds``; the first ``--beside``
   with the peer from the same start, for as long as rounding has not grown into another trajectory.

``--peer matgl-2.0.4=PYTHON`` names the environment of the peer (``peers/README.md``); without it,
ours is compared with the reference alone.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from common import show, write
from numpy.polynomial import Polynomial
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from remote import MATPES, RemoteCalculator, Worker, add_peers, peers, require

from ase_pet import PETCalculator

GUESSES = {
    "Si": ("diamond", 5.45),
    "Cu": ("fcc", 3.6),
    "NaCl": ("rocksalt", 5.62),
    "MgO": ("rocksalt", 4.22),
}
LATTICE_CONSTANT = 5.47512
PATH = {"Gamma": [0.0, 0.0, 0.0], "X": [0.5, 0.0, 0.5], "L": [0.5, 0.5, 0.5]}
TIME_STEP = 2.0
Values = dict[str, float]


def equation_of_state(calc: Calculator, name: str) -> Values:
    """Lattice constant (Å), bulk modulus (GPa), energies (eV) and how well stress fits them."""
    crystal, guess = GUESSES[name]
    volumes, energies, pressures = [], [], []
    for scale in np.linspace(0.97, 1.03, 13):
        atoms = bulk(name, crystal, a=guess * scale)
        atoms.calc = calc
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
        pressures.append(-atoms.get_stress()[:3].mean() / units.GPa)
    fit = Polynomial.fit(np.array(volumes) ** (-2 / 3), energies, 3)
    turns = [x.real for x in fit.deriv().roots() if fit.deriv(2)(x).real > 0]
    volume = turns[0] ** -1.5
    modulus = fit.deriv(2)(turns[0]) * volume * (2 / 3 * volume ** (-5 / 3)) ** 2
    slope = Polynomial.fit(volumes, energies, 6).deriv()(np.array(volumes))
    out = {f"{name} a, Å": (4 * volume) ** (1 / 3), f"{name} B, GPa": modulus / units.GPa}
    out |= {f"{name} E({k}), eV": energy for k, energy in enumerate(energies)}
    mismatch = np.abs(np.array(pressures) + slope / units.GPa).max()
    return {**out, f"{name} |P + dE/dV|, GPa": float(mismatch)}


def supercell(calc: Calculator) -> Values:
    """Frequencies at Γ, X and L from 64 atoms, THz."""
    crystal = bulk("Si", cubic=True, a=LATTICE_CONSTANT)
    cell = PhonopyAtoms(
        symbols=crystal.get_chemical_symbols(),
        cell=crystal.cell.array,
        scaled_positions=crystal.get_scaled_positions(),
    )
    primitive = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    phonon = Phonopy(cell, 2 * np.eye(3, dtype=int), primitive_matrix=primitive, log_level=0)
    phonon.generate_displacements(distance=0.01)
    forces = []
    for c in phonon.supercells_with_displacements:
        atoms = Atoms(c.symbols, cell=c.cell, scaled_positions=c.scaled_positions, pbc=True)
        atoms.calc = calc
        forces.append(atoms.get_forces())
    phonon.forces = np.array(forces)
    phonon.produce_force_constants()
    phonon.run_qpoints(list(PATH.values()))
    return named(dict(zip(PATH, phonon.qpoints.frequencies, strict=True)))


def named(frequencies: dict[str, Any]) -> Values:
    """One entry a branch, acoustic ones at Γ left out: they are rounding."""
    return {
        f"Si {q} {branch + 1}, THz": float(value)
        for q, values in frequencies.items()
        for branch, value in enumerate(values)
        if q != "Gamma" or branch > 2
    }


def primitive(calc: Calculator, step: float = 0.001) -> Values:
    """The highest frequency at Γ from the primitive cell, THz."""
    crystal = bulk("Si", a=LATTICE_CONSTANT)
    hessian = []
    for move in step * np.eye(6).reshape(6, 2, 3):
        forces = []
        for side in (1, -1):
            atoms = crystal.copy()
            atoms.positions += side * move
            atoms.calc = calc
            forces.append(atoms.get_forces().ravel())
        hessian.append((forces[1] - forces[0]) / (2 * step))
    mass = 28.0855  # phonopy's
    matrix = np.array(hessian)
    omega = np.linalg.eigvalsh((matrix + matrix.T) / 2 / mass)[-1] ** 0.5
    unit = (units._e * 1e20 / units._amu) ** 0.5 / (2e12 * np.pi)
    return {"Si Gamma, 2 atoms, THz": float(omega * unit)}


def dynamics(calc: Calculator, picoseconds: float) -> dict[str, np.ndarray]:
    """Times (ps), total energies (eV an atom) and positions (Å) of NVE, every 10 fs."""
    atoms = bulk("Si", cubic=True, a=LATTICE_CONSTANT).repeat(2)
    # Twice the temperature: half of the kinetic energy goes into the potential at once.
    thermalize_momenta(atoms, 600.0, exact_temperature=True, rng=np.random.default_rng(0))
    Stationary(atoms)
    atoms.calc = calc
    dyn = VelocityVerlet(atoms, timestep=TIME_STEP * units.fs)
    rows: list[tuple[float, float, np.ndarray]] = []

    def record() -> None:
        energy = atoms.get_total_energy() / len(atoms)
        rows.append((dyn.nsteps * TIME_STEP / 1000, energy, atoms.positions.copy()))

    dyn.attach(record, interval=5)
    dyn.run(round(1000 * picoseconds / TIME_STEP))
    time_ps, energy, positions = zip(*rows, strict=True)
    return {"time": np.array(time_ps), "energy": np.array(energy), "positions": np.array(positions)}


def conservation(run: dict[str, np.ndarray]) -> Values:
    """Drift and fluctuation of the total energy."""
    slope, offset = np.polyfit(run["time"], run["energy"], 1)
    residual = run["energy"] - slope * run["time"] - offset
    return {
        "drift, meV/atom/ps": 1e3 * slope,
        "change in all, meV/atom": 1e3 * (run["energy"][-1] - run["energy"][0]),
        "fluctuation, meV/atom": 1e3 * residual.std(),
    }


def reference() -> Values:
    """What the original code gave, from its files."""
    folder = MATPES.parent
    equations = json.loads((folder / "eos.json").read_text())
    out: Values = {}
    for name in GUESSES:
        entry = equations[f"PBE:{name}"]
        out |= {f"{name} a, Å": entry["a_A"], f"{name} B, GPa": entry["B_GPa"]}
        out |= {f"{name} E({k}), eV": energy for k, energy in enumerate(entry["energies"])}
        out[f"{name} |P + dE/dV|, GPa"] = entry["max_P_minus_minusdEdV_GPa"]
    phonons = json.loads((folder / "phonon_si_pbe.json").read_text())
    out |= named(phonons["frequencies_THz"])
    return {**out, "Si Gamma, 2 atoms, THz": max(phonons["gamma_primitive_THz"])}


def physics(calc: Calculator) -> Values:
    """Everything static."""
    out: Values = {}
    for name in GUESSES:
        out |= equation_of_state(calc, name)
    return {**out, **supercell(calc), **primitive(calc)}


def compare(columns: dict[str, Values]) -> list[list[str]]:
    """Values of each code and differences from ours; volumes' energies only at their worst."""
    first, *others = columns.values()
    rows = []
    for key in first:
        differences = [abs(first[key] - c[key]) if key in c else np.nan for c in others]
        if "E(" not in key:
            numbers = [f"{c[key]:.9f}" if key in c else "" for c in columns.values()]
            rows.append([key, *numbers, *(f"{d:.1e}" for d in differences)])
    energies = [key for key in first if "E(" in key]
    worst = [max(abs(first[k] - c[k]) for k in energies) for c in others]
    nothing = [""] * len(columns)
    return [*rows, [f"{len(energies)} energies, eV", *nothing, *(f"{d:.1e}" for d in worst)]]


def beside(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[list[Any]]:
    """How far two trajectories from one start are apart: energy (eV an atom), positions (Å)."""
    n = len(other["time"])
    energy = np.abs(one["energy"][:n] - other["energy"])
    far = np.abs(one["positions"][:n] - other["positions"]).max((1, 2))
    chosen = sorted({0, n // 100, n // 10, n // 3, n - 1})
    return [[float(other["time"][k]), float(energy[k]), float(far[k])] for k in chosen]


def main() -> None:
    """Measure, print, write ``results/materials.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_peers(parser)
    parser.add_argument("--picoseconds", type=float, default=10.0)
    parser.add_argument("--beside", type=float, default=1.0, help="ps with each peer (default 1)")
    parser.add_argument("--dtype", default="float64", help="of our dynamics (default float64)")
    arguments = parser.parse_args()
    require(MATPES)
    start = time.perf_counter()
    columns = {"ours": physics(PETCalculator(MATPES, dtype="float64"))}
    run = dynamics(PETCalculator(MATPES, dtype=arguments.dtype), arguments.picoseconds)
    drift, apart = {"ours": conservation(run)}, {}
    with ExitStack() as stack:
        for peer in peers(arguments.peer):
            worker = stack.enter_context(Worker(peer.on(MATPES, "float64")))
            calc = RemoteCalculator(worker)
            columns[peer.name] = physics(calc)
            other = dynamics(calc, min(arguments.beside, arguments.picoseconds))
            drift[peer.name] = conservation(other)
            apart[peer.name] = beside(run, other)
    columns["reference"] = reference()
    names = list(columns)
    show(
        "Materials, TensorNet-MatPES-PBE, float64",
        ["quantity", *names, *(f"− {n}" for n in names[1:])],
        compare(columns),
    )
    keys = list(drift["ours"])
    lengths = {n: arguments.picoseconds if n == "ours" else arguments.beside for n in drift}
    rows = [[n, lengths[n], *(d[key] for key in keys)] for n, d in drift.items()]
    show(f"NVE, 64 Si atoms, {TIME_STEP:g} fs", ["code", "ps", *keys], rows)
    for name, table in apart.items():
        show(f"Ours and {name}, apart by", ["ps", "energy eV/atom", "position Å"], table)
    seconds = time.perf_counter() - start
    write("materials", {"static": columns, "NVE": drift, "apart": apart, "seconds": seconds})


if __name__ == "__main__":
    main()
