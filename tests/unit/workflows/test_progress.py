"""Progress: a bar on a terminal, few lines elsewhere."""

from __future__ import annotations

import io
import re

from rich.console import Console

from ase_pet.workflows import progress
from ase_pet.workflows.progress import Progress


def run(total: int, done: int, *, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with Progress(console, "task", total) as task:
        for k in range(done):
            task.advance(f"at {k}")
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_plain_lines_are_few_and_the_last_is_the_end() -> None:
    lines = run(1000, 1000, terminal=False).splitlines()
    assert len(lines) == 10
    assert re.fullmatch(r"task: 100/1000, 0:00:0\d left  at 99", lines[0])
    assert lines[-1] == "task: 1000/1000  at 999"


def test_a_task_that_ends_early_says_where() -> None:
    assert run(1000, 7, terminal=False).splitlines() == ["task: 7/1000  at 6"]


def test_slow_steps_are_told_each_minute_with_the_time_left(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=100)
    with Progress(console, "task", 1000) as task:
        for _ in range(5):
            now[0] += 40.0
            task.advance()
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "task: 2/1000, 11:05:20 left",
        "task: 4/1000, 11:04:00 left",
        "task: 5/1000",
    ]


def test_steps_of_an_earlier_run_tell_nothing_of_the_time_left(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=100)
    with Progress(console, "task", 100) as task:
        task.keep("continued", 80)
        for _ in range(10):
            now[0] += 1.0
            task.advance()
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "task: 80/100  continued",
        "task: 90/100, 0:00:10 left",
    ]


def test_a_terminal_gets_a_bar() -> None:
    text = run(10, 10, terminal=True)
    assert "10/10" in text
    assert "task: " not in text


def test_without_a_console_nothing_is_printed(capsys) -> None:
    with Progress(None, "task", 3) as task:
        task.advance(n_steps=3)
    assert task.done == 3
    assert capsys.readouterr().out == ""
