"""Ethanol labelled by density functional theory: energy, forces, dipole, polarizability.

    python checkpoints/recipes/make_ethanol_data.py checkpoints/recipes/ethanol.extxyz.xz

Needs numpy, scipy, ase and pyscf; tested with 2.4.6, 1.17.1, 3.29.0 and 2.14.0. Set
OMP_NUM_THREADS=1. A frame takes 5 to 6 s of one core. The work folder keeps each finished frame:
repeat the command after an interruption.

Labels: PBE0/def2-SVPD with density fitting, SCF to 1e-10 Hartree, grid level 2 with its response
in the forces, static polarizability from the coupled-perturbed equations (``ethanol_dft.py``).
Units are ASE's: eV, eV/Å, e Å and, for ``info["polarizability"]`` (3, 3), e² Å²/eV; times 14.3996
that is Å³.

Geometries: trans and both gauche conformers, relaxed with PBE/def2-SVP (where forces of the
labels still reach 0.85 eV/Å); classical Boltzmann distribution of the harmonic modes at 300, 600
and 1000 K (``info["group"]``), the torsions of OH and CH3 turned rather than displaced, in a third
of the frames by any angle; random orientation. The seed and the conformers decide all.

Checks: the polarizability of a frame is within 0.0012 Bohr³ (of 35) of central differences of the
dipole in fields of 0.001 a.u., within 0.0003 of these extrapolated to no field. The dipole agrees
with the energies in these fields to 4e-6 e Bohr; that of water points to its hydrogens. In five
orientations the energy of a distorted molecule scatters by 0.07 meV and its forces by 0.4 meV/Å
(0.06 and 0.4 on grid level 3). Forces of a frame are within 0.70 meV/Å of central differences of
energies (5 mÅ); net forces vanish; dipole derivatives obey both sum rules. The mean isotropic
polarizability is 5.07 Å³ (experiment: 5.11, openmopac.net/Polarizability_table.html).
"""

from __future__ import annotations

import argparse
import json
import logging
import lzma
import time
from io import StringIO
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.optimize import BFGS
from ase.units import Bohr, Hartree, kB
from ethanol_dft import converge, gradient, molecule_of, polarizability
from pyscf import lib
from scipy.spatial.transform import Rotation

SEED = 7
FRAMES = 400
#: Of the labels.
FUNCTIONAL, BASIS, GRID_LEVEL = "pbe0", "def2-svpd", 2
#: Of the relaxed conformers and their Hessians, which only guide the sampling.
CHEAP_FUNCTIONAL, CHEAP_BASIS, CHEAP_GRID_LEVEL = "pbe", "def2-svp", 1
TEMPERATURES = (300, 600, 1000)
CONFORMERS = ("trans", "gauche+", "gauche-")
#: Shares of the splits.
BLOCK = ("train",) * 30 + ("validation",) * 3 + ("test",) * 7
#: Axis and turning atoms; ASE's order is C (of CH3), C, O, H (of OH), 2 H (of CH2), 3 H (of CH3).
TORSIONS = {"OH": ((1, 2), (3,)), "CH3": ((1, 0), (6, 7, 8))}
#: Bonds may be this much shorter or longer than relaxed; other atoms may come this close, in Å.
BOND_RANGE = (0.8, 1.25)
CLOSEST_HYDROGENS, CLOSEST = 1.3, 1.7


class CheapDFT(Calculator):
    """Energy and forces for relaxation and Hessian."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms: ase.Atoms, *args: Any) -> None:
        """One SCF and its gradient."""
        super().calculate(atoms, *args)
        mol = molecule_of(atoms, CHEAP_BASIS)
        mf = converge(mol, CHEAP_FUNCTIONAL, CHEAP_GRID_LEVEL, 1e-9)
        self.results["energy"] = mf.e_tot * Hartree
        self.results["forces"] = -gradient(mf) * Hartree / Bohr


def turn(atoms: ase.Atoms, torsion: str, angle: float) -> None:
    """Turn a group about its bond by an angle in radians."""
    (a, b), group = TORSIONS[torsion]
    axis = atoms.positions[b] - atoms.positions[a]
    rotation = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    origin, moved = atoms.positions[b].copy(), list(group)
    atoms.positions[moved] = rotation.apply(atoms.positions[moved] - origin) + origin


def relax(angle: float) -> dict[str, list[Any]]:
    """A conformer by its torsion of OH; the Hessian (eV/Å²) by central differences of forces."""
    atoms, step, rows = molecule("CH3CH2OH"), 0.01, []
    turn(atoms, "OH", angle)
    atoms.calc = CheapDFT()
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=60)
    relaxed = atoms.positions.copy()
    for move in np.eye(relaxed.size).reshape(-1, *relaxed.shape) * step:
        forces = []
        for sign in (1, -1):
            atoms.positions = relaxed + sign * move
            forces.append(atoms.get_forces().ravel())
        rows.append((forces[1] - forces[0]) / (2 * step))
    hessian = np.array(rows)
    return {"positions": relaxed.tolist(), "hessian": ((hessian + hessian.T) / 2).tolist()}


def conformers(work: Path) -> dict[str, tuple[ase.Atoms, np.ndarray]]:
    """Trans and both gauche forms with their Hessians, from a file if there is one."""
    path, found = work / "conformers.json", {}
    if not path.exists():
        stored = {"trans": relax(0.0), "gauche-": relax(2 * np.pi / 3)}
        replace(path, json.dumps(stored).encode())
    for name, entry in json.loads(path.read_text()).items():
        atoms = molecule("CH3CH2OH")
        atoms.positions = entry["positions"]
        found[name] = (atoms, np.array(entry["hessian"]))
    image, hessian = found["gauche-"][0].copy(), found["gauche-"][1]
    image.positions *= (1, 1, -1)
    mirror = np.tile([1.0, 1.0, -1.0], len(image))
    found["gauche+"] = (image, hessian * np.outer(mirror, mirror))
    return found


def tangent(atoms: ase.Atoms, torsion: str) -> np.ndarray:
    """Velocity (3 n) of the atoms in Å per radian of a torsion."""
    ahead, behind = atoms.copy(), atoms.copy()
    turn(ahead, torsion, 1e-4)
    turn(behind, torsion, -1e-4)
    return ((ahead.positions - behind.positions) / 2e-4).ravel()


def normal_modes(atoms: ase.Atoms, hessian: np.ndarray) -> np.ndarray:
    """Normal modes (m, 3 n) in Å/√eV, without the torsions: these are turned, not displaced.

    Translations, rotations and torsions are projected out of the mass-weighted Hessian. A mode
    times a normal deviate times √(k T) is a draw from the classical Boltzmann distribution.
    """
    n, roots = len(atoms), np.sqrt(atoms.get_masses())
    centred = atoms.positions - atoms.get_center_of_mass()
    moves = [np.tile(axis, (n, 1)) for axis in np.eye(3)]
    moves += [np.cross(axis, centred) for axis in np.eye(3)]
    moves += [tangent(atoms, name).reshape(n, 3) for name in TORSIONS]
    fixed, _ = np.linalg.qr(np.array([(m * roots[:, None]).ravel() for m in moves]).T)
    free = np.eye(3 * n) - fixed @ fixed.T
    weights = np.repeat(roots, 3)
    values, vectors = np.linalg.eigh(free @ (hessian / np.outer(weights, weights)) @ free)
    values, vectors = values[len(moves) :], vectors[:, len(moves) :]
    if values[0] <= 0:
        raise ValueError(f"expected a minimum of the energy, got a curvature of {values[0]:.3g}")
    return (vectors / weights[:, None] / np.sqrt(values)).T


def is_sane(atoms: ase.Atoms, relaxed: ase.Atoms) -> bool:
    """Whether bonds are near their relaxed lengths and other atoms not too close."""
    i, j = np.triu_indices(len(atoms), 1)
    now, then = atoms.get_all_distances()[i, j], relaxed.get_all_distances()[i, j]
    n_hydrogens = (atoms.numbers[i] == 1).astype(int) + (atoms.numbers[j] == 1)
    bonded = then < np.where(n_hydrogens == 0, 1.7, 1.2)
    closest = np.where(n_hydrogens == 2, CLOSEST_HYDROGENS, CLOSEST)
    low = np.where(bonded, BOND_RANGE[0] * then, closest)
    high = np.where(bonded, BOND_RANGE[1] * then, np.inf)
    return bool(((now > low) & (now < high)).all())


def sample(index: int, found: dict[str, tuple[ase.Atoms, np.ndarray]]) -> ase.Atoms:
    """The frame of this index: it depends on the seed, the index and the conformers alone."""
    rng = np.random.default_rng([SEED, index])
    temperature = TEMPERATURES[index % 3]
    free_torsions = index // 3 % 3 == 0
    conformer = CONFORMERS[index // 9 % 3]
    relaxed, hessian = found[conformer]
    modes = normal_modes(relaxed, hessian)
    while True:
        atoms = relaxed.copy()
        deviates = rng.normal(size=len(modes)) * np.sqrt(kB * temperature)
        atoms.positions += (deviates @ modes).reshape(-1, 3)
        for name in TORSIONS:
            motion = tangent(relaxed, name)
            spread = np.sqrt(kB * temperature / (motion @ hessian @ motion))
            angle = rng.uniform(-np.pi, np.pi) if free_torsions else rng.normal(0, spread)
            turn(atoms, name, angle)
        if is_sane(atoms, relaxed):
            break
    atoms.positions -= atoms.positions.mean(0)
    # A quaternion of normal deviates is a rotation uniform over SO(3).
    atoms.positions = Rotation.from_quat(rng.normal(size=4)).apply(atoms.positions)
    # What is stored has eight decimals; the labels belong to what is stored.
    atoms.positions = np.round(atoms.positions, 8)
    atoms.info = {
        "group": f"{temperature}K",
        "conformer": conformer,
        "torsions": "random" if free_torsions else "thermal",
    }
    return atoms


def label(atoms: ase.Atoms) -> dict[str, Any]:
    """Energy, forces, dipole and polarizability in ASE's units."""
    mf = converge(molecule_of(atoms, BASIS), FUNCTIONAL, GRID_LEVEL, 1e-10)
    return {
        "energy": float(mf.e_tot * Hartree),
        "forces": (-gradient(mf) * Hartree / Bohr).tolist(),
        "dipole": (mf.dip_moment(unit="AU", verbose=0) * Bohr).tolist(),
        "polarizability": (polarizability(mf) * Bohr**2 / Hartree).tolist(),
    }


def replace(path: Path, content: bytes) -> None:
    """Write a file by rename."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def assign_splits(frames: list[ase.Atoms]) -> None:
    """Deal the splits so that temperatures, conformers and torsions have equal shares of each."""
    rng = np.random.default_rng(SEED)
    kinds = [
        (*(a.info[k] for k in ("group", "conformer", "torsions")), rng.random()) for a in frames
    ]
    for place, index in enumerate(sorted(range(len(frames)), key=kinds.__getitem__)):
        if place % len(BLOCK) == 0:
            block = rng.permutation(BLOCK)
        frames[index].info["split"] = str(block[place % len(BLOCK)])


def collect(work: Path, n_frames: int, found: dict[str, tuple[ase.Atoms, np.ndarray]]) -> str:
    """The labelled frames as extended XYZ, in order of their index."""
    frames = []
    for index in range(n_frames):
        labels = json.loads((work / f"{index:04d}.json").read_text())
        atoms = sample(index, found)
        if not np.allclose(atoms.positions, labels["positions"], rtol=0, atol=1e-6):
            raise ValueError(f"{work}: frame {index} is of another seed; expected an empty folder")
        atoms.positions = labels["positions"]
        results = {name: labels[name] for name in ("energy", "forces", "dipole")}
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["polarizability"] = np.array(labels["polarizability"])
        frames.append(atoms)
    assign_splits(frames)
    text = StringIO()
    write(text, frames, format="extxyz")
    return text.getvalue()


def main() -> None:
    """Label the frames that the work folder lacks, then write all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, nargs="?", default=Path("runs/ethanol.extxyz.xz"))
    parser.add_argument("--work", type=Path, default=Path("runs/ethanol"))
    parser.add_argument("--frames", type=int, default=FRAMES)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    lib.num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    found = conformers(options.work)
    for index in range(options.frames):
        path = options.work / f"{index:04d}.json"
        if not path.exists():
            start, atoms = time.perf_counter(), sample(index, found)
            labels = {"positions": atoms.positions.tolist(), **label(atoms)}
            replace(path, json.dumps(labels).encode())
            logging.info("frame %d: %.1f s", index, time.perf_counter() - start)
    text = collect(options.work, options.frames, found)
    options.path.parent.mkdir(parents=True, exist_ok=True)
    replace(options.path, lzma.compress(text.encode(), preset=9))


if __name__ == "__main__":
    main()
