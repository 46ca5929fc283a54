"""Commands about checkpoints: check, info, convert."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ase_pet.cli.options import (
    Device,
    Dtype,
    Ensemble,
    Json,
    ModelPath,
    Symmetry,
    Target,
    Weights,
    check_out,
    make_console,
    parse_symmetry,
    parse_target,
    read_structures,
    show,
    show_json,
)

if TYPE_CHECKING:
    from ase import Atoms

    from ase_pet import PETCalculator
    from ase_pet.formats import Model


def show_info(
    model: ModelPath,
    structure: Annotated[
        Path | None, typer.Option(help="Count what each ensemble takes for this structure.")
    ] = None,
    symmetry: Symmetry = "O3",
    weights: Weights = "auto",
    dtype: Dtype = None,
    target: Target = None,
    json: Json = False,
) -> None:
    """What is known of a checkpoint: elements, size, training data, accuracy, licence, cost."""
    from ase_pet import load
    from ase_pet.potentials.base import takes_charge, takes_positions, takes_spin
    from ase_pet.potentials.species import symbols

    found = load(model, target=parse_target(target))
    backbone = found.potential.backbone
    states = {"total charge": takes_charge(backbone), "spin multiplicity": takes_spin(backbone)}
    n_parameters = sum(p.numel() for p in found.potential.parameters())
    rows = {
        "path": found.path,
        "sha256": found.sha256,
        "architecture": found.architecture,
        "elements": symbols(found.species),
        "cutoff": f"{found.cutoff:g} Å",
        "message-passing layers": found.n_layers,
        **({"long range": "electrostatics"} if takes_positions(found.potential) else {}),
        "takes": ", ".join(name for name, taken in states.items() if taken) or "structures alone",
        "parameters": n_parameters,
        "dtype": found.dtype,
        "predicts": ", ".join(("energy, forces, stress", *found.tensors)),
        "direct heads": ", ".join(found.direct) or "no",
        "uncertainty": ", ".join(found.uncertainties) or "none",
        "self-test": "yes" if found.self_test else "no",
        **{name: value for name, value in found.metadata.items() if value is not None},
    }
    if structure is None:
        return show(rows, model, as_json=json)
    atoms = read_structures(structure, "-1")[0]
    counted = _count(found, atoms, symmetry=symmetry, weights=weights, dtype=dtype)
    if json:
        return show_json({**rows, "cost": counted})
    show(rows, model, as_json=False)
    return _show_costs(f"{structure}: {atoms.get_chemical_formula()}", counted)


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


def check_model(
    model: ModelPath,
    structure: Annotated[
        Path | None, typer.Option(help="Check on this structure (default: the self-test's).")
    ] = None,
    n_rotations: Annotated[int, typer.Option(help="Random rotations and reflections.")] = 10,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    symmetry: Symmetry = "O3",
    ensemble: Ensemble = "auto",
    weights: Weights = "auto",
    device: Device = "auto",
    target: Target = None,
    json: Json = False,
) -> None:
    """Replay the self-test; measure equivariance, and forces and stress against differences.

    All in double precision; exit code 1 if a deviation is beyond its tolerance.
    """
    from ase_pet import load
    from ase_pet.testing.tolerances import FLOAT64
    from ase_pet.workflows import checks
    from ase_pet.workflows.progress import Progress

    found = load(model, target=parse_target(target))
    atoms = _structure(found, structure)
    calculators = _ways(found, symmetry, ensemble=ensemble, weights=weights, device=device)
    reflections = parse_symmetry(symmetry) != "SO(3)"
    rows: list[dict[str, Any]] = []

    def note(check: str, errors: checks.Deviations, contract: str | None) -> None:
        """Without a contract there is no verdict."""
        tolerance = None if contract is None else FLOAT64[contract]
        passed = None if tolerance is None else errors.within(tolerance)
        rows.append({"check": check, **asdict(errors), "tolerance": tolerance, "passed": passed})

    for part, errors in checks.replay_self_test(found, device).items():
        note(f"self-test, {part}", errors, "rotation")
    with Progress(None if json else make_console(), "checks", len(calculators) + 2) as progress:
        for name, calculator in calculators.items():
            errors = checks.rotation_errors(
                calculator, atoms, n_rotations=n_rotations, reflections=reflections, seed=seed
            )
            exact = calculator.parameters["symmetry"] is not None
            note(f"rotations, {name}", errors, "rotation" if exact else None)
            progress.advance(f"rotations, {name}")
        for name in ("bare", "symmetrized"):  # direct forces are no derivatives
            errors = checks.derivative_errors(calculators[name], atoms, seed=seed)
            note(f"derivatives, {name}", errors, "forces")
            progress.advance(f"derivatives, {name}")
    title = f"{model}: {atoms.get_chemical_formula()}, largest relative deviations"
    _show_checks(title, rows, as_json=json)
    failed = [row["check"] for row in rows if row["passed"] is False]
    if failed:
        raise RuntimeError(f"{model}: beyond tolerance: {'; '.join(failed)}")


def _ways(model: Model, symmetry: str, **options: Any) -> dict[str, PETCalculator]:
    """The ways to evaluate a model, by name, in double precision."""
    from ase_pet import PETCalculator

    exact = {"symmetry": parse_symmetry(symmetry), "dtype": "float64", **options}
    found = {
        "bare": PETCalculator(model, **{**exact, "symmetry": None}),
        "symmetrized": PETCalculator(model, **exact),
    }
    if "forces" in model.direct:
        found["direct"] = PETCalculator(model, forces="direct", **exact)
    return found


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
    from ase_pet.formats import load, native
    from ase_pet.training.result import record_self_test

    check_out(destination, name="DESTINATION")
    if destination.exists() and not force:
        raise ValueError(f"{destination}: exists; give another name or --force")
    model = load(
        source, target=parse_target(target), length_unit=length_unit, energy_unit=energy_unit
    )
    metadata = {**model.metadata, **dict(_parse_note(text) for text in note or [])}
    model = replace(model, metadata=metadata)
    self_test = model.self_test or record_self_test(model, _molecule(model))
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


def _structure(model: Model, path: Path | None) -> Atoms:
    """What to check a model on: a given file, its self-test, or a molecule."""
    if path is not None:
        return read_structures(path, "-1")[0]
    if model.self_test is None:
        return _molecule(model)
    from ase import Atoms

    found = model.self_test["structure"]
    return Atoms(
        found["numbers"].numpy(),
        found["positions"].numpy(),
        cell=found["cell"].numpy(),
        pbc=found["pbc"].numpy(),
    )


def _molecule(model: Model) -> Atoms:
    """A distorted molecule, in a cell where the model allows one, so that it has a stress."""
    from ase_pet.testing.structures import structures

    molecule = structures(model.species)["molecule"]
    if math.isinf(model.cutoff):
        return molecule
    molecule.center(vacuum=0.5 * model.cutoff)
    molecule.pbc = True
    return molecule


def _show_checks(title: str, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        return show_json(rows)
    table = Table(title=title)
    names = ["energy", "forces", "virial"]
    if any(row["tensors"] is not None for row in rows):
        names.append("tensors")
    table.add_column("")  # the one that gives way on a narrow terminal
    for column in (*names, "at most"):
        table.add_column(column, justify="right", no_wrap=True, min_width=7)
    table.add_column("", no_wrap=True, min_width=6)
    verdicts = {True: "passed", False: "FAILED", None: ""}
    for row in rows:
        numbers = (row.get(n) for n in (*names, "tolerance"))
        cells = ("-" if x is None else f"{x:.1e}" for x in numbers)
        table.add_row(row["check"], *cells, verdicts[row["passed"]])
    return make_console().print(table)


COMMANDS: dict[str, Callable[..., None]] = {
    "check": check_model,
    "info": show_info,
    "convert": convert_model,
}
