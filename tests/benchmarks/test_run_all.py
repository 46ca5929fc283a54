"""The driver of the benchmarks: nothing forgotten, nothing left running, failures told."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def run_all(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import run_all

    return run_all


def test_every_script_is_run(run_all):
    there = {path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py")}
    assert {script.name for script in run_all.SCRIPTS} == there


def test_a_quick_run_ends_within_ten_minutes(run_all):
    assert 0 < sum(s.quick_minutes for s in run_all.SCRIPTS) <= 10
    assert all((s.quick is None) == (s.quick_minutes == 0) for s in run_all.SCRIPTS)


def test_other_codes_that_are_not_there_are_named(run_all, tmp_path):
    python = tmp_path / "metatomic-0.1.4" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    found, missing = run_all.installed(tmp_path)
    assert found["metatomic"] == [f"metatomic-0.1.4={python}"]
    assert found["matgl"] == []
    assert any("matgl-2.0.4 is not compared with" in line for line in missing)
    assert not any("metatomic" in line for line in missing)


def test_a_script_gets_the_other_codes_that_it_takes(run_all):
    found = {"metatomic": ["metatomic-0.1.4=py"], "pet_kokkos": [], "matgl": ["a=py", "b=py"]}
    script = run_all.Script("x", 1, ("metatomic", "matgl"), ("--full",), ("--quick",), 1)
    full = ["bench_x.py", "--full", "--peer", "metatomic-0.1.4=py", "--peer", "a=py"]
    assert run_all.command(script, found, quick=False) == [*full, "--peer", "b=py"]
    assert run_all.command(script, found, quick=True) == [full[0], "--quick", *full[2:]]


@pytest.mark.parametrize(
    ("program", "state", "failed"),
    [
        ("print('fine')", "done", False),
        ("print('skipped: needs a file')", "skipped: needs a file", False),
        ("raise SystemExit(3)", "failed: status 3", True),
    ],
)
def test_what_became_of_a_script(run_all, program, state, failed):
    outcome = run_all.run("x", [sys.executable, "-c", program], 60.0)
    assert (outcome.state, outcome.failed) == (state, failed)


def test_a_script_is_stopped_with_its_children(run_all):
    # The child holds the pipe: the driver would wait for it if it were left.
    child = "import time; time.sleep(600)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    outcome = run_all.run("x", [sys.executable, "-c", program], 1.0)
    assert outcome.failed
    assert outcome.state == "stopped after 1 s"
    assert outcome.seconds < 60.0
