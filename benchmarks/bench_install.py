"""What an installation takes: packages, megabytes, modules, seconds to the first energy.

Each ``--peer NAME=PYTHON`` names an environment (``peers/README.md``); ``ase_pet=PYTHON`` is ours
as users install it, without what development needs. Everything is counted there:

* packages and megabytes of site-packages, in all and without torch and what torch alone requires;
* seconds from the start of a process to the energy of 8 silicon atoms, median of fresh processes,
  by turns: import, checkpoint, first evaluation;
* modules imported by then, and from how many packages they come.

TorchMD-NET has a checkpoint of its own, and a free cluster for a structure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from statistics import median
from typing import Any

from bench_tensornet import structure
from common import show, write
from remote import MATPES, Contestant, Worker, add_peers, ours, peers, require

# Runs in the environment that is measured: standard library alone.
CENSUS = """
import json, re
from importlib.metadata import distributions

def name(text):
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", text)[0]).lower()

found = {name(d.metadata["Name"]): d for d in distributions()}
for installer in ("pip", "setuptools", "wheel"):
    found.pop(installer, None)
needed, todo = set(), ["torch"]
while todo:
    one = todo.pop()
    if one in found and one not in needed:
        needed.add(one)
        todo += [name(r) for r in found[one].requires or () if "extra ==" not in r]

def size(package):
    files = {f.locate().resolve() for f in package.files or ()}
    return sum(f.stat().st_size for f in files if f.is_file()) / 1e6

rest = found.keys() - needed
print(json.dumps({
    "packages": len(found),
    "packages without torch": len(rest),
    "MB": sum(map(size, found.values())),
    "MB without torch": sum(size(found[p]) for p in rest),
    "names": sorted(found),
}))
"""


def census(python: str) -> dict[str, Any]:
    """Packages of an environment and their size, MB of 10⁶ bytes."""
    call = [python, "-c", CENSUS]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    out = subprocess.run(call, check=True, capture_output=True, text=True, env=environment)
    counted: dict[str, Any] = json.loads(out.stdout)
    return counted


def first_energy(contestant: Contestant) -> tuple[float, list[str]]:
    """Seconds from the start of a process to an energy, and the modules imported by then."""
    atoms = structure("MatPES" if contestant.model == MATPES else "", 8)
    start = time.perf_counter()
    with Worker(contestant) as worker:
        worker.take(atoms)
        worker.ask(positions=atoms.positions.tolist())
        seconds = time.perf_counter() - start
        modules: list[str] = worker.ask(modules=True)["modules"]
    return seconds, modules


def main() -> None:
    """Measure, print, write ``results/install.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_peers(parser)
    parser.add_argument("--turns", type=int, default=5, help="fresh processes of each (default 5)")
    arguments = parser.parse_args()
    require(MATPES)
    contestants = peers(arguments.peer) or [ours(MATPES, "ase_pet, this environment")]
    load = os.getloadavg()
    seconds: dict[str, list[float]] = {c.name: [] for c in contestants}
    modules: dict[str, list[str]] = {}
    for _ in range(arguments.turns):
        for contestant in contestants:
            taken, modules[contestant.name] = first_energy(contestant)
            seconds[contestant.name].append(taken)
    columns = ["packages", "packages without torch", "MB", "MB without torch"]
    rows, data = [], []
    for c in contestants:
        counted = census(c.python)
        tops = {m.partition(".")[0] for m in modules[c.name]}
        row = {**counted, "seconds": median(seconds[c.name]), "modules": len(modules[c.name])}
        data.append({"code": c.name, **row, "top-level modules": sorted(tops)})
        numbers = [row[k] for k in columns]
        rows.append([c.name, *numbers, row["seconds"], min(seconds[c.name]), row["modules"]])
    columns += ["seconds to first energy", "fastest", "modules"]
    for row in rows:
        row[3:5] = [f"{x:.0f}" for x in row[3:5]]
    show("Installation", ["code", *columns], rows)
    write("install", {"load before": load, "turns": arguments.turns, "rows": data})


if __name__ == "__main__":
    main()
