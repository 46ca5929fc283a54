"""What the benchmarks share: shipped models, structures, timing, output."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from rich.console import Console
from rich.table import Table

mpl.use("Agg")

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = ROOT / "checkpoints"
#: Where figures go; a quick run keeps its own away from those that took hours.
RESULTS = Path(os.environ.get("BENCH_RESULTS", ROOT / "benchmarks" / "results")).resolve()
console = Console(width=110)


def shipped() -> dict[str, Path]:
    """The shipped checkpoints by name."""
    return {path.stem: path for path in sorted(CHECKPOINTS.glob("*.pt"))}


def write(name: str, data: dict[str, Any]) -> None:
    """Write figures and what they were measured on to ``results/name.json``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    machine = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    text = json.dumps({"machine": machine, **data}, indent=1, default=float)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def processor() -> str:
    """Name of the processor, as Linux says it, and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def resident(name: str) -> float:
    """``"VmRSS"``, memory of this process now, or ``"VmHWM"``, at its peak, MB (Linux).

    The peak of ``getrusage`` is no use here: a new process inherits that of its parent.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def forget_peak() -> None:
    """Let ``VmHWM`` begin again at the memory of now."""
    Path("/proc/self/clear_refs").write_text("5")


def show(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table; floats with three digits."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row))
    console.print(table)


def milliseconds(call: Callable[[], object], repeats: int = 7) -> float:
    """Median time of a call after one that warms up, ms."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def water(n_molecules: int, spacing: float = 3.105, seed: int = 0) -> Atoms:
    """Water-like: rotated molecules on a grid at the density of the liquid."""
    rng = np.random.default_rng(seed)
    n = round(n_molecules ** (1 / 3))
    if n**3 != n_molecules:
        raise ValueError(f"n_molecules: expected a cube number, got {n_molecules}")
    box = Atoms(cell=[spacing * n] * 3, pbc=True)
    for place in np.ndindex(n, n, n):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate(spacing * np.array(place))
        box += one
    return box


def rattled(symbol: str, repeat: tuple[int, int, int], stdev: float = 0.08) -> Atoms:
    """A cubic crystal with displaced atoms."""
    atoms = bulk(symbol, cubic=True).repeat(repeat)
    atoms.rattle(stdev, seed=1)
    return atoms


def rotation(rng: np.random.Generator, *, reflect: bool = False) -> np.ndarray:
    """A random rotation matrix [3, 3], or a rotation times the inversion."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    q = q * np.sign(np.linalg.det(q))
    return -q if reflect else q


def rotate(atoms: Atoms, q: np.ndarray) -> Atoms:
    """Apply a rotation or reflection to positions and cell."""
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ q.T)
    turned.positions = atoms.positions @ q.T
    return turned
