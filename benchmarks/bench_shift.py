"""How much each ensemble disturbs a model: against its average over all orientations.

The reference is the bare network, averaged over random rotations, every second one a reflection,
with the forces turned back. Its own spread over orientations, and the statistical error of the
mean, are printed beside: a shift below three errors is none. Shift: mean and root mean square of
E(ensemble) - E(reference), meV an atom; forces: root mean square and largest component of the
difference, meV/Å. All in float64.

Models of the original PET and their structures are looked for beside the project; what is not there
is left out.
"""

from __future__ import annotations

import argparse
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import read
from common import CHECKPOINTS, console, rotate, rotation, show, write
from remote import REFERENCE

from ase_pet import PETCalculator

ORIGINAL = REFERENCE / "pet_original"
METHANE = REFERENCE.parent / "data" / "methane_pet.extxyz.xz"
#: Ensembles and weights.
WAYS = [(e, w) for e in ("local", "shared", "global") for w in ("smooth", "lean")]
#: Atoms of turned structures that are evaluated together.
BATCH = 720
COLUMNS = ["shift", "rms shift", "F rms", "F max"]


def rattled(perfect: Atoms, stdev: float, n: int = 3) -> list[Atoms]:
    """A crystal with displaced atoms, several times."""
    found = [perfect.copy() for _ in range(n)]
    for seed, atoms in enumerate(found):
        atoms.rattle(stdev, seed=seed)
    return found


def methane(n: int) -> list[Atoms]:
    """Structures of the test part of the published set, evenly taken."""
    with lzma.open(METHANE, "rt") as file:
        frames = read(file, ":", format="extxyz")
    test = [a for a in frames if a.info.get("split") == "test"] or frames[-100:]
    return [Atoms(a.numbers, a.positions) for a in test[:: max(1, len(test) // n)][:n]]


def cases() -> Iterator[tuple[str, Path, list[Atoms]]]:
    """Names, models and structures."""
    if ORIGINAL.is_dir() and METHANE.is_file():
        molecules = methane(20)
        for name in ("methane_gnn1", "methane_gnn1_localaug", "methane_gnn2"):
            yield f"{name}, 20 distorted molecules", ORIGINAL / name, molecules
        nitride = bulk("GaN", "wurtzite", a=3.19, c=5.19).repeat((3, 3, 2))
        where = "3 of wurtzite, 72 atoms, rattled by 0.08 Å"
        yield f"gan_gnn1, {where}", ORIGINAL / "gan_gnn1", rattled(nitride, 0.08)
    silicon, crystal = CHECKPOINTS / "pet-si.pt", bulk("Si", cubic=True).repeat(2)
    yield "pet-si, 3 of 64 atoms, as at 300 K", silicon, rattled(crystal, 0.077)
    yield "pet-si, 3 of 64 atoms, rattled by 0.2 Å", silicon, rattled(crystal, 0.2)


def reference(calc: PETCalculator, atoms: Atoms, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Energies [n], eV, in n orientations; mean forces [n_atoms, 3]; their error, eV/Å."""
    rng = np.random.default_rng(0)
    qs = [rotation(rng, reflect=bool(k % 2)) for k in range(n)]
    turned, size = [rotate(atoms, q) for q in qs], max(1, BATCH // len(atoms))
    out = [one for k in range(0, n, size) for one in calc.compute(turned[k : k + size])]
    forces = np.array([one["forces"] @ q for one, q in zip(out, qs, strict=True)])
    error = np.sqrt((forces.std(0, ddof=1) ** 2).mean() / n)
    return np.array([one["energy"] for one in out]), forces.mean(0), float(error)


def measure(model: Path, structures: list[Atoms], n: int) -> dict[str, Any]:
    """Spread of the bare network, errors of its mean, and what each ensemble differs from it."""
    bare = PETCalculator(model, dtype="float64", symmetry=None)
    found = [reference(bare, atoms, n) for atoms in structures]
    sizes = np.array([len(atoms) for atoms in structures])
    energies = np.array([e for e, _, _ in found]) / sizes[:, None]
    mean, forces = energies.mean(1), np.concatenate([f for _, f, _ in found])
    spread = energies.std(1, ddof=1)
    data: dict[str, Any] = {
        "orientations": n,
        "spread": 1e3 * float(np.sqrt((spread**2).mean())),
        "error": 1e3 * float(np.sqrt((spread**2).sum() / n) / len(structures)),
        "error F": 1e3 * float(np.sqrt(np.mean([e**2 for _, _, e in found]))),
    }
    for ensemble, weights in WAYS:
        way = PETCalculator(model, dtype="float64", ensemble=ensemble, weights=weights)
        out = [way.compute([atoms])[0] for atoms in structures]
        shift = 1e3 * (np.array([one["energy"] for one in out]) / sizes - mean)
        off = 1e3 * (np.concatenate([one["forces"] for one in out]) - forces)
        row = [shift.mean(), np.sqrt((shift**2).mean()), np.sqrt((off**2).mean()), abs(off).max()]
        data[f"{ensemble}, {weights}"] = dict(zip(COLUMNS, map(float, row), strict=True))
    return data


def main() -> None:
    """Measure, print, write ``results/shift.json`` after each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orientations", type=int, default=240)
    parser.add_argument("--models", default="", help="those whose names begin so")
    given = parser.parse_args()
    data: dict[str, Any] = {}
    for name, model, structures in cases():
        if not name.startswith(given.models):
            continue
        data[name] = one = measure(model, structures, given.orientations)
        rows = [[way, *v.values()] for way, v in one.items() if isinstance(v, dict)]
        show(name, ["", *COLUMNS], rows)
        console.print(
            f"  bare: spread {one['spread']:.3g} meV/atom in {one['orientations']} orientations; "
            f"errors of the mean: {one['error']:.2g} meV/atom, {one['error F']:.2g} meV/Å"
        )
        write("shift", data)


if __name__ == "__main__":
    main()
