"""Commands that learn from data: train, evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ase_pet.cli.options import (
    Device,
    Dtype,
    Ensemble,
    Json,
    ModelPath,
    OutFolder,
    Symmetry,
    Target,
    Weights,
    check_out,
    parse_symmetry,
    parse_target,
    show_json,
)


def train_model(
    config: Annotated[Path, typer.Argument(help="Recipe, a YAML file.")],
    resume: Annotated[
        bool, typer.Option(help="Continue an interrupted run, or start anew.")
    ] = True,
) -> None:
    """Train a model by a recipe; interrupted at any moment, the same command continues."""
    from ase_pet.training import train

    train(config, resume=resume)


def evaluate_model(
    model: ModelPath,
    data: Annotated[Path, typer.Argument(help="Labelled structures, extended XYZ or .xz.")],
    out: OutFolder = Path("evaluation"),
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only frames with this in their info, like split=test or fold=1."),
    ] = None,
    symmetry: Symmetry = "O3",
    ensemble: Ensemble = "auto",
    weights: Weights = "auto",
    device: Device = "auto",
    dtype: Dtype = None,
    target: Target = None,
    json: Json = False,
) -> None:
    """Errors on labelled structures, bare and symmetrised: tables, JSON and a parity plot."""
    from rich.console import Console

    from ase_pet import load
    from ase_pet.training import evaluate
    from ase_pet.training.report import Report
    from ase_pet.workflows.output import write_json
    from ase_pet.workflows.provenance import provenance

    check_out(out, folder=True)
    found = load(model, target=parse_target(target))
    settings: dict[str, Any] = {
        "symmetry": parse_symmetry(symmetry),
        "ensemble": ensemble,
        "weights": weights,
        "where": dict(_parse_condition(text) for text in where or []),
        "device": device,
        "dtype": dtype,
    }
    report = Report(Console(quiet=True)) if json else Report()
    errors = evaluate(found, data, out, **settings, report=report)
    model_file = {"checkpoint": found.path, "sha256": found.sha256, "data": str(data)}
    head = {**provenance(), **model_file, "settings": settings}
    write_json(out / "summary.json", {**head, "errors": errors})
    if json:
        show_json(errors)


def _parse_condition(text: str) -> tuple[str, Any]:
    """Name and value, which is read as ASE reads it from a file: as a number, where it is one."""
    from ase.io.extxyz import key_val_str_to_dict

    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"--where: expected NAME=VALUE like split=test, got {text!r}")
    quoted = value if value[0] in '"{[' else f'"{value}"'
    return name, key_val_str_to_dict(f"value={quoted}")["value"]


COMMANDS: dict[str, Callable[..., None]] = {"train": train_model, "evaluate": evaluate_model}
