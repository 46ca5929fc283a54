"""The command that tests a model: check."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ase_pet.cli.options import (
    Device,
    Ensemble,
    Json,
    ModelPath,
    Symmetry,
    Target,
    Weights,
    check_out,
    load_one,
    make_console,
    parse_symmetry,
    read_structures,
    show_json,
)

if TYPE_CHECKING:
    from ase import Atoms

    from ase_pet import PETCalculator
    from ase_pet.formats import Model
    from ase_pet.workflows.checks import Deviations
    from ase_pet.workflows.progress import Progress
    from ase_pet.workflows.smoothness import Pull


def check_model(
    model: ModelPath,
    structure: Annotated[
        Path | None,
        typer.Argument(metavar="STRUCTURE", help="What to check on (default: the self-test's)."),
    ] = None,
    n_rotations: Annotated[int, typer.Option(help="Random rotations and reflections.")] = 10,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    symmetry: Symmetry = "O3",
    ensemble: Ensemble = "auto",
    weights: Weights = "auto",
    device: Device = "auto",
    target: Target = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for summary and pictures.")
    ] = None,
    json: Json = False,
) -> None:
    """Self-test, rotations, forces and stress against differences, smoothness at the cutoff.

    All in double precision; exit code 1 if a deviation is beyond its tolerance.
    """
    from ase_pet.workflows.checks import example
    from ase_pet.workflows.progress import Progress

    if out is not None:
        check_out(out, folder=True)
    found = load_one(model, target)
    atoms = example(found) if structure is None else read_structures(structure, "-1")[0]
    calculators = _ways(found, symmetry, ensemble=ensemble, weights=weights, device=device)
    turns = {"n_rotations": n_rotations, "seed": seed}
    turns["reflections"] = parse_symmetry(symmetry) != "SO(3)"
    checks = _Checks(atoms)
    judged = [name for name in calculators if name != "direct"]  # those are no derivatives
    total = 1 + len(calculators) + 2 * len(judged)
    with Progress(None if json else make_console(), "checks", total) as progress:
        checks.replay(found, device, progress)
        checks.rotate(calculators, turns, progress)
        for name in judged:
            checks.differentiate(name, calculators[name], seed, progress)
        for name in judged:
            checks.pull(name, calculators[name], found.cutoff, progress)
    if out is not None:
        settings = {**turns, "structure": str(structure or "of the self-test")}
        checks.write(out, calculators[judged[-1]], settings)
    if json:
        show_json(checks.rows)
    else:
        checks.show(
            f"{Path(model).name}: {atoms.get_chemical_formula()}, largest relative deviations"
        )
    failed = [row["check"] for row in checks.rows if row["passed"] is False]
    if failed:
        raise RuntimeError(f"{model}: beyond tolerance: {'; '.join(failed)}")


class _Checks:
    """What was found, a row each, and what pictures are made of."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        self.rows: list[dict[str, Any]] = []
        self.spreads: dict[str, list[float]] = {}
        self.pulls: dict[str, Pull] = {}

    def note(self, check: str, errors: Deviations, contract: str | None) -> None:
        """Without a contract there is no verdict."""
        from ase_pet.testing.tolerances import FLOAT64

        tolerance = None if contract is None else FLOAT64[contract]
        passed = None if tolerance is None else errors.within(tolerance)
        row = {"check": check, **asdict(errors), "tolerance": tolerance, "passed": passed}
        self.rows.append(row)

    def replay(self, model: Model, device: str, progress: Progress) -> None:
        from ase_pet.workflows.checks import replay_self_test

        for part, errors in replay_self_test(model, device).items():
            self.note(f"self-test, {part}", errors, "rotation")
        progress.advance("self-test")

    def rotate(
        self, calculators: Mapping[str, PETCalculator], turns: Any, progress: Progress
    ) -> None:
        from ase_pet.workflows.checks import each_rotation, largest

        for name, calculator in calculators.items():
            every = each_rotation(calculator, self.atoms, **turns)
            self.spreads[name] = [float(errors.forces or 0.0) for errors in every]
            exact = calculator.parameters["symmetry"] is not None
            self.note(f"rotations, {name}", largest(every), "rotation" if exact else None)
            progress.advance(f"rotations, {name}")

    def differentiate(
        self, name: str, calculator: PETCalculator, seed: int, progress: Progress
    ) -> None:
        from ase_pet.workflows.checks import derivative_errors

        errors = derivative_errors(calculator, self.atoms, seed=seed)
        self.note(f"derivatives, {name}", errors, "forces")
        progress.advance(f"derivatives, {name}")

    def pull(self, name: str, calculator: PETCalculator, cutoff: float, progress: Progress) -> None:
        from ase_pet.workflows.checks import Deviations
        from ase_pet.workflows.smoothness import pull_through_cutoff

        pull = pull_through_cutoff(calculator, self.atoms, cutoff)
        if pull is not None:
            self.pulls[name] = pull
            energy, forces = (
                Deviations(pull.jumps.energy, None),
                Deviations(None, pull.jumps.forces),
            )
            self.note(f"cutoff energy, {name}", energy, "energy_jump")
            self.note(f"cutoff forces, {name}", forces, "force_jump")
        progress.advance(f"cutoff, {name}")

    def write(self, out: Path, calculator: PETCalculator, settings: Mapping[str, Any]) -> None:
        from ase_pet.workflows.output import write_figure, write_summary
        from ase_pet.workflows.plots_checks import plot_pulls, plot_rotations

        out.mkdir(parents=True, exist_ok=True)
        write_figure(out / "rotations.png", plot_rotations(self.spreads))
        if self.pulls:
            write_figure(out / "cutoff.png", plot_pulls(self.pulls))
        found: dict[str, Any] = {"checks": self.rows, "force_errors_of_rotations": self.spreads}
        for pull in list(self.pulls.values())[:1]:
            found["pull_through_cutoff"] = {"pair": pull.pair, "n_atoms": pull.n_atoms}
        write_summary(out, calculator, settings, found)

    def show(self, title: str) -> None:
        console = make_console()
        console.print(_histogram(self.spreads))
        console.print(_table(title, self.rows))
        for pull in list(self.pulls.values())[:1]:
            first, second = pull.pair
            few = pull.n_atoms < len(self.atoms)
            among = f", among the {pull.n_atoms} atoms nearest to both" if few else ""
            console.print(
                f"cutoff: atom {second} was pulled away from atom {first}, through it{among}"
            )


def _ways(model: Model, symmetry: str, **options: Any) -> dict[str, PETCalculator]:
    """The ways to evaluate a model that differ, by name, in double precision."""
    from ase_pet import PETCalculator

    wanted = parse_symmetry(symmetry)
    options = {"dtype": "float64", **options}
    found = {}
    if wanted is None or model.potential.backbone.symmetry not in ("O(3)", wanted):
        found["bare"] = PETCalculator(model, symmetry=None, **options)
    if wanted is not None:
        found["symmetrized"] = PETCalculator(model, symmetry=wanted, **options)
    if "forces" in model.direct:
        found["direct"] = PETCalculator(model, forces="direct", symmetry=wanted, **options)
    return found


def _histogram(spreads: Mapping[str, Sequence[float]]) -> Table:
    """How many rotations have forces that are wrong by how much, by powers of ten."""
    counts = {
        name: Counter(math.floor(math.log10(max(error, 1e-18))) for error in errors)
        for name, errors in spreads.items()
    }
    table = Table(title="rotations by the largest relative deviation of a force")
    table.add_column("", no_wrap=True)
    for name in counts:
        table.add_column(name)
    for power in sorted(set().union(*counts.values())):
        bars = (
            f"{'█' * math.ceil(20 * count[power] / count.total())} {count[power] or ''}"
            for count in counts.values()
        )
        table.add_row(f"1e{power:+03d} to 1e{power + 1:+03d}", *bars)
    return table


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
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
    return table


COMMANDS: dict[str, Callable[..., None]] = {"check": check_model}
