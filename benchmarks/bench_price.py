"""The price of exact symmetry: time by stage, memory and residual, from 8 to 4096 atoms.

Each *way* to evaluate a model takes steps of molecular dynamics (velocity Verlet, 1 fs, 300 K) of a
structure: the bare network; each ensemble with rotations (``SO(3)``), and with reflections too
(``O(3)``); the average over the 84 orientations of metatomic-ase's ``SymmetrizedCalculator`` with
``l_max=3``, by a loop of ours and, for a PET of metatrain with ``--peer metatomic=PYTHON``, by that
calculator. All are asked by turns; medians of ``--turns`` steps, of 3 where a step takes more than
20 s. What would take longer than ``--longest`` is estimated from the edges of its copies. Above 512
atoms there are the bare network and what ``"auto"`` takes, however long that is.

The *residual* is the spread of the energy an atom over a few orientations, reflected ones among
them but for SO(3), with the network in float32. Memory is what the first evaluation adds to a
fresh process at its peak; rotated copies share 500 MB. Silicon is rattled by 0.077 Å, as at 300 K.

Networks have the size of the shipped models and random weights, on which cost does not depend, but
for ``pet-si``. With a GPU, silicon grows to 97,336 atoms.
"""

from __future__ import annotations

import argparse
import itertools
import lzma
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.io import read
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from bench_pet_metatrain import exported
from common import (
    CHECKPOINTS,
    console,
    forget_peak,
    rattled,
    resident,
    rotate,
    rotation,
    show,
    water,
    write,
)
from remote import PET as METATRAIN
from remote import REFERENCE, Contestant, RemoteCalculator, Worker, add_peers, peers
from stages import STAGES, Stages

from ase_pet import PETCalculator
from ase_pet.ecse.symmetrized import ENSEMBLES, SYMMETRIES
from ase_pet.formats import Model
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.tensornet import TensorNet, TensorNetHypers
from ase_pet.potentials.total import Total
from ase_pet.testing.grid import BATCH_ATOMS, GridAverage

SPECIES = (1, 8, 14)
BARE, GRID, PEER = "bare", "grid of 84", "grid of 84, metatomic"
BUDGET = "500MB"
#: Cells of silicon along each axis, 8 atoms each.
CELLS = (1, 2, 3, 4, 6, 8, *((10, 16, 23) if torch.cuda.is_available() else ()))
WATER = REFERENCE.parent / "data" / "water_deepmd_PBE0TS.extxyz.xz"
#: Atoms up to which all ways are measured.
LARGEST = 512
#: Seconds a step from which on there are fewer turns, and from which on fewer orientations.
SLOW, SLOWISH = 20.0, 2.0


def random_model(make: Callable[[], PET | TensorNet], name: str) -> Model:
    """An untrained network of the shipped models' size."""
    torch.manual_seed(0)
    return Model(Total(make()), "float32", architecture=name)


def pet(n_layers: int) -> PET:
    """The network of the shipped PETs, with any number of message-passing layers."""
    return PET(PETHypers(cutoff=5.0, n_message_layers=n_layers), SPECIES)


def tensornet() -> TensorNet:
    """The network of the shipped TensorNets."""
    return TensorNet(TensorNetHypers(cutoff=4.5, n_units=64, n_functions=16, n_layers=1), SPECIES)


#: How each is made or where it lies.
MODELS: dict[str, Callable[[], Model | Path]] = {
    "PET, 1 layer": lambda: random_model(lambda: pet(1), "pet"),
    "PET, 2 layers": lambda: random_model(lambda: pet(2), "pet"),
    "TensorNet": lambda: random_model(tensornet, "tensornet"),
    "pet-si": lambda: CHECKPOINTS / "pet-si.pt",
    "PET of metatrain": lambda: METATRAIN / "fresh_default.ckpt",
}
#: Those that are not measured on everything.
ONLY = {
    "pet-si": ("Si 64", "Si 216"),
    "PET of metatrain": ("Si 8", "Si 64", "water 192"),
    "TensorNet": ("Si 8", "Si 64", "Si 512", "Si 4096"),
}


def structure(name: str) -> Atoms:
    """``"Si N"``, or ``"water 192"``: a frame of published dynamics where it lies beside us."""
    symbol, n_atoms = name.split()
    if symbol == "Si":
        n = round((int(n_atoms) / 8) ** (1 / 3))
        return rattled("Si", (n, n, n), stdev=0.077)
    if not WATER.is_file():
        return water(int(n_atoms) // 3)
    with lzma.open(WATER, "rt") as file:
        atoms = read(file, 100, format="extxyz")
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def calculator(model: Model | Path, way: str) -> Calculator:
    """How one way evaluates."""
    if way in (BARE, GRID):
        bare = PETCalculator(model, dtype="float32", symmetry=None)
        return bare if way == BARE else GridAverage(bare)
    symmetry, ensemble = way.split(", ")
    options = {"symmetry": symmetry, "ensemble": ensemble, "memory_budget": BUDGET}
    return PETCalculator(model, dtype="float32", **options)


def works(model: Model | Path, atoms: Atoms) -> dict[str, tuple[float, int]]:
    """Work of each way in units of the bare network's, and the number of copies."""
    found, system = {BARE: (1.0, 1)}, system_from_atoms([atoms])
    auto = PETCalculator(model).engine
    if not auto.copies:
        return found
    large = len(atoms) > LARGEST
    ways = itertools.product(SYMMETRIES, ENSEMBLES)
    if large:
        ways = [("O(3)", auto.way(len(atoms), periodic=bool(atoms.pbc.any())).ensemble)]
    for symmetry, name in ways:
        options = {"symmetry": symmetry, "ensemble": name, "memory_budget": BUDGET}
        costs = PETCalculator(model, **options).engine.costs(system)
        work = costs[name].n_edges / costs[None].n_edges
        found[f"{symmetry}, {name}"] = (work, costs[name].n_copies)
    return found if large else {**found, GRID: (84.0, 84)}


class Step(NamedTuple):
    """Seconds of the clock, of the processor, and of each stage."""

    clock: float
    cpu: float
    stages: dict[str, float]


class Dynamics:
    """A structure whose steps are timed one by one.

    Every step takes the one before it back, as velocity Verlet does when velocities are reversed:
    the forces of a random network do not hold a liquid together, which would be another one soon.
    """

    def __init__(self, atoms: Atoms, calc: Calculator) -> None:
        atoms = atoms.copy()
        thermalize_momenta(atoms, 300.0, rng=np.random.default_rng(0))
        Stationary(atoms)
        atoms.calc = calc
        atoms.get_forces()
        self.md = VelocityVerlet(atoms, timestep=units.fs)

    def step(self) -> Step:
        """Take one."""
        self.md.atoms.set_momenta(-self.md.atoms.get_momenta())
        with Stages() as stages:
            clock, cpu = time.perf_counter(), time.process_time()
            self.md.run(1)
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
        return Step(clock, cpu, stages.seconds)


def by_turns(runs: dict[str, Dynamics], turns: dict[str, int]) -> dict[str, list[Step]]:
    """Times of the steps of each way; quick ones have one more a turn, to warm up."""
    taken: dict[str, list[Step]] = {way: [] for way in runs}
    for turn in range(max(turns.values())):
        for way, run in runs.items():
            if turn >= turns[way]:
                continue
            first = run.step()
            taken[way].append(run.step() if first.clock < 1.0 else first)
    return taken


def residual(calc: Calculator, atoms: Atoms, way: str, n_rotations: int) -> float:
    """Spread of the energy over orientations, eV an atom."""
    rng = np.random.default_rng(0)
    mirror = not way.startswith("SO(3)")
    qs = [rotation(rng, reflect=mirror and k % 2 == 0) for k in range(n_rotations)]
    energies = [calc.get_potential_energy(rotate(atoms, q)) for q in qs]
    return float(np.ptp(energies)) / len(atoms)


def measure_memory(model: str, name: str, way: str) -> None:
    """Print by how much one evaluation raises the peak memory of this process or its GPU, MB."""
    calc = calculator(MODELS[model](), way)
    calc.get_forces(Atoms("Si3", [(0, 0, 0), (2.3, 0, 0), (0, 2.5, 0)]))  # libraries are loaded
    atoms = structure(name)
    forget_peak()
    before = resident("VmRSS")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    calc.get_forces(atoms)
    if torch.cuda.is_available():
        print(torch.cuda.max_memory_allocated() / 1e6)
    else:
        print(max(0.0, resident("VmHWM") - before))


def memory(model: str, name: str, way: str) -> float:
    """What one evaluation adds to the memory of a fresh process, MB."""
    call = [sys.executable, __file__, "--memory", model, name, way]
    return float(subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout)


def case(
    model: str, name: str, given: argparse.Namespace, peer: Contestant | None
) -> Iterator[dict[str, Any]]:
    """Rows of all ways to evaluate a structure with a model."""
    atoms, loaded = structure(name), MODELS[model]()
    known = works(loaded, atoms)
    runs = {BARE: Dynamics(atoms, calculator(loaded, BARE))}
    seconds = min(runs[BARE].step().clock for _ in range(3))
    if peer is not None:
        known[PEER] = known[GRID]
    expected = {way: seconds * work for way, (work, _) in known.items()}
    turns = {way: given.turns if s < SLOW else min(3, given.turns) for way, s in expected.items()}
    with ExitStack() as stack:
        for way, s in expected.items():
            if s > given.longest and len(atoms) <= LARGEST:
                continue
            if way == PEER:
                worker = Worker(peer.on(peer.model, batch_size=max(1, BATCH_ATOMS // len(atoms))))
                runs[way] = Dynamics(atoms, RemoteCalculator(stack.enter_context(worker)))
            elif way != BARE:
                runs[way] = Dynamics(atoms, calculator(loaded, way))
        taken = by_turns(runs, turns)
        for way, (work, copies) in known.items():
            row = {"model": model, "structure": name, "atoms": len(atoms), "way": way}
            row |= {"copies": copies, "work": work, "estimated": way not in runs}
            if way not in runs:
                yield {**row, "ms": 1e3 * expected[way], "ratio": work}
                continue
            row |= timed(taken[way], taken[BARE], remote=way == PEER)
            n_rotations = 2 if expected[way] > SLOWISH else 4
            row["residual"] = residual(runs[way].md.atoms.calc, atoms, way, n_rotations)
            if len(atoms) > 8 and way not in (GRID, PEER) and not given.no_memory:
                row["MB"] = memory(model, name, way)
            yield row


def timed(steps: list[Step], bare: list[Step], *, remote: bool) -> dict[str, Any]:
    """Times and their ratios to those of the bare network.

    Args:
        steps: Of one way.
        bare: Of the bare network.
        remote: In another process, which counts its processor's time itself.
    """
    clock, base = ([s.clock for s in times] for times in (steps, bare))
    out = {"ms": 1e3 * median(clock), "fastest ms": 1e3 * min(clock), "turns": len(clock)}
    out |= {"ratio": median(clock) / median(base), "ratio, least": min(clock) / min(base)}
    if remote:
        return out
    cpu, base = ([s.cpu for s in times] for times in (steps, bare))
    out |= {"cpu ms": 1e3 * median(cpu), "ratio, cpu": median(cpu) / median(base)}
    out["stages"] = {name: 1e3 * median(s.stages[name] for s in steps) for name in STAGES}
    return out


def table(rows: list[dict[str, Any]]) -> None:
    """Print what was measured, and estimates marked as such."""
    columns = ["way", "copies", "ms", "ratio", "ratio, least", "ratio, cpu", "turns", "MB"]
    columns += ["residual"]
    cells = [[f"{r['model']}, {r['structure']}", *(r.get(c, "") for c in columns)] for r in rows]
    for row, line in zip(rows, cells, strict=True):
        line[3] = f"{'≈ ' * row['estimated']}{row['ms']:.3g}"
    show("Energy, forces and stress; ≈ are estimates", ["", *columns], cells)


def main() -> None:
    """Measure, print, write ``results/price.json`` after each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_peers(parser)
    names = ["Si 8", "Si 64", "water 192", *(f"Si {8 * n**3}" for n in CELLS[2:])]
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--structures", nargs="+", default=names, metavar="NAME")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--no-memory", action="store_true", help="no fresh processes")
    parser.add_argument("--longest", type=float, default=30.0, help="seconds a step (default 30)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    gpu = torch.cuda.is_available()  # the other code is asked on the processor alone
    peer = next((c for c in peers(given.peer) if c.code == "metatomic" and not gpu), None)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        if peer is not None and METATRAIN.is_dir():
            peer = peer.on(exported(peer, METATRAIN / "fresh_default.ckpt", Path(folder)))
        for name in given.structures:
            for model in given.models:
                theirs = model == "PET of metatrain"
                if name not in ONLY.get(model, given.structures) or (
                    theirs and not METATRAIN.is_dir()
                ):
                    continue
                for row in case(model, name, given, peer if theirs else None):
                    rows.append(row)
                    console.print(f"{model}, {name}, {row['way']}: {row['ms']:.4g} ms")
                write("price", {"load": os.getloadavg(), "longest": given.longest, "rows": rows})
    table(rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(*sys.argv[2:])
    else:
        main()
