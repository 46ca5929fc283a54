"""Kill molecular dynamics at random moments, let it continue, compare with a run left alone.

Runs of 8 silicon atoms, in processes of their own, get SIGKILL at random moments and are started
again until one ends by itself; its files must be those of a run that was never killed, byte by
byte. A kill counts where the process was at work.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
from ase.build import bulk

from ase_pet import PETCalculator
from ase_pet.workflows.md import DYNAMICS, FORMATS, MDSettings, run_md

#: Files that do not say how long it took.
FILES = ("md.csv", "final.extxyz", "md.checkpoint.npz", "md.png")


@dataclass
class Outcome:
    """What became of one dynamics.

    Attributes:
        kills: Processes that were killed.
        runs: Runs that came to their end in spite of it.
        resumed: At which step they continued.
        different: Files that are not those of the run that was left alone.
    """

    kills: int
    runs: int
    resumed: list[int]
    different: list[str]


def simulate(model: str, structure: str, options: dict[str, Any], folder: str) -> None:
    """One process: begin or continue."""
    atoms = ase.io.read(structure)
    atoms.calc = PETCalculator(model, device="cpu", symmetry=None)
    run_md(atoms, MDSettings(**options), folder, resume=True)


def processes(model: str, structure: Path, options: dict[str, Any], folder: Path) -> Iterator[Any]:
    """Processes that go on with one run, as many as are asked for, started."""
    # One server has imported everything, and its children are there at once.
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ase_pet.workflows.md", "ase_pet.interfaces.ase_calculator"])
    while True:
        process = context.Process(
            target=simulate, args=(str(model), str(structure), options, str(folder))
        )
        process.start()
        yield process


def torture(
    model: str, structure: Path, options: dict[str, Any], n_kills: int, folder: Path, seed: int = 0
) -> Outcome:
    """Kill runs until there were ``n_kills``; compare each with the one left alone."""
    rng = random.Random(seed)
    alone = folder / "alone"
    next(processes(model, structure, options, alone)).join()
    whole = (alone / "md.csv").stat().st_size
    names = (*FILES, f"md.{options['format']}")
    outcome = Outcome(0, 0, [], [])
    while outcome.kills < n_kills:
        killed = folder / f"killed-{outcome.runs}"
        for process in processes(model, structure, options, killed):
            if outcome.kills < n_kills:
                wait_for(process, killed / "md.csv", rng.uniform(0.02, 0.3) * whole)
                process.join(rng.uniform(0.0, 0.03))
            else:
                process.join()
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            outcome.kills += 1
            outcome.resumed.append(step_of(killed))
        assert process.exitcode == 0, f"{killed}: a run failed"
        outcome.runs += 1
        outcome.different += [
            name for name in names if (alone / name).read_bytes() != (killed / name).read_bytes()
        ]
    return outcome


def wait_for(process: Any, path: Path, growth: float) -> None:
    """Return when a file has grown by some bytes, or the process is over."""
    size = lambda: path.stat().st_size if path.exists() else 0  # noqa: E731
    start = size()
    while process.exitcode is None and size() < start + growth:
        # What was written after a checkpoint is taken back first.
        start = min(start, size())
        process.join(0.001)


def step_of(folder: Path) -> int:
    """The step from which a run would continue; 0 is its beginning."""
    from ase_pet.workflows.md.checkpoint import Checkpoint

    found = Checkpoint.read(folder)
    return 0 if found is None else found.step


def main() -> None:
    """Torture each dynamics."""
    from common import console, show, write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pet-si")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--dynamics", nargs="+", choices=DYNAMICS, default=DYNAMICS)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    given = parser.parse_args()
    rows, data = [], {}
    with tempfile.TemporaryDirectory() as name:
        structure = Path(name) / "si.extxyz"
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.05, seed=1)
        atoms.write(structure)
        for k, dynamics in enumerate(given.dynamics):
            options = {"dynamics": dynamics, "steps": given.steps, "temperature": 500.0}
            options |= {"interval": 3, "checkpoint_seconds": 0.1, "pressure_damping": 200.0}
            options |= {"format": given.formats[k % len(given.formats)], "equilibration": 20}
            if dynamics.startswith("mtk"):
                options["pressure"] = 1.0
            folder = Path(name) / dynamics
            found = torture(given.model, structure, options, given.kills, folder, seed=k)
            data[dynamics] = {**vars(found), "format": options["format"]}
            same = ", ".join(sorted(set(found.different))) or "none"
            console.print(f"{dynamics}: {found.kills} kills, continued from {found.resumed}")
            rows.append([dynamics, options["format"], found.kills, found.runs, same])
    write("kill_md", {"steps": given.steps, **data})
    columns = ["", "format", "kills", "runs that ended", "files that differ"]
    show(f"{given.model}: {given.steps} steps, killed at random moments", columns, rows)


if __name__ == "__main__":
    main()
