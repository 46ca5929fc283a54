"""Resident memory during a long run of molecular dynamics: it must not grow.

A small molecule that springs hold together, Langevin dynamics at 100 K, energy and forces at each
step; a PET of metatrain bare and symmetrised, in a process each. Linux only, where the system says
what is resident.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import Hookean
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from bench_metatrain_symmetry import FOLDER
from common import show, write
from remote import require

from ase_pet import PETCalculator

WAYS: dict[str, dict[str, Any]] = {
    "bare": {"symmetry": None},
    "O(3), global": {"ensemble": "global"},
}
N_POINTS = 10


def resident() -> float:
    """Memory of this process that is resident, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def run(path: Path, options: dict[str, Any], n_steps: int) -> dict[str, Any]:
    """Resident memory after each tenth of the steps, and seconds of the whole."""
    atoms: Atoms = molecule("H2O")
    atoms.calc = PETCalculator(path, device="cpu", **options)
    # The energy of a reference model is random, and so is whether a molecule holds together.
    pairs = ((0, 1), (0, 2), (1, 2))
    atoms.set_constraint([Hookean(i, j, k=10.0, rt=1.6) for i, j in pairs])
    rng = np.random.default_rng(0)
    thermalize_momenta(atoms, 100, rng=rng)
    bath = {"temperature_K": 100, "friction": 0.02 / units.fs, "fixcm": False}
    dynamics = Langevin(atoms, 0.5 * units.fs, rng=rng, **bath)
    start, found = time.perf_counter(), []
    for _ in range(N_POINTS):
        dynamics.run(n_steps // N_POINTS)
        found.append(resident())
    return {"MB": found, "seconds": time.perf_counter() - start, "steps": dynamics.nsteps}


def main() -> None:
    """Run each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=FOLDER / "fresh_default.ckpt")
    parser.add_argument("--steps", type=int, default=10_000)
    given = parser.parse_args()
    require(given.model)
    with multiprocessing.get_context("spawn").Pool(len(WAYS), maxtasksperchild=1) as pool:
        tasks = [(given.model, options, given.steps) for options in WAYS.values()]
        data = dict(zip(WAYS, pool.starmap(run, tasks, chunksize=1), strict=True))
    write("md_memory", {"model": given.model.name, **data})
    steps = [f"{(k + 1) * given.steps // N_POINTS}" for k in range(N_POINTS)]
    rows = [[name, *(f"{x:.1f}" for x in data[name]["MB"])] for name in WAYS]
    show(f"{given.model.name}, water: resident memory, MB, after steps", ["", *steps], rows)


if __name__ == "__main__":
    main()
