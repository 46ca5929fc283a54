"""Commands that evaluate and move structures: eval, relax, md, phonons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ase_pet.cli.options import (
    Json,
    OutFolder,
    StructurePath,
    check_out,
    frame_number,
    make_console,
    read_structures,
    show,
    show_json,
    takes_calculator,
)

if TYPE_CHECKING:
    from ase import Atoms

    from ase_pet import PETCalculator

#: Structures that are evaluated together.
_BATCH = 32


@takes_calculator
def evaluate_structures(
    calculator: PETCalculator,
    structure: StructurePath,
    index: Annotated[str, typer.Option(help="Which structures of the file, as ASE writes.")] = ":",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Extended XYZ file for the results.")
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Also that of the energy, of models that have one.")
    ] = False,
    json: Json = False,
) -> None:
    """Energies, forces and stress of the structures in a file, and what else a model predicts."""
    import numpy as np

    from ase_pet.interfaces.ase_models import WHICH
    from ase_pet.interfaces.ase_structures import evaluate_together
    from ase_pet.units import EV_PER_A3_IN_GPA
    from ase_pet.workflows.output import check_format

    if uncertainty and not calculator.model.uncertainties:
        raise ValueError(f"--uncertainty: this model has none; {WHICH}")
    structures = read_structures(structure, index)
    if out is not None:
        check_out(out)
        check_format(out, len(structures))
    results: list[dict[str, Any]] = []
    for start in range(0, len(structures), _BATCH):

        def name(k: int, start: int = start) -> str:
            return f"{structure}: frame {frame_number(structure, index, start + k)}"

        batch = structures[start : start + _BATCH]
        results += evaluate_together(calculator.compute, batch, name)
    for atoms, found in zip(structures, results, strict=True) if uncertainty else ():
        found["energy_uncertainty"] = calculator.uncertainty(atoms).energy
    if out is not None:
        _write_results(out, structures, results)
    if json:
        return show_json(results)
    table = Table(title=f"{structure}, {calculator.model.path}")
    columns = ["", "formula", "energy\neV", "\neV/atom", "max force\neV/Å", "pressure\nGPa"]
    has_dipoles = any("dipole" in found for found in results)
    columns += ["dipole\ne·Å"] if has_dipoles else []
    for column in [*columns, "uncertainty\neV"] if uncertainty else columns:
        table.add_column(column, justify="right", no_wrap=column != "formula")
    for k, (atoms, found) in enumerate(zip(structures, results, strict=True)):
        force = np.linalg.norm(found["forces"], axis=1).max()
        pressure = -found["stress"][:3].mean() * EV_PER_A3_IN_GPA if "stress" in found else None
        table.add_row(
            str(k),
            atoms.get_chemical_formula(),
            f"{found['energy']:.6f}",
            f"{found['energy'] / len(atoms):.6f}",
            f"{force:.6f}",
            "-" if pressure is None else f"{pressure:.4f}",
            *([_norm(found.get("dipole"))] if has_dipoles else []),
            *([f"{found['energy_uncertainty']:.6f}"] if uncertainty else []),
        )
    return make_console().print(table)


def _write_results(out: Path, structures: list[Atoms], results: list[dict[str, Any]]) -> None:
    """Write structures with what ASE knows as results, and the rest as their information."""
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    from ase_pet.potentials.tensors import RANKS
    from ase_pet.workflows.output import write_structure

    for atoms, found in zip(structures, results, strict=True):
        known = {name: value for name, value in found.items() if name in all_properties}
        atoms.calc = SinglePointCalculator(atoms, **known)
        for label in (*RANKS, "energy_uncertainty"):  # that of the file is not the model's
            atoms.info.pop(label, None)
        atoms.info.update({k: value for k, value in found.items() if k not in known})
    write_structure(out, structures)


def _norm(vector: Any) -> str:
    """Length of a vector with four digits; a dash for none."""
    import numpy as np

    return "-" if vector is None else f"{np.linalg.norm(vector):.4f}"


@takes_calculator
def relax_structure(
    calculator: PETCalculator,
    structure: StructurePath,
    optimizer: Annotated[str, typer.Option(help="fire or lbfgs.")] = "fire",
    fmax: Annotated[float, typer.Option(help="Largest force at which to stop, eV/Å.")] = 0.01,
    steps: Annotated[int, typer.Option(help="Most steps.")] = 500,
    cell: Annotated[str, typer.Option(help="fixed, full, isotropic or shape.")] = "fixed",
    pressure: Annotated[float, typer.Option(help="GPa.")] = 0.0,
    symprec: Annotated[float, typer.Option(help="Tolerance of the space group, Å.")] = 1e-5,
    out: OutFolder = Path("relax"),
    json: Json = False,
) -> None:
    """Relax atoms and, if asked for, the cell; tells the space group before and after."""
    from ase_pet.workflows.relax import RelaxSettings, relax

    check_out(out, folder=True)
    settings = RelaxSettings(optimizer, fmax, steps, cell, pressure, symprec)
    atoms = read_structures(structure, "-1")[0]
    atoms.calc = calculator
    record = relax(atoms, settings, out, console=None if json else make_console())
    show(record.summary(), f"relaxation, files in {out}", as_json=json)
    if not record.converged:
        raise RuntimeError(
            f"not converged to {fmax} eV/Å after {steps} steps (largest force "
            f"{record.forces[-1]:.4g} eV/Å); continue from {out / 'relaxed.extxyz'} or raise "
            "--steps"
        )


@takes_calculator
def run_dynamics(
    calculator: PETCalculator,
    structure: StructurePath,
    dynamics: Annotated[str, typer.Option(help="nve, langevin, bussi or nose-hoover.")] = "nve",
    steps: Annotated[int, typer.Option(help="Number of time steps.")] = 1000,
    time_step: Annotated[float, typer.Option(help="fs.")] = 1.0,
    temperature: Annotated[
        float | None, typer.Option(help="K; also of the velocities given to atoms at rest.")
    ] = None,
    damping: Annotated[float, typer.Option(help="Time constant of the thermostat, fs.")] = 100.0,
    interval: Annotated[int, typer.Option(help="Steps between two records.")] = 10,
    seed: Annotated[int, typer.Option(help="Of velocities and thermostat.")] = 0,
    max_temperature: Annotated[float, typer.Option(help="K, beyond which to stop.")] = 10_000.0,
    repeat: Annotated[
        tuple[int, int, int], typer.Option(help="Repeat the cell along its vectors.")
    ] = (1, 1, 1),
    out: OutFolder = Path("md"),
    json: Json = False,
) -> None:
    """Molecular dynamics; continues from the velocities in the file, if there are any."""
    from ase_pet.workflows.md import MDSettings, run_md

    check_out(out, folder=True)
    if min(repeat) < 1:
        raise ValueError(f"--repeat: expected three positive numbers like 2 2 2, got {repeat}")
    settings = MDSettings(
        dynamics, steps, time_step, temperature, damping, interval, seed, max_temperature
    )
    atoms = read_structures(structure, "-1")[0].repeat(repeat)
    atoms.calc = calculator
    record = run_md(atoms, settings, out, console=None if json else make_console())
    show(record.summary(), f"molecular dynamics, files in {out}", as_json=json)


@takes_calculator
def run_phonons(
    calculator: PETCalculator,
    structure: StructurePath,
    supercell: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Repeats of the cell (default: each at least 12 Å long)."),
    ] = None,
    displacement: Annotated[float, typer.Option(help="Å.")] = 0.01,
    two_sided: Annotated[
        bool | None, typer.Option(help="Both ways always or never (default: where needed).")
    ] = None,
    use_symmetry: Annotated[
        bool, typer.Option(help="Displace only what the space group does not give.")
    ] = True,
    relax: Annotated[bool, typer.Option(help="Relax atoms and cell before.")] = True,
    fmax: Annotated[float, typer.Option(help="Largest force of that relaxation, eV/Å.")] = 1e-4,
    subtract_residual: Annotated[
        bool, typer.Option(help="Subtract the forces of the perfect supercell.")
    ] = True,
    symmetrize: Annotated[
        bool, typer.Option(help="Impose the sum rules on the force constants.")
    ] = False,
    mesh: Annotated[float, typer.Option(help="Density of q-points of the DOS.")] = 100.0,
    symprec: Annotated[float, typer.Option(help="Tolerance of the space group, Å.")] = 1e-5,
    out: OutFolder = Path("phonons"),
    json: Json = False,
) -> None:
    """Phonon bands, density of states and thermal properties; give --dtype float64 for the most."""
    from ase_pet.workflows.phonons import PhononSettings, compute_phonons, require_crystal
    from ase_pet.workflows.relax import RelaxSettings
    from ase_pet.workflows.relax import relax as relax_atoms

    check_out(out, folder=True)
    settings = PhononSettings(
        supercell=supercell,
        displacement=displacement,
        two_sided=two_sided,
        use_symmetry=use_symmetry,
        subtract_residual=subtract_residual,
        symmetrize=symmetrize,
        mesh=mesh,
        symprec=symprec,
    )
    to_rest = RelaxSettings("lbfgs", fmax, cell="full", symprec=symprec)
    console = None if json else make_console()
    atoms = read_structures(structure, "-1")[0]
    require_crystal(atoms)
    atoms.calc = calculator
    if relax and not relax_atoms(atoms, to_rest, out / "relax", console=console).converged:
        raise RuntimeError(
            f"the relaxation did not reach {fmax} eV/Å; relax with `ase-pet relax` first, then "
            "give --no-relax"
        )
    record = compute_phonons(atoms, settings, out, console=console)
    show(record.summary(), f"phonons, files in {out}", as_json=json)


COMMANDS: dict[str, Callable[..., None]] = {
    "eval": evaluate_structures,
    "relax": relax_structure,
    "md": run_dynamics,
    "phonons": run_phonons,
}
