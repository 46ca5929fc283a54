"""What ``compile=True`` costs at first and gains after, on one thread, against the same calculator.

Time of the processor for energy, forces and stress of rattled silicon, both calculators by turns,
float32, least and median. The first evaluation is that with nothing in the compiler's cache, with
the compiler's own processes. Other models are given by ``--model FILE``.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from statistics import median
from typing import Any

import torch
from ase.build import bulk
from common import console, shipped, show, write

from ase_pet import PETCalculator

CASES = ((8, None, 31), (64, None, 15), (512, None, 7), (64, "O(3)", 5))


def processor() -> float:
    """Time that this process and those that it has waited for have taken, s."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def compare(model: str, n_atoms: int, symmetry: str | None, turns: int) -> dict[str, Any]:
    """Times of both calculators, ms, and how far their forces are apart, eV/Å."""
    calcs = {
        flag: PETCalculator(
            model, device="cpu", dtype="float32", symmetry=symmetry, ensemble="local", compile=flag
        )
        for flag in (False, True)
    }
    crystal = bulk("Si", cubic=True).repeat({8: 1, 64: 2, 512: 4}[n_atoms])
    times: dict[bool, list[float]] = {False: [], True: []}
    apart, first = 0.0, 0.0
    for turn in range(turns + 1):
        forces = {}
        for flag, calc in calcs.items():
            atoms = crystal.copy()
            atoms.rattle(0.1, seed=turn)
            began, spent = time.perf_counter(), processor()
            forces[flag] = calc.get_forces(atoms)
            times[flag].append(1e3 * (processor() - spent))
            if flag and not turn:
                first = time.perf_counter() - began
        apart = max(apart, float(abs(forces[True] - forces[False]).max()))
    plain, fast = (times[flag][1:] for flag in (False, True))
    return {
        "atoms": n_atoms,
        "symmetry": symmetry or "none",
        "first_s": first,
        "plain_ms": [min(plain), median(plain)],
        "compiled_ms": [min(fast), median(fast)],
        "ratio": median(fast) / median(plain),
        "apart": apart,
    }


def main() -> None:
    """Compare all models at all sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", default=[], help="another checkpoint")
    given = parser.parse_args().model
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for model in (str(shipped()["pet-si"]), str(shipped()["tensornet-si"]), *given):
            for case in CASES:
                if case[1] is None or "pet-si" in model:
                    rows.append({"model": model.split("/")[-1], **compare(model, *case)})
                    console.print(rows[-1])
    titles = [
        "model",
        "atoms",
        "symmetry",
        "first, s",
        "plain, ms",
        "compiled, ms",
        "ratio",
        "eV/Å",
    ]
    text = [
        [" / ".join(f"{x:.3g}" for x in v) if isinstance(v, list) else v for v in row.values()]
        for row in rows
    ]
    show("compile=True (least / median of the processor's time)", titles, text)
    write("compile", {"rows": rows})


if __name__ == "__main__":
    main()
