"""Why exactness matters: one network bare, averaged over 84 orientations, and symmetrised by ECSE.

    python examples/why_exactness.py --out why/           # the tables and pictures of docs/why.md
    python examples/why_exactness.py --quick --out why/   # silicon and ethanol alone, in a minute

Four experiments are repeated in many orientations of the same structure: optical frequencies of a
crystal at Γ, its space group after a relaxation, the angular momentum of a free molecule, elastic
constants. The folder receives a picture of each, the tables and, in ``why.json``, all numbers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.cluster import Icosahedron
from ase.stress import full_3x3_to_voigt_6_stress as voigt_stress
from ase.stress import voigt_6_to_full_3x3_strain as full_strain  # with 1 on the diagonal
from ase.stress import voigt_6_to_full_3x3_stress as full_stress
from scipy.spatial.transform import Rotation
from why_figures import draw_elastic, draw_gamma, draw_groups, draw_rotation

from ase_pet import PETCalculator
from ase_pet.testing.contracts import transformed, turned
from ase_pet.testing.grid import GridAverage
from ase_pet.units import EV_IN_MEV, EV_PER_A3_IN_GPA
from ase_pet.workflows.md import MDSettings, run_md
from ase_pet.workflows.output import write_figure, write_json
from ase_pet.workflows.phonons import PhononSettings, compute_phonons
from ase_pet.workflows.provenance import provenance
from ase_pet.workflows.relax import RelaxSettings, relax, space_group

#: Å, tolerances at which the space group is looked for.
SYMPRECS = [10.0**-k for k in range(1, 7)]
#: Largest strain of elastic constants.
STRAIN = 1e-3
Calculators = Mapping[str, Any]
Found = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A crystal and a free molecule, with shipped models that know them.

    Attributes:
        crystal: Its name: "Si", primitive, or "AuCu3", the ordered alloy.
        crystal_model: For the crystal.
        molecule: Its name: "ethanol", or "Cu13", an icosahedron.
        molecule_model: For the molecule.
        group: Space group of the crystal.
        supercells: Repeats of the crystal for phonons.
        orientations: How many; a quarter of them for relaxations, which take longest.
        steps: Of the molecule.
        time_step: fs.
    """

    crystal: str
    crystal_model: str
    molecule: str
    molecule_model: str
    group: str
    supercells: tuple[int, ...]
    orientations: int
    steps: int
    time_step: float


SILICON = Case("Si", "pet-si", "ethanol", "pet-ethanol", "Fd-3m (227)", (2, 3), 20, 500, 0.5)
ALLOY = Case("AuCu3", "pet-emt", "Cu13", "pet-emt", "Pm-3m (221)", (2,), 8, 150, 2.0)
QUICK = replace(SILICON, supercells=(2,), orientations=4, steps=30)
STRUCTURES: dict[str, Callable[[], Atoms]] = {
    "Si": lambda: bulk("Si"),
    "AuCu3": lambda: Atoms("AuCu3", bulk("Cu", cubic=True).positions, cell=[3.7] * 3, pbc=True),
    "ethanol": lambda: molecule("CH3CH2OH"),
    "Cu13": lambda: Icosahedron("Cu", 2),
}


def calculators(model: str) -> dict[str, Any]:
    """The same network three ways, in double precision."""
    bare = PETCalculator(model, dtype="float64", symmetry=None)
    exact = PETCalculator(model, dtype="float64")
    return {"bare": bare, "84 orientations": GridAverage(bare), "ECSE": exact}


def turns(n: int) -> np.ndarray:
    """Random rotations [n, 3, 3], the same in every run."""
    return Rotation.random(n, random_state=0).as_matrix()


def perfect(case: Case, calc: Any) -> Atoms:
    """The crystal with the volume at which a calculator finds no pressure."""
    atoms = STRUCTURES[case.crystal]()
    atoms.calc = calc
    relax(atoms, RelaxSettings("lbfgs", fmax=1e-6, steps=100, cell="isotropic"))
    return atoms


def measure_gamma(case: Case, calc: Any, crystal: Atoms) -> Found:
    """Highest frequency at Γ in each orientation, from one-sided displacements of 0.01 Å.

    Returns:
        For each supercell the frequencies, cm⁻¹ (imaginary ones negative): with "raw" forces, and
        with those of the perfect supercell "subtracted".
    """
    found: Found = {}
    for repeat in case.supercells:
        settings = PhononSettings((repeat,) * 3, two_sided=False, mesh=5.0, n_points=2)
        raw, subtracted = [], []
        for R in turns(case.orientations):
            atoms = transformed(crystal, R)
            atoms.calc = calc
            record = compute_phonons(atoms, settings)
            subtracted.append(record.gamma.max())
            # In the perfect supercell each atom feels what it feels in the unit cell.
            residual = np.repeat(calc.compute([atoms])[0]["forces"], repeat**3, axis=0)
            record.phonon.forces = np.array(record.phonon.forces) + residual
            record.phonon.produce_force_constants(show_drift=False)
            raw.append(record.gamma.max())
        found["×".join([str(repeat)] * 3)] = {"raw": raw, "subtracted": subtracted}
    return found


def measure_groups(case: Case, calc: Any, crystal: Atoms) -> Found:
    """Space groups after a relaxation of atoms and cell, from a sheared and displaced crystal.

    Returns:
        For each orientation the space groups at ``SYMPRECS``, whether the relaxation converged
        (1e-6 eV/Å in 150 steps), and the volume, Å³ an atom.
    """
    shear = np.eye(3) + np.array([[0.01, 0.01, 0.0], [0.01, -0.01, 0.005], [0.0, 0.005, 0.0]])
    start = transformed(crystal, shear)
    start.rattle(0.03, seed=0)
    found: Found = {"groups": [], "converged": [], "volume": []}
    for R in turns(max(2, case.orientations // 4)):
        atoms = transformed(start, R)
        atoms.calc = calc
        record = relax(atoms, RelaxSettings("lbfgs", fmax=1e-6, steps=150, cell="full"))
        found["groups"].append([space_group(atoms, symprec) for symprec in SYMPRECS])
        found["converged"].append(record.converged)
        found["volume"].append(atoms.get_volume() / len(atoms))
    return found


def measure_rotation(case: Case, calc: Any, start: Atoms) -> Found:
    """Angular momentum and energy of a free molecule at 300 K, by velocity Verlet.

    Returns:
        Times (ps), changes of the angular momentum (ħ) and of the energy (meV an atom).
    """
    atoms = start.copy()
    atoms.calc = calc
    record = run_md(
        atoms, MDSettings(steps=case.steps, time_step=case.time_step, temperature=300.0, interval=1)
    )
    momentum, energy = record.angular_momentum, record["conserved_eV"]
    return {
        "time": record["time_ps"],
        "start": np.linalg.norm(momentum[0]),
        "momentum": np.linalg.norm(momentum - momentum[0], axis=1),
        "energy": (energy - energy[0]) * EV_IN_MEV / len(atoms),
    }


def measure_elastic(case: Case, calc: Any, crystal: Atoms) -> Found:
    """Elastic constants [6, 6], GPa, of turned crystals, in the axes of the crystal.

    Central differences of the stress, with ions that follow the strain. Stress and strain are
    turned back, which is the same as to turn the tensor.
    """
    deformed = [full_strain(sign * STRAIN * e) for e in np.eye(6) for sign in (1.0, -1.0)]
    constants = []
    for R in turns(case.orientations):
        strained = [transformed(crystal, R @ F) for F in deformed]
        stresses = [full_stress(results["stress"]) for results in calc.compute(strained)]
        back = np.array([voigt_stress(turned(stress, R.T)) for stress in stresses])
        constants.append((back[0::2] - back[1::2]).T / (2.0 * STRAIN) * EV_PER_A3_IN_GPA)
    return {"constants": constants}


def cubic(constants: np.ndarray) -> np.ndarray:
    """C11, C12, C44 [n, 3] nearest to elastic constants [n, 6, 6], and what is left of these [n].

    Returns:
        All in one [n, 4]; the last is the largest component that no cubic crystal has.
    """
    C = np.asarray(constants)
    diagonal = np.einsum("nii->ni", C)
    c11, c44 = diagonal[:, :3].mean(1), diagonal[:, 3:].mean(1)
    c12 = (C[:, :3, :3].sum((1, 2)) - 3.0 * c11) / 6.0
    nearest = np.zeros_like(C)
    nearest[:, :3, :3] = c12[:, None, None]
    for k in range(6):
        nearest[:, k, k] = c11 if k < 3 else c44
    return np.stack([c11, c12, c44, np.abs(C - nearest).max((1, 2))], 1)


def measure(case: Case, *, report: Callable[[str], None] = lambda line: None) -> Found:
    """All four experiments, for each way: ``found[experiment][way]``."""
    ways, others = calculators(case.crystal_model), calculators(case.molecule_model)
    crystal = perfect(case, ways["ECSE"])
    molecule = STRUCTURES[case.molecule]()
    molecule.calc = others["ECSE"]
    relax(molecule, RelaxSettings("lbfgs", fmax=1e-3, steps=300))
    experiments = {
        "gamma": (measure_gamma, ways, crystal),
        "groups": (measure_groups, ways, crystal),
        "rotation": (measure_rotation, others, molecule),
        "elastic": (measure_elastic, ways, crystal),
    }
    found: Found = {}
    for name, (run, calcs, atoms) in experiments.items():
        found[name] = {}
        for way, calc in calcs.items():
            began = time.process_time()
            found[name][way] = run(case, calc, atoms)
            found[name][way]["seconds"] = time.process_time() - began
            report(f"{case.crystal}, {name}, {way}: {found[name][way]['seconds']:.0f} s")
    return {"case": asdict(case), **found}


def table(found: Found) -> str:
    """What the experiments show, in Markdown."""
    case, ways = Case(**found["case"]), list(found["gamma"])
    rows: dict[str, list[str]] = {}
    for cell in found["gamma"]["ECSE"]:
        if cell == "seconds":
            continue
        for kind, words in (("raw", ""), ("subtracted", ", residual forces subtracted")):
            values = [found["gamma"][way][cell][kind] for way in ways]
            rows[f"Γ, {cell}{words}: spread, cm⁻¹"] = [f"{np.ptp(v):.2g}" for v in values]
    groups = [np.array(found["groups"][way]["groups"]) == case.group for way in ways]
    for k in (1, 4):
        rows[f"relaxed crystals that are {case.group} within {SYMPRECS[k]:.0e} Å"] = [
            f"{right[:, k].sum()} of {len(right)}" for right in groups
        ]
    spins = [found["rotation"][way] for way in ways]
    spin = f"angular momentum, of {spins[0]['start']:.0f} ħ at the start: largest change, ħ"
    rows[spin] = [f"{np.max(run['momentum']):.2g}" for run in spins]
    energy = "total energy in the same run: largest change, meV/atom"
    rows[energy] = [f"{np.abs(run['energy']).max():.2g}" for run in spins]
    parts = [cubic(found["elastic"][way]["constants"]) for way in ways]
    for k, name in enumerate(("C11", "C12", "C44")):
        rows[f"{name}: spread, GPa"] = [f"{np.ptp(part[:, k]):.2g}" for part in parts]
    rows["largest C that no cubic crystal has, GPa"] = [f"{x[:, 3].max():.2g}" for x in parts]
    rows["processor time, s"] = [
        f"{sum(found[name][way]['seconds'] for name in found if name != 'case'):.0f}"
        for way in ways
    ]
    head = [f"{case.crystal} and {case.molecule}", *ways]
    lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in rows.items())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(out: Path, found: list[Found]) -> None:
    """Draw all pictures, write the tables and print them."""
    figures = {
        "gamma": draw_gamma(found),
        "groups": draw_groups(found, SYMPRECS),
        "rotation": draw_rotation(found),
        "elastic": draw_elastic(found, cubic),
    }
    for name, figure in figures.items():
        write_figure(out / f"why_{name}.png", figure)
    print("\n" + "\n\n".join(map(table, found)) + f"\n\nPictures and numbers: {out}/")


def main() -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few orientations, silicon alone")
    parser.add_argument("--crystals", nargs="+", choices=["Si", "AuCu3"], default=["Si", "AuCu3"])
    parser.add_argument("--draw", nargs="+", type=Path, help="files why.json of earlier runs")
    parser.add_argument("--out", type=Path, default=Path("why"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.draw:
        write(
            given.out, [one for path in given.draw for one in json.loads(path.read_text())["cases"]]
        )
        return
    cases = [QUICK] if given.quick else [x for x in (SILICON, ALLOY) if x.crystal in given.crystals]
    found = []
    for case in cases:
        found.append(measure(case, report=lambda line: print(line, flush=True)))
        write_json(given.out / "why.json", {**provenance(), "cases": found})
    write(given.out, found)


if __name__ == "__main__":
    main()
