"""What each code says of structures that are easily got wrong, by comparing it with itself.

Every row is the difference between two descriptions of the same physics, in meV an atom, so that no
code is the judge of another: zero is right. An error is what the code answers instead of a number.

Peers are those of ``bench_tensornet.py``, with the models named there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111
from common import show, write
from remote import MATPES, TORCHMDNET, Worker, add_peers, ours, peers, require


def energy(worker: Worker, atoms: Atoms) -> float:
    """Energy of a structure, eV."""
    worker.take(atoms)
    return float(worker.ask(positions=atoms.positions.tolist())["energy"])


def isolated(worker: Worker) -> float:
    """Two atoms 60 Å apart are two atoms."""
    one, two = Atoms("O", [(0, 0, 0)]), Atoms("O2", [(0, 0, 0), (60, 0, 0)])
    return energy(worker, two) / 2 - energy(worker, one)


def alone_in_a_box(worker: Worker) -> float:
    """An atom does not feel a large periodic box."""
    boxed = Atoms("O", [(1, 2, 3)], cell=[60, 60, 60], pbc=True)
    return energy(worker, boxed) - energy(worker, Atoms("O", [(1, 2, 3)]))


def small_cell(worker: Worker) -> float:
    """The primitive cell, narrower than the cutoff, against 3×3×3 of the cubic one."""
    large = bulk("C", cubic=True).repeat(3)
    return energy(worker, bulk("C")) / 2 - energy(worker, large) / len(large)


def outside(worker: Worker) -> float:
    """Atoms moved by lattice vectors."""
    atoms = bulk("C", cubic=True).repeat(3)
    atoms.rattle(0.05, seed=2)
    moved = atoms.copy()
    steps = np.random.default_rng(0).integers(-2, 3, (len(atoms), 3))
    moved.positions += steps @ atoms.cell.array
    return (energy(worker, moved) - energy(worker, atoms)) / len(atoms)


def slab(worker: Worker) -> float:
    """A slab with two periodic axes against one with three and 30 Å of vacuum."""
    atoms = fcc111("Al", (3, 3, 3), vacuum=15.0)
    atoms.symbols[:] = "C"  # known to all
    full = atoms.copy()
    atoms.pbc, full.pbc = (True, True, False), True
    return (energy(worker, atoms) - energy(worker, full)) / len(atoms)


def slab_without_third_vector(worker: Worker) -> float:
    """The same slab with a third lattice vector of zero, as ASE makes it without vacuum."""
    atoms = fcc111("Al", (3, 3, 3), vacuum=15.0)
    atoms.symbols[:] = "C"
    full = atoms.copy()
    full.pbc, atoms.pbc = True, (True, True, False)
    atoms.cell[2] = 0.0
    return (energy(worker, atoms) - energy(worker, full)) / len(atoms)


def slanted(worker: Worker) -> float:
    """A cell with very slanted vectors spans the same crystal."""
    atoms = bulk("C", cubic=True).repeat(3)
    other = atoms.copy()
    cell = atoms.cell.array
    other.set_cell([cell[0], cell[1] + 2 * cell[0], cell[2] - cell[1] + 3 * cell[0]])
    return (energy(worker, other) - energy(worker, atoms)) / len(atoms)


def answer(case: Callable[[Worker], float], worker: Worker) -> float | str:
    """Difference, meV an atom, or the error that the code raised."""
    try:
        return 1e3 * case(worker)
    except RuntimeError as error:
        return str(error).split(": ", 1)[1][:200]


CASES: dict[str, Callable[[Worker], float]] = {
    "isolated atoms": isolated,
    "atom in a large box": alone_in_a_box,
    "cell below the cutoff": small_cell,
    "atoms outside the cell": outside,
    "slab, two periodic axes": slab,
    "slab, no third vector": slab_without_third_vector,
    "slanted cell": slanted,
}


def main() -> None:
    """Run every case on every code, print a table, write ``results/edge_cases.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_peers(parser)
    given = peers(parser.parse_args().peer)
    require(MATPES)
    require(TORCHMDNET)
    # What a user sets who has met its default limit.
    given = [c.on(c.model, max_num_neighbors=128) if c.code == "torchmdnet" else c for c in given]
    contestants = [ours(MATPES), ours(TORCHMDNET, "ase_pet, TorchMD-NET's"), *given]
    found: dict[str, dict[str, Any]] = {name: {} for name in CASES}
    for contestant in contestants:
        with Worker(contestant) as worker:
            for name, case in CASES.items():
                found[name][contestant.name] = answer(case, worker)
    columns = ["meV/atom", *(c.name for c in contestants)]
    rows = [
        [name, *(v if isinstance(v, float) else "error" for v in values.values())]
        for name, values in found.items()
    ]
    show("two descriptions of one structure, float32", columns, rows)
    for name, values in found.items():
        for code, value in values.items():
            if isinstance(value, str):
                print(f"{name}, {code}: {value}")
    write("edge_cases", {"difference_meV_per_atom": found})


if __name__ == "__main__":
    main()
