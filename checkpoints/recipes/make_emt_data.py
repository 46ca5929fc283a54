"""Structures labelled with ASE's EMT potential, from which ``pet-emt.pt`` is distilled.

    python checkpoints/recipes/make_emt_data.py runs/emt.extxyz.xz

Random alloys (strained, rattled, with vacancies and interstitials), other lattices, slabs with and
without adsorbates, molecules, dimers of all pairs, clusters and molecular-dynamics snapshots of the
eleven elements that EMT knows. Its parameters for H, C, N and O are toy values: so are the labels.
The seed decides everything.
"""

from __future__ import annotations

import io
import itertools
import lzma
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import ase
import numpy as np
from ase import units
from ase.build import bulk, fcc100, fcc110, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from numpy.random import Generator

SEED = 2
METALS = {"Al": 4.05, "Cu": 3.61, "Ag": 4.09, "Au": 4.08, "Ni": 3.52, "Pd": 3.89, "Pt": 3.92}
LIGHT = ("H", "C", "N", "O")
MOLECULES = (
    "H2", "O2", "N2", "CO", "CO2", "H2O", "CH4", "NH3", "N2H4", "C2H2", "C2H4", "C2H6",
    "CH3OH", "H2CO", "HCN", "H2O2", "NO", "OH", "CH3", "CH2_s1A1d", "NH", "CH", "CH3CH2OH",
    "C6H6", "N2O", "O3",
)  # fmt: skip
#: Frames with larger forces (eV/Å) or energies (eV/atom) are no use for any simulation.
MAX_FORCE = 12.0
MAX_ENERGY = 8.0
#: Å; closer pairs are not sampled.
MIN_DISTANCE = 0.75
COUNTS = {
    "alloy": 800, "pure": 420, "lattice": 150, "interstitial": 220, "slab": 250,
    "adsorbate": 420, "molecule": 260, "cluster": 300, "md": 150,
}  # fmt: skip


def random_alloy(rng: Generator, n_elements: int) -> tuple[list[str], float]:
    """Elements to draw atoms from, and the lattice constant of their mean (Vegard)."""
    elements = rng.choice(list(METALS), n_elements, replace=False).tolist()
    shares = rng.dirichlet(np.ones(n_elements))
    picks = rng.choice(elements, 64, p=shares).tolist()
    return picks, float(sum(METALS[e] * s for e, s in zip(elements, shares, strict=True)))


def decorate(atoms: ase.Atoms, picks: list[str], rng: Generator) -> ase.Atoms:
    """Give each atom a random element."""
    atoms.symbols = rng.choice(picks, len(atoms)).tolist()
    return atoms


def distort(atoms: ase.Atoms, rng: Generator, strain: float, largest: float) -> ase.Atoms:
    """Strain a cell at random and rattle its atoms by up to ``largest`` Å."""
    deformation = np.eye(3) + rng.normal(0, strain / 2, (3, 3))
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    atoms.positions += rng.normal(0, rng.uniform(0, largest), (len(atoms), 3))
    return atoms


def fcc(rng: Generator, a: float) -> ase.Atoms:
    """An fcc crystal of 1 to 16 atoms."""
    if rng.random() < 0.5:
        repeat = [(1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (3, 2, 1)][rng.integers(5)]
        return bulk("Cu", "fcc", a=a).repeat(repeat)
    repeat = [(1, 1, 1), (2, 1, 1), (2, 2, 1)][rng.integers(3)]
    return bulk("Cu", "fcc", a=a, cubic=True).repeat(repeat)


def alloy(rng: Generator) -> ase.Atoms:
    """An fcc alloy, one in five with a vacancy."""
    picks, a = random_alloy(rng, int(rng.integers(2, 5)))
    atoms = decorate(fcc(rng, a * rng.uniform(0.93, 1.08)), picks, rng)
    if len(atoms) > 6 and rng.random() < 0.2:
        del atoms[int(rng.integers(len(atoms)))]
    return distort(atoms, rng, 0.05, 0.25)


def pure(rng: Generator) -> ase.Atoms:
    """An fcc metal, near equilibrium more often than not."""
    picks, a = random_alloy(rng, 1)
    wide = rng.random() < 0.4
    scale = rng.uniform(0.9, 1.15) if wide else rng.uniform(0.97, 1.03)
    atoms = decorate(fcc(rng, a * scale), picks, rng)
    if len(atoms) > 6 and rng.random() < 0.2:
        del atoms[int(rng.integers(len(atoms)))]
    return distort(atoms, rng, 0.06 if wide else 0.02, 0.3 if wide else 0.12)


def lattice(rng: Generator) -> ase.Atoms:
    """Body-centred, hexagonal, simple cubic and diamond crystals at the fcc metal's distances."""
    picks, a = random_alloy(rng, int(rng.integers(1, 3)))
    d = a / 2**0.5 * rng.uniform(0.92, 1.08)
    atoms = [
        lambda: bulk("Cu", "bcc", a=2 * d / 3**0.5 * 0.98, cubic=True).repeat((2, 1, 1)),
        lambda: bulk("Cu", "hcp", a=d, c=1.633 * d).repeat((2, 1, 1)),
        lambda: bulk("Cu", "sc", a=d * 0.95).repeat((2, 2, 1)),
        lambda: bulk("Cu", "diamond", a=4 * d / 3**0.5 * 0.92, cubic=True),
    ][rng.integers(4)]()
    return distort(decorate(atoms, picks, rng), rng, 0.04, 0.2)


def interstitial(rng: Generator) -> ase.Atoms:
    """A light atom in an octahedral or random hole of a metal, or in place of an atom."""
    picks, a = random_alloy(rng, int(rng.integers(1, 3)))
    atoms = bulk("Cu", "fcc", a=a * rng.uniform(1.0, 1.1), cubic=True)
    atoms = decorate(atoms.repeat((1, 1, int(rng.integers(1, 3)))), picks, rng)
    light = rng.choice(LIGHT)
    if rng.random() < 0.3:
        atoms.symbols[int(rng.integers(len(atoms)))] = light
    else:
        hole = (0.5, 0.5, 0.5) if rng.random() < 0.5 else rng.random(3)
        atoms += ase.Atom(light, np.asarray(hole) * atoms.cell.lengths() / (1, 1, len(atoms) // 4))
    return distort(atoms, rng, 0.03, 0.15)


def clean_slab(rng: Generator) -> ase.Atoms:
    """A slab of 3 or 4 layers, without strain."""
    picks, a = random_alloy(rng, int(rng.choice([1, 1, 1, 2, 3])))
    build: Callable[..., ase.Atoms] = [fcc111, fcc100, fcc110][rng.integers(3)]
    size = [(1, 1, 3), (1, 1, 4), (2, 1, 3), (2, 2, 2), (2, 2, 3)][rng.integers(5)]
    atoms = build("Cu", size, a=a * rng.uniform(0.97, 1.04), vacuum=4.0)
    return decorate(atoms, picks, rng)


def slab(rng: Generator) -> ase.Atoms:
    """A slab, periodic along its surface or in all directions."""
    atoms = clean_slab(rng)
    atoms.positions += rng.normal(0, rng.uniform(0, 0.2), (len(atoms), 3))
    if rng.random() < 0.5:
        atoms.pbc = True
    if rng.random() < 0.3:
        atoms.positions[atoms.positions[:, 2].argmax(), 2] += rng.uniform(0, 2.5)
    return atoms


def adsorbate(rng: Generator) -> ase.Atoms:
    """One or two atoms, or a molecule, above a slab."""
    atoms = clean_slab(rng)
    kind = rng.random()
    if kind < 0.5:
        guest = ase.Atoms(rng.choice(LIGHT))
    elif kind < 0.7:
        guest = ase.Atoms(rng.choice(list(METALS)))
    else:
        guest = molecule(rng.choice(["CO", "N2", "O2", "H2", "OH", "H2O", "NO", "CO2", "NH3"]))
        guest.rotate(rng.uniform(0, 360), rng.normal(size=3))
    top = atoms.positions[:, 2].max()
    guest.positions -= guest.positions[guest.positions[:, 2].argmin()]
    guest.positions += rng.random(2) @ atoms.cell.array[:2] + (0, 0, top + rng.uniform(0.6, 3.5))
    atoms += guest
    atoms.positions += rng.normal(0, rng.uniform(0, 0.12), (len(atoms), 3))
    atoms.pbc = (True, True, bool(rng.random() < 0.3))
    return atoms


def small_molecule(rng: Generator) -> ase.Atoms:
    """A scaled and rattled molecule; one in four has a metal atom beside it."""
    atoms = molecule(rng.choice(MOLECULES))
    atoms.positions *= rng.uniform(0.85, 1.3)
    if rng.random() < 0.25:
        direction = rng.normal(size=3)
        atoms += ase.Atom(rng.choice(list(METALS)), direction / np.linalg.norm(direction) * 3.0)
    atoms.positions += rng.normal(0, rng.uniform(0, 0.15), (len(atoms), 3))
    return atoms


def cluster(rng: Generator) -> ase.Atoms:
    """A free cluster of 3 to 19 atoms, cut from fcc, sometimes with light atoms."""
    picks, a = random_alloy(rng, int(rng.integers(1, 4)))
    atoms = bulk("Cu", "fcc", a=a * rng.uniform(0.93, 1.1), cubic=True).repeat(3)
    centre = atoms.positions.mean(0) + rng.uniform(-1, 1, 3)
    nearest = np.linalg.norm(atoms.positions - centre, axis=1).argsort()
    atoms = decorate(atoms[nearest[: int(rng.integers(3, 20))]], picks, rng)
    if rng.random() < 0.3:
        atoms.symbols[int(rng.integers(len(atoms)))] = rng.choice(LIGHT)
    atoms.pbc = False
    atoms.cell = np.zeros((3, 3))
    atoms.positions += rng.normal(0, rng.uniform(0, 0.3), (len(atoms), 3))
    return atoms


def md(rng: Generator) -> ase.Atoms:
    """The end of 0.25 ps at 200 to 1500 K, of an alloy or a slab with adsorbate."""
    atoms = [alloy, pure, adsorbate, slab][rng.integers(4)](rng)
    atoms.calc = EMT()
    temperature = rng.uniform(200, 1500)
    thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        2.5 * units.fs,
        temperature_K=temperature,
        friction=0.02 / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(100)
    return atoms


def dimers() -> Iterator[ase.Atoms]:
    """All pairs of elements at distances from repulsion to beyond the cutoff, and lone atoms."""
    for a, b in itertools.combinations_with_replacement([*METALS, *LIGHT], 2):
        n_light = (a in LIGHT) + (b in LIGHT)
        for d in np.linspace((2.0, 1.4, 0.8)[n_light], 5.2, 10):
            yield ase.Atoms([a, b], [(0, 0, 0), (0, 0, d)])
    for element in [*METALS, *LIGHT]:
        yield ase.Atoms(element, [(0, 0, 0)])


def label(atoms: ase.Atoms, group: str) -> ase.Atoms | None:
    """Compute energy, forces and, with a full cell, stress; None for absurd structures."""
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))[np.triu_indices(len(atoms), 1)]
    if len(distances) and distances.min() < MIN_DISTANCE:
        return None
    atoms = ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    # What is stored has eight decimals; the labels belong to what is stored.
    atoms.positions = np.round(atoms.positions, 8)
    atoms.cell = np.round(atoms.cell.array, 8)
    atoms.calc = EMT()
    values = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if np.abs(values["forces"]).max() > MAX_FORCE or values["energy"] > MAX_ENERGY * len(atoms):
        return None
    if atoms.pbc.all():
        values["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **values)
    atoms.info = {"group": group}
    return atoms


def generate(seed: int) -> list[ase.Atoms]:
    """All frames with their group and split: 90 % train, 4 % validation, 6 % test."""
    makers = {
        "alloy": alloy, "pure": pure, "lattice": lattice, "interstitial": interstitial,
        "slab": slab, "adsorbate": adsorbate, "molecule": small_molecule, "cluster": cluster,
        "md": md,
    }  # fmt: skip
    frames = []
    for stream, (group, make) in enumerate(makers.items()):
        rng = np.random.default_rng([seed, stream])
        wanted = len(frames) + COUNTS[group]
        while len(frames) < wanted:
            frame = label(make(rng), group)
            if frame is not None:
                frames.append(frame)
    rng = np.random.default_rng([seed, len(makers)])
    for atoms in frames:
        atoms.info["split"] = str(rng.choice(["train", "val", "test"], p=[0.90, 0.04, 0.06]))
    for atoms in dimers():
        frame = label(atoms, "dimer" if len(atoms) == 2 else "atom")
        if frame is not None:
            frame.info["split"] = (
                "train" if len(atoms) == 1 else str(rng.choice(["train", "test"], p=[0.9, 0.1]))
            )
            frames.append(frame)
    return frames


def main(path: Path) -> None:
    """Write the frames as xz-compressed extended XYZ."""
    text = io.StringIO()
    write(text, generate(SEED), format="extxyz")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(lzma.compress(text.getvalue().encode()))
    temporary.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/emt.extxyz.xz"))
