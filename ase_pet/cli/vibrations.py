"""The command of lattice vibrations: phonons."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ase_pet.cli.options import (
    Json,
    OutFolder,
    StructurePath,
    check_out,
    make_console,
    read_structures,
    show,
    show_json,
    takes_calculator,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ase import Atoms
    from rich.console import Console

    from ase_pet import PETCalculator
    from ase_pet.workflows.phonons import PhononSettings
    from ase_pet.workflows.relax import RelaxSettings


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
    force_constants: Annotated[
        str, typer.Option(help="finite-difference, or symfc: a fit with all symmetries.")
    ] = "finite-difference",
    random: Annotated[
        int | None, typer.Option(help="Supercells with random displacements, for symfc.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random displacements.")] = 0,
    irreps: Annotated[
        bool, typer.Option(help="Label the modes at Γ by irreducible representations.")
    ] = False,
    nac: Annotated[
        Path | None,
        typer.Option(help="BORN file of phonopy: charges and dielectric tensor, for LO-TO."),
    ] = None,
    gruneisen: Annotated[
        bool, typer.Option(help="Grüneisen parameters from three volumes as well.")
    ] = False,
    volume_change: Annotated[
        float, typer.Option(help="Relative change of the volume for --gruneisen.")
    ] = 0.01,
    qha: Annotated[
        bool, typer.Option(help="Quasi-harmonic approximation from several volumes as well.")
    ] = False,
    volumes: Annotated[
        str, typer.Option(help="Relative changes of the volume for --qha, five or more.")
    ] = "-0.03,-0.015,0,0.015,0.03,0.045,0.06",
    pressure: Annotated[float, typer.Option(help="GPa, for --qha.")] = 0.0,
    mesh: Annotated[float, typer.Option(help="Density of q-points of the DOS.")] = 100.0,
    band_points: Annotated[int, typer.Option(help="q-points of the path's longest segment.")] = 101,
    max_temperature: Annotated[float, typer.Option(help="K, of thermal properties.")] = 1000.0,
    symprec: Annotated[float, typer.Option(help="Tolerance of the space group, Å.")] = 1e-5,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the supercells (default: only one).")
    ] = None,
    batch_atoms: Annotated[
        int, typer.Option(help="Atoms that are evaluated, and kept on disk, together.")
    ] = 1024,
    out: OutFolder = Path("phonons"),
    json: Json = False,
) -> None:
    """Phonon bands, density of states and thermal properties; give --dtype float64 for the most.

    A run that was killed goes on where it stopped if the same command is given again.
    """
    from ase_pet.workflows.crystal import require_crystal
    from ase_pet.workflows.phonons import (
        PhononSettings,
        bring_to_rest,
        check_change,
        check_changes,
        make_workers,
    )
    from ase_pet.workflows.relax import RelaxSettings

    check_out(out, folder=True)
    settings = PhononSettings(
        supercell=supercell,
        displacement=displacement,
        two_sided=two_sided,
        use_symmetry=use_symmetry,
        subtract_residual=subtract_residual,
        symmetrize=symmetrize,
        force_constants=force_constants,
        n_random=random,
        seed=seed,
        irreps=irreps,
        nac=nac,
        mesh=mesh,
        n_points=band_points,
        max_temperature=max_temperature,
        symprec=symprec,
        batch_atoms=batch_atoms,
    )
    changes = _changes(volumes)
    if gruneisen:
        check_change(volume_change)
    if qha:
        check_changes(changes)
    pool = nullcontext() if workers is None else make_workers(workers)
    to_rest = RelaxSettings("lbfgs", fmax, cell="full", symprec=symprec)
    at_rest = RelaxSettings("lbfgs", fmax, cell="shape", symprec=symprec)
    console = None if json else make_console()
    atoms = read_structures(structure, "-1")[0]
    require_crystal(atoms, "phonons need")
    atoms.calc = calculator
    if relax:
        bring_to_rest(atoms, to_rest, out / "relax", kept_in=out / "forces", console=console)
    found = _compute(
        atoms,
        settings,
        out,
        gruneisen={"change": volume_change} if gruneisen else None,
        qha={"changes": changes, "pressure": pressure} if qha else None,
        at_rest=at_rest if relax else None,
        pool=pool,
        console=console,
    )
    if json:
        return show_json({**found.pop("phonons"), **found})
    for name, rows in found.items():
        show(rows, f"{name}, files in {out if name == 'phonons' else out / name}", as_json=False)
    if nac is None and len(set(atoms.numbers)) > 1:
        make_console().print(
            "without --nac BORN the LO modes of an insulator are not split from its TO modes at Γ"
        )
    return None


def _compute(
    atoms: Atoms,
    settings: PhononSettings,
    out: Path,
    *,
    gruneisen: dict[str, Any] | None,
    qha: dict[str, Any] | None,
    at_rest: RelaxSettings | None,
    pool: AbstractContextManager[Executor | None],
    console: Console | None,
) -> dict[str, dict[str, Any]]:
    """Summaries of what was asked for; workers stay from one part to the next."""
    from ase_pet.workflows.phonons import compute_gruneisen, compute_phonons, compute_qha

    found = {}
    with pool as executor:
        options: dict[str, Any] = {"forces_dir": out / "forces", "executor": executor}
        options["console"] = console
        found["phonons"] = compute_phonons(atoms, settings, out, **options).summary()
        options["at_rest"] = at_rest
        if gruneisen is not None:
            parameters = compute_gruneisen(
                atoms, settings, out / "gruneisen", **gruneisen, **options
            )
            found["gruneisen"] = parameters.summary()
        if qha is not None:
            found["qha"] = compute_qha(atoms, settings, out / "qha", **qha, **options).summary()
    return found


def _changes(text: str) -> list[float]:
    """Relative changes of the volume from what was typed.

    Raises:
        ValueError: If they are no numbers with commas between them.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--volumes: expected numbers with a comma between two of them, got {text!r}"
        ) from None


COMMANDS: dict[str, Callable[..., None]] = {"phonons": run_phonons}
