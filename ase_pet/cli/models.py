"""Commands about checkpoints: info, convert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ase_pet.cli.options import (
    Dtype,
    Json,
    ModelPath,
    ModelPaths,
    Symmetry,
    Target,
    Weights,
    check_out,
    load_one,
    make_console,
    parse_symmetry,
    read_structures,
    show,
    show_json,
    split_models,
)

if TYPE_CHECKING:
    from ase import Atoms

    from ase_pet.formats import Model


def show_info(
    model: ModelPaths,
    structure: Annotated[
        Path | None,
        typer.Argument(metavar="STRUCTURE", help="Count what each ensemble takes for it."),
    ] = None,
    symmetry: Symmetry = "O3",
    weights: Weights = "auto",
    dtype: Dtype = None,
    target: Target = None,
    json: Json = False,
) -> None:
    """What is known of a checkpoint: elements, size, training data, accuracy, licence, cost.

    Of a committee, each member is told.
    """
    atoms = None if structure is None else read_structures(structure, "-1")[0]
    every = []
    for name in split_models(model):
        found = load_one(name, target)
        rows, counted = _known_of(found), []
        if atoms is not None:
            counted = _count(found, atoms, symmetry=symmetry, weights=weights, dtype=dtype)
        every.append({**rows, "cost": counted} if counted else rows)
        if not json:
            show(rows, name, as_json=False)
        if counted and not json:
            assert atoms is not None
            _show_costs(f"{structure}: {atoms.get_chemical_formula()}", counted)
    if json:
        show_json(every if len(every) > 1 else every[0])


def _known_of(found: Model) -> dict[str, Any]:
    from ase_pet.potentials.base import takes_charge, takes_positions, takes_spin
    from ase_pet.potentials.species import symbols

    backbone = found.potential.backbone
    states = {"total charge": takes_charge(backbone), "spin multiplicity": takes_spin(backbone)}
    return {
        "path": found.path,
        "sha256": found.sha256,
        "architecture": found.architecture,
        "elements": symbols(found.species),
        "cutoff": f"{found.cutoff:g} Å",
        "message-passing layers": found.n_layers,
        **({"long range": "electrostatics"} if takes_positions(found.potential) else {}),
        "takes": ", ".join(name for name, taken in states.items() if taken) or "structures alone",
        "parameters": sum(p.numel() for p in found.potential.parameters()),
        "dtype": found.dtype,
        "predicts": ", ".join(("energy, forces, stress", *found.tensors)),
        "direct heads": ", ".join(found.direct) or "no",
        "uncertainty": ", ".join(found.uncertainties) or "none",
        "self-test": "yes" if found.self_test else "no",
        **{name: value for name, value in found.metadata.items() if value is not None},
    }


def _count(model: Model, atoms: Atoms, *, symmetry: str, **options: Any) -> list[dict[str, Any]]:
    """What each ensemble takes, and which ``"auto"`` would."""
    from ase_pet import PETCalculator
    from ase_pet.engine import Engine
    from ase_pet.interfaces.ase_structures import system_from_atoms

    calculator = PETCalculator(model, symmetry=parse_symmetry(symmetry), **options)
    calculator.set_atoms(atoms)
    engine = calculator.engine
    assert isinstance(engine, Engine)
    periodic = bool(atoms.pbc.any())
    auto = engine.ensemble(len(atoms), periodic=periodic)
    costs = engine.costs(system_from_atoms([atoms]))
    return [
        {
            "ensemble": name or "bare",
            "weights": name and engine.choice.weights_of(name, len(atoms), periodic=periodic),
            **asdict(one),
            "ratio": one.n_atoms / len(atoms),
            "auto": name == auto,
        }
        for name, one in costs.items()
    ]


def _show_costs(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=f"{title}; one evaluation")
    table.add_column("ensemble", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    for column in ("copies", "atoms", "x bare", "memory"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        numbers = (f"{row[name]:,}" for name in ("n_copies", "n_atoms"))
        memory = f"{row['memory'] / 1e6:,.0f} MB"
        chosen = "auto" if row["auto"] else ""
        table.add_row(
            row["ensemble"], row["weights"], *numbers, f"{row['ratio']:,.1f}", memory, chosen
        )
    make_console().print(table)


def convert_model(
    source: ModelPath,
    destination: Annotated[Path, typer.Argument(help="Checkpoint to write.")],
    target: Target = None,
    length_unit: Annotated[
        str | None,
        typer.Option(help="Of the training data of a TorchMD-NET checkpoint. [default: angstrom]"),
    ] = None,
    energy_unit: Annotated[str | None, typer.Option(help="Likewise. [default: eV]")] = None,
    note: Annotated[
        list[str] | None,
        typer.Option(help="Metadata, like licence=MIT or citation='...'; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace the destination if it exists.")] = False,
) -> None:
    """Import a model of another format as an ase_pet checkpoint, with a self-test."""
    from ase_pet.formats import native
    from ase_pet.training.result import record_self_test
    from ase_pet.workflows.checks import boxed_molecule

    check_out(destination, name="DESTINATION")
    if destination.exists() and not force:
        raise ValueError(f"{destination}: exists; give another name or --force")
    model = load_one(source, target, length_unit=length_unit, energy_unit=energy_unit)
    metadata = {**model.metadata, **dict(_parse_note(text) for text in note or [])}
    model = replace(model, metadata=metadata)
    self_test = model.self_test or record_self_test(model, boxed_molecule(model))
    native.save(replace(model, self_test=self_test), destination)
    make_console().print(f"{destination}: written, from {source}")


def _parse_note(text: str) -> tuple[str, str]:
    from ase_pet.formats.native import METADATA

    name, equals, value = text.partition("=")
    if not equals or name not in METADATA:
        raise ValueError(
            f"--note: expected NAME=TEXT with a name of {', '.join(METADATA)}, got {text!r}"
        )
    return name, value


COMMANDS: dict[str, Callable[..., None]] = {
    "info": show_info,
    "convert": convert_model,
}
