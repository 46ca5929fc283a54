"""Progress of a long task: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

#: How many plain lines a task prints where there is no terminal, or more: one each minute.
_N_LINES = 10
_SECONDS = 60.0


class Progress:
    """Context manager that shows how far a task is.

    Args:
        console: Where to show it; nothing is shown if None.
        label: Name of the task.
        total: Number of steps, at least 1.
    """

    def __init__(self, console: Console | None, label: str, total: int) -> None:
        self.console = console
        self.label = label
        self.total = total
        self.done = self.kept = 0
        self._bar: Bar | None = None
        self._text = ""
        self._printed = 0
        self._began = self._last = time.monotonic()

    def __enter__(self) -> Progress:
        if self.console is not None and self.console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=self.console,
            )
            self._bar.start()
            self._bar.add_task(self.label, total=self.total, text="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._printed < self.done:
            self._print(ended=True)

    def keep(self, text: str, n_steps: int) -> None:
        """Say that steps were done by an earlier run: they tell nothing of the time left."""
        self.kept += n_steps
        self.advance(text, n_steps)

    def advance(self, text: str = "", n_steps: int = 1) -> None:
        """Say that more steps are done.

        Args:
            text: What to show beside the bar.
            n_steps: How many more.
        """
        before, self.done, self._text = self.done, self.done + n_steps, text
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, text=text)
        elif (
            before * _N_LINES // self.total < self.done * _N_LINES // self.total
            or time.monotonic() - self._last > _SECONDS
        ):
            self._print()

    def _print(self, *, ended: bool = False) -> None:
        self._printed, self._last = self.done, time.monotonic()
        if self.console is not None:
            left = "" if ended else self._left()
            line = f"{self.label}: {self.done}/{self.total}{left}  {self._text}".rstrip()
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _left(self) -> str:
        """Time left as h:mm:ss, if all steps take as long as those of this run."""
        steps, new = self.total - self.done, self.done - self.kept
        if steps <= 0 or new == 0:
            return ""
        seconds = (self._last - self._began) / new * steps
        return f", {timedelta(seconds=round(seconds))} left"
