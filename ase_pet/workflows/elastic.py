"""Elastic constants of a crystal, from stresses at small strains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from rich.console import Console

from ase_pet.units import EV_PER_A3_IN_GPA
from ase_pet.workflows.batches import evaluate_all
from ase_pet.workflows.crystal import require_crystal
from ase_pet.workflows.output import write_csv, write_figure, write_summary
from ase_pet.workflows.plots_mechanics import plot_young
from ase_pet.workflows.progress import Progress
from ase_pet.workflows.relax import RelaxSettings, relax, space_group
from ase_pet.workflows.stiffness import (
    Stiffness,
    conventional_axes,
    point_group,
    rotated,
    symmetrized,
)


@dataclass(frozen=True, slots=True)
class ElasticSettings:
    """How to strain.

    Attributes:
        strain: Largest component, in Voigt's notation; both signs are taken.
        relax_ions: Relax atoms in each strained cell, too.
        fmax: eV/Å, of these relaxations.
        steps: Most steps of each.
        symmetrize: Average over the point group of the crystal.
        symprec: Å, tolerance of that group.

    Raises:
        ValueError: If a value makes no sense.
    """

    strain: float = 0.005
    relax_ions: bool = True
    fmax: float = 1e-4
    steps: int = 500
    symmetrize: bool = True
    symprec: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.strain < 0.1:
            raise ValueError(f"strain: expected more than 0 and less than 0.1, got {self.strain}")
        RelaxSettings(fmax=self.fmax, steps=self.steps, symprec=self.symprec)


@dataclass(frozen=True, slots=True, eq=False)
class ElasticRecord:
    """Elastic constants.

    Attributes:
        clamped: With atoms at rest in the strained cell.
        relaxed: With atoms relaxed; ``None`` if that was not asked for.
        axes: [3, 3], rows are the Cartesian axes of spglib's conventional cell.
        space_group: Of the crystal, as relax tells it, over whose point group tensors are averaged.
        stress: [6], GPa, of the crystal as given; constants are those of the relaxed crystal only
            where it is small beside them.
        asymmetry: GPa, the most that averaging over the point group changed in a constant.
    """

    clamped: Stiffness
    relaxed: Stiffness | None
    axes: np.ndarray
    space_group: str | None
    stress: np.ndarray
    asymmetry: float

    @property
    def best(self) -> Stiffness:
        """Relaxed constants, if there are any."""
        return self.relaxed or self.clamped

    def summary(self) -> dict[str, Any]:
        """Tensors and moduli, as plain numbers."""
        kinds = {"clamped": self.clamped, "relaxed": self.relaxed}
        found: dict[str, Any] = {
            name: {"C_conventional_GPa": self.conventional(kind).tolist(), **kind.summary()}
            for name, kind in kinds.items()
            if kind is not None
        }
        found["space_group"] = self.space_group
        found["conventional_axes"] = self.axes.tolist()
        found["largest_stress_GPa"] = float(np.abs(self.stress).max())
        return {**found, "largest_asymmetry_GPa": self.asymmetry}

    def conventional(self, tensor: Stiffness) -> np.ndarray:
        """Constants [6, 6] along the axes of the conventional cell, GPa."""
        return rotated(tensor.C, self.axes)


def compute_elastic(
    atoms: Atoms,
    settings: ElasticSettings,
    out_dir: str | Path | None = None,
    *,
    console: Console | None = None,
) -> ElasticRecord:
    r"""Elastic constants by central differences of the stress.

    .. math:: C_{ij} = \frac{\sigma_i(+h e_j) - \sigma_i(-h e_j)}{2 h}

    Strains are along axes that turn with the lattice vectors, so that constants of a rotated
    crystal are the rotated constants, whatever the strain. The folder receives ``elastic.csv``
    (6 × 6, GPa), ``elastic.png`` and ``summary.json``.

    Args:
        atoms: Relaxed crystal, with a calculator that gives stress; unchanged.
        settings: What to do.
        out_dir: Folder for the files; nothing is written if None.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If the structure is no crystal.
        RuntimeError: If atoms do not relax in a strained cell.
    """
    if atoms.calc is None:
        raise ValueError("atoms: no calculator attached; set atoms.calc first")
    require_crystal(atoms, "elastic constants need")
    frame = atoms.cell.standard_form()[1]
    strained = [
        _strained(atoms, frame, sign * settings.strain * row)
        for row in np.eye(6)
        for sign in (1, -1)
    ]
    found = evaluate_all(
        atoms.calc, [atoms, *strained], ["stress"], label="strains", console=console
    )
    at_rest, *stresses = (one["stress"] * EV_PER_A3_IN_GPA for one in found)
    every = {"clamped": stresses}
    if settings.relax_ions:
        every["relaxed"] = _relaxed_stresses(strained, settings, console)
    group = point_group(atoms, settings.symprec) if settings.symmetrize else np.eye(3)[None]
    tensors: dict[str, Stiffness] = {}
    asymmetry = 0.0
    for name, values in every.items():
        raw = rotated(_differences(values, frame, settings.strain), frame.T)
        tensors[name] = Stiffness(symmetrized(raw, group))
        asymmetry = max(asymmetry, float(np.abs(tensors[name].C - raw).max()))
    axes = conventional_axes(atoms, settings.symprec)
    symbol = space_group(atoms, settings.symprec)
    kinds = tensors["clamped"], tensors.get("relaxed")
    record = ElasticRecord(*kinds, axes, symbol, at_rest, asymmetry)
    if out_dir is not None:
        _write(record, settings, atoms, Path(out_dir))
    return record


def _strained(atoms: Atoms, frame: np.ndarray, strain: np.ndarray) -> Atoms:
    """A copy strained by Voigt's components [6] along the rows of a frame [3, 3]."""
    full = voigt_6_to_full_3x3_stress(strain * [1, 1, 1, 0.5, 0.5, 0.5])
    copied = atoms.copy()
    copied.set_constraint()
    copied.set_cell(atoms.cell.array @ (np.eye(3) + frame.T @ full @ frame), scale_atoms=True)
    copied.calc = atoms.calc
    return copied


def _differences(stresses: list[np.ndarray], frame: np.ndarray, strain: float) -> np.ndarray:
    """Constants [6, 6] along the frame from stresses [6] of the laboratory, two for each strain."""
    turned = [
        full_3x3_to_voigt_6_stress(frame @ voigt_6_to_full_3x3_stress(one) @ frame.T)
        for one in stresses
    ]
    return (np.array(turned[::2]) - np.array(turned[1::2])).T / (2.0 * strain)


def _relaxed_stresses(
    strained: list[Atoms], settings: ElasticSettings, console: Console | None
) -> list[np.ndarray]:
    to_rest = RelaxSettings("lbfgs", settings.fmax, settings.steps)
    stresses = []
    with Progress(console, "relaxed strains", len(strained)) as progress:
        for one in strained:
            if not relax(one, to_rest).converged:
                raise RuntimeError(
                    f"atoms did not relax to {settings.fmax} eV/Å in a strained cell in "
                    f"{settings.steps} steps; allow more steps or a larger fmax"
                )
            stresses.append(one.get_stress() * EV_PER_A3_IN_GPA)
            progress.advance()
    return stresses


def _write(record: ElasticRecord, settings: ElasticSettings, atoms: Atoms, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    columns = {f"C_i{j + 1}_GPa": record.best.C[:, j] for j in range(6)}
    write_csv(out / "elastic.csv", columns)
    if record.best.stable:
        write_figure(out / "elastic.png", plot_young(record))
    else:
        (out / "elastic.png").unlink(missing_ok=True)  # that of another crystal
    write_summary(out, atoms.calc, settings, record.summary())
