"""From what a user gives the calculator to models and engines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from ase_pet.committee import Committee, CommitteeEngine
from ase_pet.engine import Engine
from ase_pet.formats import Model, load

#: Which models have an uncertainty.
WHICH = (
    "models of metatrain that are wrapped as 'llpr' have one, and so has a committee, "
    "PETCalculator([one, another])"
)
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def read_models(given: object) -> Model | Committee:
    """A model from a path or a model; a committee from a list of them.

    Raises:
        TypeError: If something is neither.
        CheckpointError: If a checkpoint cannot be read.
        ValueError: If the models make no committee.
    """
    if isinstance(given, list | tuple):
        return Committee(tuple(_read_model(one) for one in given))
    return given if isinstance(given, Committee) else _read_model(given)


def _read_model(given: object) -> Model:
    if not isinstance(given, str | Path | Model):
        raise TypeError(
            f"model: expected a path, a Model or a list of them, got {type(given).__name__}"
        )
    return given if isinstance(given, Model) else load(given)


def make_engine(model: Model | Committee, options: Mapping[str, Any]) -> Engine | CommitteeEngine:
    """What evaluates a model or, one by one, the members of a committee.

    Args:
        model: What to evaluate.
        options: All options of the calculator.

    Raises:
        ValueError: If one has a value that it cannot have.
    """
    options = dict(options)
    _check_threshold(options.pop("uncertainty_threshold"), model)
    if not isinstance(options["skin"], Real):
        raise ValueError(f"skin: expected a length in Å, at least 0, got {options['skin']!r}")
    if not isinstance(options["splines"], bool):
        raise ValueError(f"splines: expected True or False, got {options['splines']!r}")
    options["device"] = str(options["device"])
    options["memory_budget"] = _bytes(options["memory_budget"])

    def make(one: Model) -> Engine:
        dtype = options["dtype"]
        own = {"dtype": one.dtype if dtype is None else str(dtype).removeprefix("torch.")}
        return Engine(one.potential, **{**options, **own, "invariant_atoms": one.invariant_atoms})

    with torch.inference_mode(mode=False):  # in which a caller may be
        if isinstance(model, Committee):
            return CommitteeEngine([make(member) for member in model.members])
        return make(model)


def _check_threshold(threshold: object, model: Model | Committee) -> None:
    if threshold is None:
        return
    is_number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not (is_number and float(threshold) > 0.0):  # type: ignore[arg-type]
        raise ValueError(
            f"uncertainty_threshold: expected a positive energy in eV or None, got {threshold!r}"
        )
    if not model.uncertainties:
        raise ValueError(f"uncertainty_threshold: this model has no uncertainty; {WHICH}")


def _bytes(budget: int | str) -> int:
    """Number of bytes of ``2_000_000_000`` or ``"2GB"``."""
    text = str(budget).strip().upper()
    match = re.fullmatch(r"([0-9]+\.?[0-9]*)\s*([KMGT]?B?)", text)
    if isinstance(budget, bool) or not match or match[2] not in _UNITS or not float(match[1]):
        raise ValueError(
            f"memory_budget: expected a positive number of bytes or a text like '500MB' or '2GB', "
            f"got {budget!r}"
        )
    return int(float(match[1]) * _UNITS[match[2]])
