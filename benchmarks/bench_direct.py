"""Direct forces of a PET of metatrain: how fast they are beside conservative ones.

Times are those of the processor, of one thread, energy and forces and stress.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from ase import Atoms
from ase.io import read
from bench_metatrain_symmetry import FOLDER
from common import show, write
from remote import require

from ase_pet import PETCalculator, load
from ase_pet.formats import Model

MODEL = "fresh_adaptive_nc"
WAYS: dict[str, dict[str, Any]] = {
    "bare": {"symmetry": None},
    "O(3), global": {"ensemble": "global", "memory_budget": "300MB"},
}


def seconds(calc: PETCalculator, atoms: Atoms, repeats: int = 7) -> float:
    """Median time of the processor for one evaluation."""
    calc.compute([atoms])
    times = []
    for _ in range(repeats):
        start = time.process_time()
        calc.compute([atoms])
        times.append(time.process_time() - start)
    return median(times)


def speed(model: Model) -> dict[str, dict[str, float]]:
    """Milliseconds of each way for conservative and direct forces."""
    found: dict[str, dict[str, float]] = {}
    for atoms in read(FOLDER / "structures.extxyz", ":"):
        name = atoms.info["name"]
        for way, options in WAYS.items():
            large = name == "gaas64_rattled" and way != "bare"
            if name in ("ethanol", "si8_rattled", "gaas64_rattled") and not large:
                found[f"{name}, {way}"] = {
                    kind: 1e3 * seconds(PETCalculator(model, forces=kind, **options), atoms)
                    for kind in ("conservative", "direct")
                }
    return found


def main() -> None:
    """Measure the time of each way."""
    require(FOLDER)
    times = speed(load(FOLDER / f"{MODEL}.ckpt"))
    rows = [
        [name, ms["conservative"], ms["direct"], ms["conservative"] / ms["direct"]]
        for name, ms in times.items()
    ]
    show(f"{MODEL}, float32: ms", ["", "conservative", "direct", "times as fast"], rows)
    write("direct", {"ms": times})


if __name__ == "__main__":
    main()
