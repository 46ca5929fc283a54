"""Pytest plugin: a time limit for each test, and results that survive an interruption."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

#: Names of environment variables: file of results, seconds of processor time for a test.
RESULTS = "ASE_SUITE_RESULTS"
LIMIT = "ASE_SUITE_LIMIT"
TIMEOUT = "time limit"
# Processor time does not depend on what else the machine does. A test that waits, perhaps for
# another process, uses none: so the clock ends it after many times the limit.
_WAIT = 10.0
_AGAIN = 20.0  # a test that lingers in its clean-up is interrupted again after so many seconds


def read_results(path: Path) -> dict[str, dict[str, str]]:
    """Results by test; a line that was cut short by an interruption counts as absent."""
    results = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            result = json.loads(line)
        except json.JSONDecodeError:
            continue
        results[result["test"]] = result
    return results


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what an interrupted run has done."""
    done = read_results(Path(os.environ[RESULTS]))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    items[:] = [item for item in items if item.nodeid not in done]


def _limited() -> Iterator[None]:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail(f"{TIMEOUT} of {limit:g} s")

    limit = float(os.environ[LIMIT])
    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, limit),
        (signal.SIGALRM, signal.ITIMER_REAL, _WAIT * limit),
    )
    for number, timer, seconds in timers:
        signal.signal(number, interrupt)
        signal.setitimer(timer, seconds, _AGAIN)
    try:
        return (yield)
    finally:
        for _, timer, _ in timers:
            signal.setitimer(timer, 0)


pytest_runtest_setup = pytest.hookimpl(wrapper=True)(lambda item: (yield from _limited()))
pytest_runtest_call = pytest.hookimpl(wrapper=True)(lambda item: (yield from _limited()))


_phases: dict[str, list[pytest.TestReport]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write one line of JSON when a test has ended."""
    phases = _phases.setdefault(report.nodeid, [])
    phases.append(report)
    if report.when != "teardown":
        return
    bad = next((p for p in phases if p.failed), None)
    skipped = next((p for p in phases if p.skipped), None)
    result = {
        "test": report.nodeid,
        "outcome": "failed" if bad else "skipped" if skipped else "passed",
        "seconds": round(sum(p.duration for p in phases), 2),
        "message": _message(bad or skipped),
        "details": bad.longreprtext[-4000:] if bad else "",
    }
    with Path(os.environ[RESULTS]).open("a") as file:
        file.write(json.dumps(result) + "\n")
    del _phases[report.nodeid]


def _message(report: pytest.TestReport | None) -> str:
    """Why a test failed or was skipped, on one line."""
    if report is None:
        return ""
    if report.skipped and hasattr(report, "wasxfail"):
        return f"ASE expects a failure: {report.wasxfail}"
    if report.skipped:
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else report.longreprtext
    return " ".join(text.split())[:300]
