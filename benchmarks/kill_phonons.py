"""Kill a phonon run at random moments, let it go on each time, and compare with one left alone.

Every run is a process of its own that gets SIGKILL. A run that was killed is started again until it
ends; what it leaves must be that of the run left alone, byte by byte, but for the time it took.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ase.build import bulk
from common import CHECKPOINTS, console, show, write

FILES = ("phonopy_params.yaml", "bands.csv", "thermal.csv", "relax/relaxed.extxyz")
#: What tells how a run went, not what it found.
COURSE = ("seconds", "n_supercells_of_an_earlier_run", "command", "date")


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(CHECKPOINTS / "pet-si.pt"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="further options of `ase-pet phonons`, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = prepare(Path(folder), given.model, given.options)
        began = time.perf_counter()
        assert start(command, Path(folder) / "whole").wait() == 0
        duration = time.perf_counter() - began
        console.print(f"a run left alone: {duration:.1f} s")
        rows = kill_all(command, Path(folder), duration, given.kills, random.Random(given.seed))
    columns = ["killed after, s", "batches kept", "files that differ"]
    show("phonon runs that were killed and went on", columns, rows)
    found = [dict(zip(("seconds", "n_kept", "differing"), row, strict=True)) for row in rows]
    write("kill_phonons", {"seconds": duration, "kills": found})


def prepare(folder: Path, model: str, options: list[str]) -> list[str]:
    """A rattled crystal without symmetry, and the command that computes its phonons."""
    atoms = bulk("Si").repeat((2, 1, 1))
    atoms.rattle(0.05, seed=1)
    atoms.write(folder / "crystal.extxyz")
    call = "from ase_pet.cli import app; app()"
    fixed = ["--supercell", "1", "1", "1", "--mesh", "20", "--no-use-symmetry", "--no-relax"]
    batch = ["--two-sided", "--batch-atoms", "8", "--dtype", "float64"]
    crystal = str(folder / "crystal.extxyz")
    return [sys.executable, "-c", call, "phonons", model, crystal, *fixed, *batch, *options]


def start(command: list[str], out: Path) -> subprocess.Popen:
    """The command in a process group of its own, writing to a folder."""
    return subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.DEVNULL, start_new_session=True
    )


def kill_all(
    command: list[str], folder: Path, duration: float, n_kills: int, chance: random.Random
) -> list[list[float | int]]:
    """Runs that are killed again and again until they end, and what then differs."""
    rows: list[list[float | int]] = []
    out = folder / "killed"
    while len(rows) < n_kills:
        first = len(rows)
        while True:
            process, wait = start(command, out), chance.uniform(0.0, duration)
            try:
                assert process.wait(wait) == 0
                break
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                rows.append([wait, len(list((out / "forces").glob("*.npz"))), 0])
            if len(rows) == n_kills:
                assert start(command, out).wait() == 0
                break
        n_different = len(differing(folder / "whole", out))
        for row in rows[first:]:
            row[2] = n_different
        shutil.rmtree(out)
    return rows


def differing(one: Path, other: Path) -> list[str]:
    """Files that are not the same, or are in one folder only; leftovers of writing count."""
    names = [name for name in FILES if (one / name).exists()]
    different = [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]
    found = [json.loads((folder / "summary.json").read_text()) for folder in (one, other)]
    for summary in found:
        for name in COURSE:
            del summary[name]
    listed = [{str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()} for f in (one, other)]
    if found[0] != found[1]:
        different.append("summary.json")
    return [*different, *(listed[0] ^ listed[1])]


if __name__ == "__main__":
    main()
