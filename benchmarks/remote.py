"""Other codes in processes and environments of their own, see ``peers/README.md``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from common import ROOT

WORKER = Path(__file__).resolve().parent / "peers" / "worker.py"
REFERENCE = ROOT.parent / "shared" / "reference"
MATPES = REFERENCE / "tensornet_matgl" / "TensorNet-MatPES-PBE-v2025.1-PES"
PET = REFERENCE / "pet_metatrain"
TORCHMDNET = REFERENCE / "tensornet_torchmdnet" / "tensornet_o3_h64_l2.ckpt"
#: Codes of the worker, with the model that each evaluates unless it is given another.
CODES = {
    "ase_pet": MATPES,
    "matgl": MATPES,
    "torchmdnet": TORCHMDNET,
    "metatomic": PET / "fresh_default.ckpt",
    "pet_kokkos": PET / "fresh_default.ckpt",
}


def require(path: Path) -> None:
    """End a script that has nothing to measure, saying why, if a file or folder is not there."""
    if not path.exists():
        print(f"skipped: needs {path}")
        raise SystemExit(0)


@dataclass(frozen=True)
class Contestant:
    """A code with everything that a process of it needs.

    Args:
        name: What tables call it.
        code: A function of ``peers/worker.py``.
        python: Interpreter of its environment.
        model: Checkpoint.
        dtype: ``"float32"`` or ``"float64"``.
        options: Further arguments of its calculator.
        installed: Whether its environment has the code; this clone is put before it otherwise.
    """

    name: str
    code: str
    python: str
    model: Path
    dtype: str = "float32"
    options: dict[str, Any] = field(default_factory=dict)
    installed: bool = True

    def on(self, model: Path, dtype: str = "float32", **options: Any) -> Contestant:
        """The same code with another model."""
        return replace(self, model=model, dtype=dtype, options=options)


def ours(model: Path, name: str = "ase_pet", **options: Any) -> Contestant:
    """This clone in the environment that runs the benchmark."""
    return Contestant(name, "ase_pet", sys.executable, model, options=options, installed=False)


def add_peers(parser: argparse.ArgumentParser) -> None:
    """Let a script take ``--peer NAME=PYTHON``."""
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="a code to compare with, such as matgl-2.0.4=/tmp/peers/matgl-2.0.4/bin/python; "
        "the name begins with matgl, torchmdnet, metatomic, pet-kokkos or ase_pet; may be given "
        "several times",
    )


def peers(given: list[str]) -> list[Contestant]:
    """Contestants from the command line.

    Raises:
        SystemExit: If a name or an interpreter is not known.
    """
    found = []
    for text in given:
        name, _, python = text.partition("=")
        code = next((c for c in CODES if name.replace("-", "_").startswith(c)), None)
        if code is None or not Path(python).is_file():
            raise SystemExit(f"--peer: expected matgl...=PYTHON or the like, got {text}")
        found.append(Contestant(name, code, python, CODES[code]))
    return found


class Worker:
    """A running process of a contestant; a context manager.

    Args:
        contestant: What to run.
        threads: Threads of torch and OpenMP.
    """

    def __init__(self, contestant: Contestant, threads: int = 1) -> None:
        c = contestant
        self.name = c.name
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        environment.pop("PYTHONPATH", None)
        if not c.installed:
            environment["PYTHONPATH"] = str(ROOT)
        options = json.dumps(c.options)
        command = [c.python, str(WORKER), c.code, str(c.model), c.dtype, str(threads), options]
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer.

        Raises:
            RuntimeError: With the words of the code, if it failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def take(self, atoms: Atoms) -> None:
        """Hand a structure over."""
        structure = {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
        }
        self.ask(structure=structure)


class RemoteCalculator(Calculator):
    """ASE's interface to a :class:`Worker`: the same run with another code."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Send what changed, take the results."""
        super().calculate(atoms, properties, system_changes)
        if set(system_changes) - {"positions"}:
            self.worker.take(self.atoms)
        out = self.worker.ask(positions=self.atoms.positions.tolist())
        names = [name for name in self.implemented_properties if name in out]
        self.results = {name: out[name] for name in names}
        self.results["free_energy"] = out["energy"]
        for name in ("forces", "stress"):
            if name in out:
                self.results[name] = np.array(out[name])
