"""From what a user gives the calculator to models and engines."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from ase_pet.committee import Committee, CommitteeEngine
from ase_pet.engine import Engine
from ase_pet.formats import Model, load
from ase_pet.interfaces.calculator_options import parse_bytes

#: Which models have an uncertainty.
WHICH = (
    "models of metatrain that are wrapped as 'llpr' have one, and so has a committee, "
    "PETCalculator([one, another]) or one.pt,another.pt in the shell"
)


def read_models(given: object, target: int | str | None = None) -> Model | Committee:
    """A model from a path or a model; a committee from a list of them.

    Args:
        given: What to read.
        target: Which energy of files that have several.

    Raises:
        TypeError: If something is neither.
        CheckpointError: If a checkpoint cannot be read.
        ValueError: If the models make no committee, or a target is given for a loaded one.
    """
    every = given if isinstance(given, list | tuple) else (given,)
    if target is not None and any(isinstance(one, Model | Committee) for one in every):
        raise ValueError(
            f"target: the model is loaded already; choose with load(path, target={target!r})"
        )
    if isinstance(given, list | tuple):
        return Committee(tuple(_read_model(one, target) for one in given))
    return given if isinstance(given, Committee) else _read_model(given, target)


def _read_model(given: object, target: int | str | None) -> Model:
    if not isinstance(given, str | Path | Model):
        raise TypeError(
            f"model: expected a path, a Model or a list of them, got {type(given).__name__}"
        )
    return given if isinstance(given, Model) else load(given, target=target)


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
    options.pop("target")  # the model was read with it
    if not isinstance(options["skin"], Real):
        raise ValueError(f"skin: expected a length in Å, at least 0, got {options['skin']!r}")
    for name in ("splines", "compile"):
        if not isinstance(options[name], bool):
            raise ValueError(f"{name}: expected True or False, got {options[name]!r}")
    options["device"] = str(options["device"])
    options["memory_budget"] = parse_bytes(options["memory_budget"])

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
