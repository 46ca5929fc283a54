"""Checks that the hyperparameters of all backbones share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def check_least(hypers: Any, least: int, names: Sequence[str]) -> None:
    """Raise ValueError if one of the named values is smaller than ``least``."""
    for name in names:
        if getattr(hypers, name) < least:
            raise ValueError(f"{name}: expected at least {least}, got {getattr(hypers, name)}")


def check_choices(hypers: Any, choices: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError if a value is none of those allowed for its name."""
    for name, allowed in choices.items():
        if getattr(hypers, name) not in allowed:
            raise ValueError(f"{name}: expected one of {allowed}, got {getattr(hypers, name)!r}")


def check_tokens(hypers: Any) -> None:
    """Raise ValueError if the cutoff's width or the number of heads of a PET cannot be."""
    if not 0.0 < hypers.cutoff_width <= hypers.cutoff:
        raise ValueError(
            f"cutoff_width: expected more than 0 and at most cutoff={hypers.cutoff}, "
            f"got {hypers.cutoff_width}"
        )
    if hypers.d_model % hypers.n_heads:
        raise ValueError(
            f"n_heads: expected a divisor of d_model={hypers.d_model}, got {hypers.n_heads}"
        )
