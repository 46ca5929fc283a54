"""The PET of metatrain, bare, against metatomic's calculator: time, memory, start, on one thread.

Energy, forces and stress of silicon, 8 to 512 atoms, through each code's own ASE calculator in an
environment of its own (``peers/README.md``), which ``--peer metatomic=PYTHON`` names. Processes
run at the same time and are asked by turns, as in ``bench_tensornet.py``. metatomic evaluates what
metatrain exports from the same checkpoint; ours evaluates the checkpoint, or with ``--exported``
the same exported file. ``skin 0`` is ours without reuse of neighbour lists, which metatomic lacks.

``--peer pet-kokkos=PYTHON`` adds that code, which evaluates what its own converter makes of the
checkpoint; the converter needs metatrain, so that ``--peer metatomic=PYTHON`` is needed too.

The start is the time from the start of a process to the first energy of 8 atoms, and its peak
memory, with a checkpoint of 10 MB: medians of fresh processes, by turns.

What limits ours: the time that its matrix products alone take, one after the other as they come in
an evaluation, is a bound for any code that does them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from ase import Atoms
from bench_tensornet import clock, silicon, weigh
from common import console, milliseconds, show, write
from remote import PET, WORKER, Contestant, Worker, add_peers, ours, peers, require
from torch.utils._python_dispatch import TorchDispatchMode

from ase_pet import PETCalculator

MODELS = ("fresh_default", "fresh_adaptive_nc")
SIZES = [8, 64, 216, 512]
#: What is counted; in inference mode linear layers are operations themselves.
PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "linear", "matmul")


class Products(TorchDispatchMode):
    """Remembers the operands of all matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation."""
        if func.overloadpacket.__name__ in PRODUCTS:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def products(model: Path, atoms: Atoms) -> float:
    """Time of the matrix products of one evaluation, ms."""
    atoms = atoms.copy()
    atoms.calc = PETCalculator(model, device="cpu", symmetry=None)
    with Products() as seen:
        atoms.get_forces()

    @torch.inference_mode()
    def again() -> None:
        for func, operands, options in seen.calls:
            func(*operands, **options)

    return milliseconds(again, repeats=15)


def exported(peer: Contestant, model: Path, folder: Path) -> Path:
    """What metatrain exports from a checkpoint; without one, a checkpoint of 10 MB is made too."""
    made = folder / f"{model.stem}.pt"
    script = [peer.python, str(WORKER.parent / "make_pet.py")]
    options = ["--export"] if model.exists() else []
    call = [*script, *options, str(model), str(made)]
    subprocess.run(call, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": ""})
    return made


def converted(kokkos: Contestant, metatomic: Contestant, model: Path, folder: Path) -> Path:
    """What pet-kokkos's converter, run by metatrain's interpreter, makes of a checkpoint."""
    made = folder / model.stem
    script = Path(kokkos.python).parent.parent / "convert_pet.py"
    call = [metatomic.python, str(script), "--ckpt", str(model), "--out", str(made)]
    subprocess.run(call, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": ""})
    return made


def others(given: list[Contestant], model: Path, folder: Path) -> list[Contestant]:
    """The other codes, each with its own form of a checkpoint."""
    by_code = {c.code: c for c in given}
    metatomic, kokkos = by_code.get("metatomic"), by_code.get("pet_kokkos")
    if metatomic is None:
        return []
    found = [metatomic.on(exported(metatomic, model, folder))]
    if kokkos is not None:
        found.append(kokkos.on(converted(kokkos, metatomic, model, folder)))
    return found


def speed(given: list[Contestant], folder: Path, arguments: argparse.Namespace) -> list[Any]:
    """Time and memory of all models and sizes."""
    rows = []
    for name in arguments.models:
        path = PET / f"{name}.ckpt"
        theirs = others(given, path, folder)
        mine = theirs[0].model if arguments.exported and theirs else path
        bare: dict[str, Any] = {"symmetry": None}
        contestants = [ours(mine, "ase_pet", **bare), ours(mine, "skin 0", skin=0.0, **bare)]
        contestants += theirs
        for n_atoms in arguments.atoms:
            atoms = silicon(n_atoms)
            weights = [weigh(c, atoms) for c in contestants]
            bound = products(path, atoms)
            timed = clock(contestants, atoms, 1, arguments.turns, max(1, min(9, 256 // n_atoms)))
            for c, t, w in zip(contestants, timed, weights, strict=True):
                row = {"model": name, "atoms": n_atoms, "code": c.name, **t, **w}
                row["ours / this"] = timed[0]["ms"] / t["ms"]
                row["ours / this, cpu"] = timed[0]["cpu ms"] / t["cpu ms"]
                row["products ms"] = bound
                row["energy differs"] = abs(t["energy"] - timed[0]["energy"]) / n_atoms
                rows.append(row)
                console.print(f"{name} {n_atoms} {c.name}: {t['ms']:.4g} ms")
            write("pet_metatrain", {"turns": arguments.turns, "rows": rows})
    return rows


def first_energy(contestant: Contestant) -> tuple[float, float]:
    """Seconds from the start of a process to an energy, and its peak memory, MB."""
    atoms = silicon(8)
    start = time.perf_counter()
    with Worker(contestant) as worker:
        worker.take(atoms)
        worker.ask(positions=atoms.positions.tolist())
        seconds = time.perf_counter() - start
        return seconds, worker.ask(memory=True)["VmHWM"]


def starts(peer: Contestant, folder: Path, turns: int) -> list[Any]:
    """Start of ours and of a peer."""
    path = folder / "large.ckpt"
    theirs = peer.on(exported(peer, path, folder))
    contestants = [ours(path, symmetry=None), theirs]
    found: dict[str, list[tuple[float, float]]] = {c.name: [] for c in contestants}
    for _ in range(turns):
        for c in contestants:
            found[c.name].append(first_energy(c))
    size = path.stat().st_size / 1e6
    return [
        {
            "code": name,
            "checkpoint MB": size,
            "s": median(a),
            "fastest s": min(a),
            "peak MB": max(b),
        }
        for name, values in found.items()
        for a, b in [tuple(zip(*values, strict=True))]
    ]


def main() -> None:
    """Measure, print, write ``results/pet_metatrain.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_peers(parser)
    parser.add_argument("--atoms", type=int, nargs="+", default=SIZES, choices=SIZES)
    parser.add_argument("--turns", type=int, default=7, help="turns of each code (default 7)")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--no-start", action="store_true", help="leave out the start of processes")
    parser.add_argument("--exported", action="store_true", help="give ours the exported model too")
    arguments = parser.parse_args()
    require(PET)
    torch.set_num_threads(1)
    load = os.getloadavg()
    given = peers(arguments.peer)
    peer = next((c for c in given if c.code == "metatomic"), None)
    with tempfile.TemporaryDirectory() as made:
        rows = speed(given, Path(made), arguments)
        first = (
            [] if peer is None or arguments.no_start else starts(peer, Path(made), arguments.turns)
        )
    columns = ["model", "atoms", "code", "ms", "ours / this", "cpu ms", "ours / this, cpu"]
    columns += ["fastest ms", "products ms", "peak MB", "rise MB", "energy differs"]
    show("Silicon, float32, one thread", columns, [[r[c] for c in columns] for r in rows])
    if first:
        show("First energy", list(first[0]), [list(r.values()) for r in first])
    write(
        "pet_metatrain",
        {"load before": load, "turns": arguments.turns, "rows": rows, "start": first},
    )


if __name__ == "__main__":
    main()
