"""Run ASE's test-suite with EMT and with its replacement, and explain the differences.

Exit status 1 if a test fails for which ``expected_failures.txt`` has no explanation, 2 if a run was
interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import ase.test
import numpy as np
import torch
from rich.console import Console

from tests.ase_suite import plugin, replacement, report
from tests.ase_suite.scan import find_tests

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_SUITE = Path(ase.test.__file__).parent
_CONSOLE = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Run:
    """The suite with one calculator; its files carry a fingerprint of all that decides results."""

    name: str
    checkpoint: Path | None
    limit: float
    output: Path

    def file(self, suffix: str) -> Path:
        return self.output / f"{self.name}-{self._fingerprint}.{suffix}"

    @cached_property
    def _fingerprint(self) -> str:
        fingerprint = hashlib.sha256()
        for text in (ase.__version__, platform.python_version(), np.__version__, self.limit):
            fingerprint.update(f"{text}\n".encode())
        if self.checkpoint:
            sources = sorted((_ROOT / "ase_pet").rglob("*.py"))
            for path in (self.checkpoint, *sources, *sorted(_HERE.glob("p*_emt.py"))):
                fingerprint.update(path.read_bytes())
            fingerprint.update(torch.__version__.encode())
        return fingerprint.hexdigest()[:12]

    def results(self) -> dict[str, report.Result]:
        return plugin.read_results(self.file("jsonl"))

    def uses(self) -> set[str]:
        path = self.file("uses")
        return set(path.read_text().splitlines()) if path.exists() else set()

    def start(self, files: list[str], *, fresh: bool) -> None:
        """Run the tests that have no result yet.

        Raises:
            RuntimeError: If pytest ends otherwise than with passed and failed tests.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        for suffix in ("jsonl", "uses") if fresh else ():
            self.file(suffix).unlink(missing_ok=True)
        options = ["-c", str(_HERE / "ase.ini"), f"--rootdir={_SUITE}", "--quiet"]
        options += ["-p", "tests.ase_suite.plugin", "--tb=no", "--show-capture=no", "-rN"]
        command = [sys.executable, "-m", "pytest", *options, *files]
        code = subprocess.run(command, cwd=_SUITE, env=self.environment(), check=False).returncode
        if code not in (0, 1, 5):  # all passed, some failed, none left to run
            raise RuntimeError(
                f"pytest ended with status {code}; see its messages above. The results so far are "
                f"in {self.file('jsonl')}: the same command goes on from there"
            )

    def environment(self) -> dict[str, str]:
        paths = [str(_HERE / "site"), str(_ROOT), os.environ.get("PYTHONPATH", "")]
        own = {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "ASE_CONFIG_PATH": os.devnull,
            "MPLBACKEND": "Agg",
            "OMP_NUM_THREADS": "1",
            plugin.RESULTS: str(self.file("jsonl")),
            plugin.LIMIT: str(self.limit),
            replacement.USES: str(self.file("uses")),
        }
        if self.checkpoint:
            own[replacement.CHECKPOINT] = str(self.checkpoint)
        return {**os.environ, **own}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.ase_suite", description=__doc__)
    parser.add_argument("files", nargs="*", help="beginnings of test files, as optimize/; all")
    parser.add_argument("--model", type=Path, default=_ROOT / "checkpoints" / "pet-emt.pt")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for a test (300)")
    parser.add_argument("--fresh", action="store_true", help="forget the results of earlier runs")
    parser.add_argument("--output", type=Path, default=_ROOT / "build" / "ase_suite")
    arguments = parser.parse_args()
    if not arguments.model.is_file():
        parser.error(f"--model: no file {arguments.model}; name a checkpoint")
    return arguments


def main() -> int:
    arguments = _arguments()
    files = find_tests(_SUITE)
    chosen = [f for f in files if f.startswith(tuple(arguments.files) or "")]
    if not chosen:
        raise SystemExit(f"files: no test that uses EMT begins with {arguments.files}")
    output, model = arguments.output.resolve(), arguments.model.resolve()
    emt = Run("emt", None, arguments.limit, output)
    pet = Run("pet", model, arguments.limit, output)
    for run, what in (emt, "the real EMT"), (pet, f"PETCalculator, {model.name}"):
        _CONSOLE.print(f"{len(chosen)} files of ASE {ase.__version__} with {what}")
        try:
            run.start(chosen, fresh=arguments.fresh)
        except RuntimeError as error:
            _CONSOLE.print(str(error), markup=False)
            return 2

    def of_chosen(results: dict[str, report.Result]) -> dict[str, report.Result]:
        return {t: r for t, r in results.items() if t.partition("::")[0] in chosen}

    expected = report.read_expected(_HERE / "expected_failures.txt")
    expected = {t: e for t, e in expected.items() if t.startswith(tuple(arguments.files) or "")}
    found = report.compare(of_chosen(pet.results()), of_chosen(emt.results()), expected)
    heading = [
        f"ASE {ase.__version__}, {len(chosen)} of its files use EMT; model {model.name}, "
        f"symmetry O(3), float64; limit {arguments.limit:g} s a test; "
        f"{sum(r['seconds'] for r in of_chosen(emt.results()).values()):.0f} s with EMT, "
        f"{sum(r['seconds'] for r in of_chosen(pet.results()).values()):.0f} s with the model."
    ]
    text = report.write(found, emt.uses() | pet.uses(), heading)
    (output / "report.md").write_text(text)
    _CONSOLE.print(text, markup=False)
    _CONSOLE.print(f"{output / 'report.md'}; details of each failure in {pet.file('jsonl').name}")
    return 1 if found.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
