"""Run every benchmark in a process of its own, go on after failures, collect a report.

``make bench`` runs it; ``make bench QUICK=1`` takes at most ten minutes, and what it leaves out or
measures only in part is no figure to quote; ``make bench LONG=1`` adds studies that take hours.
Other codes are found in ``FOLDER/NAME/bin/python`` (``--peers FOLDER``, see ``peers/README.md``);
those that are not there are named and left out.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from common import write
from report import write_report

HERE = Path(__file__).resolve().parent
PEERS = {
    "metatomic": ("metatomic-0.1.4",),
    "pet_kokkos": ("pet-kokkos-0.1.1",),
    "matgl": ("matgl-2.0.4", "matgl-4.1.2", "matgl-4.1.2-ops"),
    "torchmdnet": ("torchmdnet-3.1.0",),
    "ase_pet": ("ase_pet",),
}


@dataclass(frozen=True)
class Script:
    """A benchmark and how it is run.

    Attributes:
        name: Of ``bench_NAME.py``.
        minutes: After which it is stopped.
        peers: Other codes that it compares with.
        options: Its arguments.
        quick: Its arguments in a quick run; ``None`` if it has no part in it.
        quick_minutes: After which it is stopped in a quick run.
        long: Whether it has part in long runs only.
    """

    name: str
    minutes: float
    peers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None
    quick_minutes: float = 0.0
    long: bool = False


_QUICK_PRICE = ("--models", "PET, 1 layer", "PET, 2 layers", "TensorNet", "--turns", "3")
_QUICK_PRICE += ("--structures", "Si 64", "water 192", "--longest", "2", "--no-memory")
_ONE_THREAD = ("--threads", "1")
_FEW = ("--atoms", "64", "--turns", "3")
_QUICK_PET = ("--models", "fresh_default", "--no-start", *_FEW)
_QUICK_TENSORNET = (*_FEW, *_ONE_THREAD)
#: What the price is about comes first.
SCRIPTS = (
    Script("price", 90, ("metatomic",), quick=_QUICK_PRICE, quick_minutes=3.5),
    Script("pet_metatrain", 30, ("metatomic", "pet_kokkos"), (), _QUICK_PET, 2.5),
    Script("tensornet", 45, ("matgl", "torchmdnet"), _ONE_THREAD, _QUICK_TENSORNET, 2.5),
    Script("smoothness", 15),
    Script("shift", 20, options=("--orientations", "60")),
    Script("symmetry", 15),
    Script("compile", 15),
    Script("limits", 5),
    Script("direct", 5),
    Script("edge_cases", 5, ("matgl", "torchmdnet"), quick=(), quick_minutes=1.5),
    Script("install", 15, ("ase_pet", "matgl", "torchmdnet"), long=True),
    Script("metatrain_symmetry", 120, options=("--largest", "30000"), long=True),
    Script("phonons", 45, long=True),
    Script("materials", 90, ("matgl",), long=True),
    Script("dynamics", 90, long=True),
    Script("md_memory", 60, long=True),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a script.

    Attributes:
        script: Its name.
        state: ``"done"``, ``"skipped: ..."``, ``"failed: ..."`` or ``"stopped after ..."``.
        seconds: That it ran.
    """

    script: str
    state: str
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether it neither ended well nor said that it had nothing to measure."""
        return self.state.startswith(("failed", "stopped"))


def installed(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """``NAME=PYTHON`` of the other codes that are there, by code, and lines about the others."""
    found: dict[str, list[str]] = {code: [] for code in PEERS}
    missing = []
    for code, names in PEERS.items():
        for name in names:
            python = folder / name / "bin" / "python"
            if python.is_file():
                found[code].append(f"{name}={python}")
            else:
                missing.append(f"{name} is not compared with: {python} is not there")
    return found, missing


def command(script: Script, found: dict[str, list[str]], *, quick: bool) -> list[str]:
    """Command line of a script, without the interpreter."""
    options = (script.quick or ()) if quick else script.options
    given = [text for code in script.peers for text in found[code][: 1 if quick else None]]
    asked = [word for text in given for word in ("--peer", text)]
    return [f"bench_{script.name}.py", *options, *asked]


def run(name: str, call: list[str], seconds: float) -> Outcome:
    """Run a script, showing what it says, and stop it with all its processes after a time."""
    start = time.monotonic()
    stopped, skipped = threading.Event(), ""
    options = {"text": True, "start_new_session": True, "env": environment()}
    with subprocess.Popen(call, stdout=subprocess.PIPE, **options) as process:

        def stop() -> None:
            stopped.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                skipped = line.strip() if line.startswith("skipped:") else skipped
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:  # interrupted: leave nothing running
                os.killpg(process.pid, signal.SIGKILL)
    taken = time.monotonic() - start
    if stopped.is_set():
        return Outcome(name, f"stopped after {seconds:g} s", taken)
    if status:
        return Outcome(name, f"failed: status {status}", taken)
    return Outcome(name, skipped or "done", taken)


def environment() -> dict[str, str]:
    """One thread unless asked otherwise; pictures into files."""
    return {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **os.environ, "MPLBACKEND": "Agg"}


def outcomes(scripts: list[Script], folder: Path, *, quick: bool) -> Iterator[Outcome]:
    """Run scripts one after the other."""
    found, missing = installed(folder)
    print("\n".join(missing), flush=True)
    for script in scripts:
        words = command(script, found, quick=quick)
        print(f"== {shlex.join(words)}", flush=True)
        minutes = script.quick_minutes if quick else script.minutes
        call = [sys.executable, str(HERE / words[0]), *words[1:]]
        yield run(script.name, call, 60 * minutes)


def main() -> int:
    """Run, write the report, say what failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten minutes at most")
    parser.add_argument("--long", action="store_true", help="also what takes hours")
    parser.add_argument("--only", nargs="+", default=[], choices=[s.name for s in SCRIPTS])
    parser.add_argument("--peers", type=Path, default=Path("/tmp/peers"), metavar="FOLDER")
    given = parser.parse_args()
    usual = [s.name for s in SCRIPTS if given.long or not s.long]
    chosen = [s for s in SCRIPTS if s.name in (given.only or usual)]
    chosen = [s for s in chosen if not given.quick or s.quick is not None]
    ended = []
    for outcome in outcomes(chosen, given.peers.resolve(), quick=given.quick):
        print(f"== {outcome.script}: {outcome.state}, {outcome.seconds:.0f} s", flush=True)
        ended.append(outcome)
        rows = [asdict(o) for o in ended]
        write("run", {"quick": given.quick, "missing": installed(given.peers)[1], "rows": rows})
        write_report()
    failed = [o for o in ended if o.failed]
    for outcome in failed:
        print(f"{outcome.script} {outcome.state}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
