"""Where the time of a step goes, measured from outside: the library knows nothing of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any
from unittest.mock import patch

import torch

import ase_pet.derivatives
from ase_pet.ecse import Ensemble, Symmetrized
from ase_pet.engine import Engine

#: Functions of the library with the stage to which their own time belongs.
FUNCTIONS: tuple[tuple[Any, str, str], ...] = (
    (Engine, "graph", "neighbours"),
    (Symmetrized, "ensemble", "frames"),
    (Ensemble, "copies", "frames"),
    (ase_pet.derivatives, "_evaluate_in_chunks", "frames"),
    (ase_pet.derivatives, "predict", "forward"),
    (ase_pet.derivatives, "gradients", "backward"),
)
#: In the order of a step; the rest is conversion, sums and the host program.
STAGES = ("neighbours", "frames", "forward", "backward", "rest")


class Stages:
    """Counts seconds by stage while it is entered.

    A function's time is its own: what it calls of another stage counts there. ``"frames"`` is all
    that rotated copies take beside the network: choice of frames, copies, turning back, and the
    derivatives of frames and weights.

    Attributes:
        seconds: Of each stage of ``STAGES``; the rest is known on leaving.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._open = ["rest"]
        self._patches = ExitStack()
        self._since = 0.0

    def __enter__(self) -> Stages:
        for owner, name, stage in FUNCTIONS:
            wrapped = self._timed(getattr(owner, name), stage)
            self._patches.enter_context(patch.object(owner, name, wrapped))
        self._since = _now()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._switch()
        self._patches.close()

    def _switch(self) -> None:
        """Give the time since the last switch to the stage that was running."""
        now = _now()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._open.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._open.pop()

        return timed


def _now() -> float:
    """Seconds, when all that was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
