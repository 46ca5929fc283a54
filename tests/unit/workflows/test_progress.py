"""Progress: a bar on a terminal, few lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from ase_pet.workflows.progress import Progress


def run(total: int, done: int, *, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with Progress(console, "task", total) as progress:
        for k in range(done):
            progress.advance(f"at {k}")
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_plain_lines_are_few_and_the_last_is_the_end() -> None:
    lines = run(1000, 1000, terminal=False).splitlines()
    assert len(lines) == 10
    assert lines[-1] == "task: 1000/1000  at 999"


def test_a_task_that_ends_early_says_where() -> None:
    assert run(1000, 7, terminal=False).splitlines() == ["task: 7/1000  at 6"]


def test_a_terminal_gets_a_bar() -> None:
    text = run(10, 10, terminal=True)
    assert "10/10" in text
    assert "task: " not in text


def test_without_a_console_nothing_is_printed(capsys) -> None:
    with Progress(None, "task", 3) as progress:
        progress.advance(n_steps=3)
    assert progress.done == 3
    assert capsys.readouterr().out == ""
