"""The command of lattice vibrations: phonons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ase_pet.cli.options import (
    Json,
    OutFolder,
    StructurePath,
    check_out,
    make_console,
    read_structures,
    show,
    takes_calculator,
)

if TYPE_CHECKING:
    from ase_pet import PETCalculator


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


COMMANDS: dict[str, Callable[..., None]] = {"phonons": run_phonons}
