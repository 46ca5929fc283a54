"""Learning-rate schedules and the exponential moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ase_pet.training.config import OptimizerConfig, ScheduleConfig


def make_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in module.parameters() if p.dim() > 1]
    others = [p for p in module.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, foreach=True)


class Schedule:
    r"""Factor of the learning rate.

    Cosine: :math:`f + (1 - f)(1 + \cos\pi p)/2` at progress p from 0 to 1. Plateau: falls by
    ``factor`` after ``patience`` validations without improvement. Both rise linearly at first.

    Args:
        config: Which, and its settings.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        self.plateau_factor = 1.0
        self.n_waiting = 0

    def factor(self, step: int, progress: float) -> float:
        """Factor at a step (from 0) and at a progress (0 to 1) of the run."""
        c = self.config
        warmup = min(1.0, (step + 1) / c.warmup) if c.warmup else 1.0
        if c.kind == "plateau":
            return warmup * self.plateau_factor
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
        return warmup * (c.final + (1.0 - c.final) * cosine)

    def validated(self, *, improved: bool) -> None:
        """Tell the schedule of a validation."""
        self.n_waiting = 0 if improved else self.n_waiting + 1
        if self.n_waiting >= self.config.patience:
            self.plateau_factor *= self.config.factor
            self.n_waiting = 0

    @property
    def is_over(self) -> bool:
        """Whether a plateau schedule has nothing left to lower."""
        return self.config.kind == "plateau" and self.plateau_factor < self.config.final

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"plateau_factor": self.plateau_factor, "n_waiting": self.n_waiting}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.plateau_factor, self.n_waiting = state["plateau_factor"], state["n_waiting"]


class MovingAverage:
    r"""Exponential moving average of the weights.

    .. math:: a \leftarrow \beta_t a + (1 - \beta_t) w,\quad \beta_t = \min(\beta, (1+t)/(10+t))

    Args:
        module: Whose parameters are averaged.
        decay: The β that is reached after the first steps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.parameters: list[Tensor] = list(module.parameters())
        self.averages = [p.detach().clone() for p in self.parameters]
        self.decay = decay
        self.n_updates = 0

    def update(self) -> None:
        """Add the present weights."""
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        self.n_updates += 1
        weights = [p.detach() for p in self.parameters]
        torch._foreach_lerp_(self.averages, weights, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Use the averages as weights inside a ``with`` block."""
        weights = [p.detach().clone() for p in self.parameters]
        self._assign(self.averages)
        try:
            yield
        finally:
            self._assign(weights)

    def _assign(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, values)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"averages": [a.cpu() for a in self.averages], "n_updates": self.n_updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        torch._foreach_copy_(self.averages, state["averages"])
        self.n_updates = state["n_updates"]
