"""TensorNet against the codes that it came from: time and peak memory on CPUs.

Energy, forces and stress of silicon, 8 to 1000 atoms, through each code's own ASE calculator in an
environment of its own (``peers/README.md``), which ``--peer NAME=PYTHON`` names. All processes of a
group run at the same time and are asked by turns, so that whatever else the machine does meets all
of them; one call of each turn warms up and does not count. Atoms move by 0.01 Å from call to call.

Peers named ``matgl...`` and ours evaluate MatGL's TensorNet-MatPES-PBE-v2025.1; newer MatGL reads
these weights in another convention, which for a single element makes no difference. Peers named
``torchmdnet...`` and ours evaluate a TorchMD-NET checkpoint; that code has no stress, casts
to single precision and takes no cell below twice the cutoff: 8 atoms are a free cluster there.
``skin 0`` is ours without reuse of neighbour lists, which none of the others has; ``splines`` is
ours with ``splines=True``.

Peak memory is measured apart, one process at a time. The timed ones run at once and keep what they
had, several gigabytes each for plain MatGL from 512 atoms on.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from common import RESULTS, console, show, write
from remote import MATPES, TORCHMDNET, Contestant, Worker, add_peers, ours, peers, require

REPEATS = {8: 1, 64: 2, 216: 3, 512: 4, 1000: 5}
MOVE = 0.01
#: Ours, in tables of ratios.
OURS = ("skin 0", "ours", "splines")


def silicon(n_atoms: int, *, free: bool = False) -> Atoms:
    """Silicon with atoms 0.05 Å off their sites."""
    atoms = bulk("Si", cubic=True).repeat(REPEATS[n_atoms])
    atoms.rattle(0.05, seed=1)
    if free:
        atoms.set_cell(None)
        atoms.pbc = False
    return atoms


def groups(given: list[Contestant], checkpoints: list[Path]) -> dict[str, list[Contestant]]:
    """Who runs against whom, by model; ours, in the order of ``OURS``, come first."""

    def each(path: Path) -> list[Contestant]:
        splined = ours(path, "ase_pet, splines", splines=True)
        return [ours(path, "ase_pet, skin 0", skin=0.0), ours(path), splined]

    found = {"MatPES": each(MATPES) + [c for c in given if c.code == "matgl"]}
    torchmdnet = [c for c in given if c.code == "torchmdnet"]
    for path in checkpoints if torchmdnet else []:
        others = [c.on(path, max_num_neighbors=128) for c in torchmdnet]
        found[path.stem] = each(path) + others
    return found


def structure(group: str, n_atoms: int) -> Atoms:
    """What the codes of a group can all evaluate."""
    return silicon(n_atoms, free=group != "MatPES" and n_atoms == 8)


def clock(
    contestants: list[Contestant], atoms: Atoms, threads: int, turns: int, calls: int
) -> list[dict[str, Any]]:
    """Medians of time (ms) by the clock and of processors, and the energy (eV), of each."""
    rng = np.random.default_rng(0)
    times: list[list[tuple[float, float]]] = [[] for _ in contestants]
    energies = []
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(c, threads)) for c in contestants]
        for worker in workers:
            worker.take(atoms)
            energies.append(worker.ask(positions=atoms.positions.tolist())["energy"])
        for _ in range(turns):
            for worker, taken in zip(workers, times, strict=True):
                for call in range(calls + 1):
                    moved = atoms.positions + rng.uniform(-MOVE, MOVE, (len(atoms), 3))
                    out = worker.ask(positions=moved.tolist())
                    if call:
                        taken.append((1e3 * out["clock"], 1e3 * out["cpu"]))
    return [
        {
            "ms": median(t[0] for t in taken),
            "cpu ms": median(t[1] for t in taken),
            "fastest ms": min(t[0] for t in taken),
            "energy": energy,
        }
        for taken, energy in zip(times, energies, strict=True)
    ]


def weigh(contestant: Contestant, atoms: Atoms) -> dict[str, float]:
    """Peak memory of a process that evaluates one structure three times, and the rise to it, MB.

    The rise is from the state with code and model loaded.
    """
    with Worker(contestant) as worker:
        before = worker.ask(memory=True)["VmRSS"]
        worker.take(atoms)
        for k in range(3):
            worker.ask(positions=(atoms.positions + MOVE * k).tolist())
        peak = worker.ask(memory=True)["VmHWM"]
    return {"peak MB": peak, "rise MB": peak - before}


def measure(
    group: str, contestants: list[Contestant], arguments: argparse.Namespace, rows: list[Any]
) -> None:
    """Add all sizes and numbers of threads of a group to the rows, and write them."""
    for n_atoms in arguments.atoms:
        atoms = structure(group, n_atoms)
        weights = [weigh(c, atoms) for c in contestants]
        for threads in arguments.threads:
            calls = max(1, min(5, 256 // n_atoms))
            timed = clock(contestants, atoms, threads, arguments.turns, calls)
            for c, t, w in zip(contestants, timed, weights, strict=True):
                wrong = abs(t["energy"] - timed[0]["energy"]) / n_atoms
                row = {"model": group, "atoms": n_atoms, "threads": threads, "code": c.name}
                ratios = {
                    f"{ours} / this{' cpu' * (kind == 'cpu ms')}": timed[k][kind] / t[kind]
                    for kind in ("ms", "cpu ms")
                    for k, ours in enumerate(OURS)
                }
                rows.append({**row, **t, **w, **ratios, "energy differs": wrong})
                times = f"{t['ms']:.4g} ms, {t['cpu ms']:.4g} of processors"
                console.print(f"{group} {n_atoms} x{threads} {c.name}: {times}, {cell(rows[-1])}")
            write("tensornet", {"turns": arguments.turns, "rows": rows})


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table for each model and number of threads: time, ratios and memory by size."""
    text = ["ms (ours with skin 0 / this, ours / this, with splines / this), peak MB"]
    for group, threads in dict.fromkeys((r["model"], r["threads"]) for r in rows):
        chosen = [r for r in rows if (r["model"], r["threads"]) == (group, threads)]
        sizes = list(dict.fromkeys(r["atoms"] for r in chosen))
        text += [f"\n{group}, {threads} thread(s)\n"]
        text += ["| code | " + " | ".join(f"{n} atoms" for n in sizes) + " |"]
        text += ["|---|" + "---:|" * len(sizes)]
        for code in dict.fromkeys(r["code"] for r in chosen):
            cells = [cell(r) for r in chosen if r["code"] == code]
            text.append(f"| {code} | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def cell(row: dict[str, Any]) -> str:
    """What one code needs for one structure."""
    ratios = ", ".join(f"{row[f'{name} / this']:.2f}" for name in OURS)
    return f"{row['ms']:.4g} ({ratios}), {row['peak MB']:.0f}"


def main() -> None:
    """Measure, print, write ``results/tensornet.json`` and ``results/tensornet.md``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_peers(parser)
    parser.add_argument("--atoms", type=int, nargs="+", default=list(REPEATS), choices=REPEATS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=7, help="turns of each code (default 7)")
    parser.add_argument(
        "--torchmdnet-model",
        type=Path,
        nargs="+",
        default=[TORCHMDNET],
        help="TorchMD-NET checkpoints (default: the reference's; peers/README.md makes a larger)",
    )
    arguments = parser.parse_args()
    require(MATPES)
    start, load = time.time(), os.getloadavg()
    rows: list[Any] = []
    for group, contestants in groups(peers(arguments.peer), arguments.torchmdnet_model).items():
        measure(group, contestants, arguments, rows)
    columns = ["model", "atoms", "threads", "code", "ms", *(f"{name} / this" for name in OURS)]
    columns += ["cpu ms", "peak MB", "rise MB", "energy differs"]
    table = [[r["model"], r["atoms"], *(r[c] for c in columns[2:])] for r in rows]
    show("Energy, forces and stress of silicon", columns, table)
    machine = {"load before": load, "load after": os.getloadavg(), "seconds": time.time() - start}
    write("tensornet", {**machine, "turns": arguments.turns, "rows": rows})
    (RESULTS / "tensornet.md").write_text(markdown(rows))
    console.print(markdown(rows))


if __name__ == "__main__":
    main()
