"""One step of molecular dynamics: where its time goes, and how many operations it dispatches.

``python benchmarks/profile_step.py --model pet-si --atoms 8 64 512`` runs silicon at 300 K under
velocity Verlet. Sizes take turns, so that other work on the machine meets all of them alike.
``--model`` is a shipped checkpoint or a path; ``--symmetry none`` is the bare network.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from common import console, shipped, show, write
from torch.utils._python_dispatch import TorchDispatchMode

from ase_pet import PETCalculator, derivatives, engine, load
from ase_pet.engine import Engine
from ase_pet.formats import Model
from ase_pet.interfaces import ase_calculator
from ase_pet.neighbors import VerletSkin

#: Silicon cells of these many atoms.
CELLS = {8: (1, 1, 1), 64: (2, 2, 2), 216: (3, 3, 3), 512: (4, 4, 4), 1000: (5, 5, 5),
         1728: (6, 6, 6), 4096: (8, 8, 8)}  # fmt: skip
#: Where others use the machine, too, the processor's time says more, with one thread.
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
#: What belongs to which part: the innermost of these functions that runs.
PARTS: list[tuple[Any, str, str]] = [
    (PETCalculator, "compute", "results"),
    (PETCalculator, "system_of", "conversion"),
    (Engine, "graph", "vectors"),
    (VerletSkin, "measured", "neighbours"),
    (engine, "evaluate", "derivatives"),
    (engine, "results", "derivatives"),
    (derivatives, "predict", "network"),
    (torch.autograd, "grad", "network"),
    (ase_calculator, "ase_results", "results"),
]
NAMES = ("ASE", "conversion", "neighbours", "vectors", "network", "derivatives", "results")


class Stopwatch(TorchDispatchMode):
    """Charges time to the part that runs and, while entered, operations.

    Args:
        device: Where the network runs.
        clock: Tells seconds.
    """

    def __init__(self, device: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock
        self.wait = torch.cuda.synchronize if "cuda" in device else None
        self.running = ["ASE"]
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.operations: Counter[str] = Counter()
        self.since = clock()

    def charge(self) -> None:
        """Charge what has passed since the last call."""
        if self.wait is not None:
            self.wait()
        now = self.clock()
        self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Charge a function to a part."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def watched(*args: Any, **options: Any) -> Any:
            self.charge()
            self.running.append(part)
            try:
                return function(*args, **options)
            finally:
                self.charge()
                self.running.pop()

        setattr(owner, name, watched)

    def take(self) -> dict[str, float]:
        """Seconds of each part since the last call."""
        self.charge()
        taken, self.seconds = self.seconds, defaultdict(float)
        return taken

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation."""
        self.operations[self.running[-1]] += 1
        return func(*args, **(kwargs or {}))


class Run:
    """Dynamics of one size.

    Args:
        model: What to run.
        n_atoms: One of ``CELLS``.
        options: Of the calculator.
    """

    def __init__(self, model: Model, n_atoms: int, options: dict[str, Any]) -> None:
        self.atoms: Atoms = bulk("Si", cubic=True).repeat(CELLS[n_atoms])
        # Twice the temperature: half of the kinetic energy goes into the potential at once.
        thermalize_momenta(self.atoms, 600.0, rng=np.random.default_rng(0))
        Stationary(self.atoms)
        self.calc = self.atoms.calc = PETCalculator(model, **options)
        self.dynamics = VelocityVerlet(self.atoms, timestep=units.fs).irun(10**9)
        self.steps: list[dict[str, float]] = []
        self.built: list[bool] = []
        self.operations: Counter[str] = Counter()

    @property
    def builds(self) -> int:
        """Neighbour lists built so far."""
        return self.calc.engine.skinned.n_builds

    def step(self, watch: Stopwatch) -> None:
        """One step, measured."""
        before = self.builds
        watch.take()
        next(self.dynamics)
        self.steps.append(watch.take())
        self.built.append(self.builds > before)

    def count(self, watch: Stopwatch) -> None:
        """Count the operations of a step that builds no list."""
        while not self.operations:
            before, watch.operations = self.builds, Counter()
            with watch:
                next(self.dynamics)
            if self.builds == before:
                self.operations = watch.operations

    def summary(self) -> dict[str, Any]:
        """Times in ms, of steps without a new list and, of the neighbours, with one."""
        reused = [s for s, built in zip(self.steps, self.built, strict=True) if not built]
        built = [s for s, built in zip(self.steps, self.built, strict=True) if built]
        totals = [1e3 * sum(s.values()) for s in reused]
        parts = {name: [1e3 * s.get(name, 0.0) for s in reused] for name in NAMES}
        every = len(self.steps) / max(len(built), 1)
        build = 1e3 * median(s["neighbours"] for s in built) if built else 0.0
        typical = {name: median(times) for name, times in parts.items()}
        around = sum(typical.values()) - typical["network"] + (build / every if built else 0.0)
        return {
            "step": {"median": median(totals), "min": min(totals)},
            "parts": {k: {"median": typical[k], "min": min(v)} for k, v in parts.items()},
            "operations": dict(self.operations),
            "build": build,
            "steps per build": every,
            "around": around,
            "share": around / (around + typical["network"]),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pet-si")
    parser.add_argument("--atoms", type=int, nargs="+", default=[8, 64, 512], choices=CELLS)
    parser.add_argument("--symmetry", default="none", help="none, O(3) or SO(3)")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--skin", type=float, default=0.5, help="Å")
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a size in a round")
    asked = parser.parse_args()
    symmetry = None if asked.symmetry == "none" else asked.symmetry
    model = load(shipped().get(asked.model, asked.model))
    options = {
        "symmetry": symmetry,
        "dtype": asked.dtype,
        "device": asked.device,
        "skin": asked.skin,
    }
    runs = {n: Run(model, n, options) for n in asked.atoms}
    watch = Stopwatch(asked.device, CLOCKS[asked.clock])
    for part in PARTS:
        watch.watch(*part)
    for run in runs.values():
        for _ in range(4):
            next(run.dynamics)
        run.count(watch)
    for _ in range(asked.rounds):
        for run in runs.values():
            stop = time.perf_counter() + asked.seconds
            while time.perf_counter() < stop:
                run.step(watch)
    console.print(f"{asked.model}, {options}")
    found = {n: run.summary() for n, run in runs.items()}
    for n, s in found.items():
        step = s["step"]["median"]
        rows = [
            [
                k,
                t["median"],
                t["min"],
                f"{100 * t['median'] / step:.1f} %",
                s["operations"].get(k, 0),
            ]
            for k, t in s["parts"].items()
        ]
        rows.append(["all", step, s["step"]["min"], "100 %", sum(s["operations"].values())])
        show(
            f"{asked.model}, {n} atoms: one step", ["", "ms", "least", "share", "operations"], rows
        )
        console.print(
            f"neighbours of a step that builds a list: {s['build']:.3g} ms, every "
            f"{s['steps per build']:.0f} steps; all but the network, with its share of that: "
            f"{s['around']:.3g} ms, {100 * s['share']:.1f} % of a step\n"
        )
    write("profile_step", {"model": asked.model, "clock": asked.clock, **options, "atoms": found})


if __name__ == "__main__":
    main()
