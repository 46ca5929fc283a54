"""Why exactness matters: one network bare, averaged over 84 orientations, and symmetrised by ECSE.

    python examples/why_exactness.py --out why/           # the tables and pictures of docs/why.md
    python examples/why_exactness.py --quick --out why/   # silicon and ethanol alone, in a minute

Four experiments are repeated in many orientations of the same structure: optical frequencies of a
crystal at Γ, its space group after a relaxation, the angular momentum of a free molecule, elastic
constants. The folder receives a picture of each and, in ``why.json``, all numbers; a run that was
stopped goes on from there. ``--quick`` has a file of its own, ``quick.json``.
"""

from __future__ import annotations

import argparse
import itertools
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
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from scipy.spatial.transform import Rotation
from why_figures import STYLES, draw_elastic, draw_gamma, draw_groups, draw_rotation

from ase_pet import PETCalculator
from ase_pet.testing.contracts import transformed
from ase_pet.testing.grid import GridAverage
from ase_pet.units import EV_IN_MEV, THZ_IN_INVERSE_CM
from ase_pet.workflows.elastic import ElasticSettings, compute_elastic
from ase_pet.workflows.md import MDSettings, run_md
from ase_pet.workflows.output import write_figure, write_json
from ase_pet.workflows.provenance import provenance
from ase_pet.workflows.relax import RelaxSettings, relax, space_group
from ase_pet.workflows.stiffness import rotated

#: Å, tolerances at which the space group is looked for.
SYMPRECS = [10.0**-k for k in range(1, 7)]
#: The average takes longest.
BY_COST = ("bare", "ECSE", "84 orientations")
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
    supercells: list[int]
    orientations: int
    steps: int
    time_step: float


CASES = {
    "Si": Case("Si", "pet-si", "ethanol", "pet-ethanol", "Fd-3m (227)", [2, 3], 20, 200, 0.5),
    "AuCu3": Case("AuCu3", "pet-emt", "Cu13", "pet-emt", "Pm-3m (221)", [2], 5, 100, 2.0),
}
QUICK = replace(CASES["Si"], supercells=[2], orientations=3, steps=10)
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


def relaxed_molecule(case: Case, calc: Any) -> Atoms:
    """The free molecule of a case, at rest."""
    atoms = STRUCTURES[case.molecule]()
    atoms.calc = calc
    relax(atoms, RelaxSettings("lbfgs", fmax=1e-3, steps=300))
    return atoms


def measure_gamma(case: Case, calc: Any, crystal: Atoms) -> Found:
    """Highest frequency at Γ in each orientation, from one-sided displacements of 0.01 Å.

    Returns:
        For each supercell the frequencies, cm⁻¹ (imaginary ones negative): with "raw" forces, and
        with those of the perfect crystal "subtracted".
    """
    found: Found = {}
    for repeat in case.supercells:
        both = [highest(calc, transformed(crystal, R), repeat) for R in turns(case.orientations)]
        cell = "×".join([str(repeat)] * 3)
        found[cell] = dict(zip(("raw", "subtracted"), np.transpose(both), strict=True))
    return found


def highest(calc: Any, crystal: Atoms, repeat: int) -> tuple[float, float]:
    """Highest frequency of a primitive cell at Γ, cm⁻¹, without and with subtraction."""
    cell, symbols = crystal.cell.array, crystal.get_chemical_symbols()
    unit = PhonopyAtoms(symbols, cell=cell, scaled_positions=crystal.get_scaled_positions())
    phonon = Phonopy(unit, np.diag([repeat] * 3), primitive_matrix="P")
    phonon.generate_displacements(distance=0.01, is_plusminus=False)
    displaced = [
        Atoms(one.symbols, cell=one.cell, positions=one.positions, pbc=True)
        for one in phonon.supercells_with_displacements
    ]
    forces = np.array([results["forces"] for results in calc.compute(displaced)])
    # In the perfect supercell each atom feels what it feels in the unit cell.
    perfect = np.repeat(calc.compute([crystal])[0]["forces"], repeat**3, axis=0)
    found = []
    for residual in (0.0, perfect):
        phonon.forces = forces - residual
        phonon.produce_force_constants(show_drift=False)
        found.append(np.max(phonon.run_qpoints([[0.0, 0.0, 0.0]]).frequencies))
    return found[0] * THZ_IN_INVERSE_CM, found[1] * THZ_IN_INVERSE_CM


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
    """Elastic constants [6, 6] with clamped ions, GPa, of turned crystals, turned back.

    Strains are small because errors of their square, 4e-4 GPa at 1e-3, are not cubic either.
    """
    settings = ElasticSettings(strain=1e-5, relax_ions=False, symmetrize=False)
    constants = []
    for R in turns(case.orientations):
        atoms = transformed(crystal, R)
        atoms.calc = calc
        constants.append(rotated(compute_elastic(atoms, settings).clamped.C, R.T))
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


def measure(case: Case, known: Found, save: Callable[[Found], None]) -> Found:
    """All four experiments, for each way: ``found[experiment][way]``.

    Args:
        case: What to measure.
        known: What an earlier run found, which is taken over if it was of the same case.
        save: Called with all that is known whenever there is something new.
    """
    ways, others = calculators(case.crystal_model), calculators(case.molecule_model)
    hashes = [calcs["bare"].model.sha256 for calcs in (ways, others)]
    crystal = perfect(case, ways["ECSE"])
    molecule = relaxed_molecule(case, others["ECSE"])
    experiments: dict[str, tuple[Callable[..., Found], Calculators, Atoms]] = {
        "gamma": (measure_gamma, ways, crystal),
        "groups": (measure_groups, ways, crystal),
        "rotation": (measure_rotation, others, molecule),
        "elastic": (measure_elastic, ways, crystal),
    }
    found: Found = {"case": {**asdict(case), "sha256": hashes}, "seconds": {}}
    if known.get("case") == found["case"]:
        found = known
    for way, (name, (run, calcs, atoms)) in itertools.product(BY_COST, experiments.items()):
        if way not in found.setdefault(name, {}):
            began = time.process_time()
            found[name][way] = run(case, calcs[way], atoms)
            found["seconds"][f"{name}, {way}"] = time.process_time() - began
            save(found)
    return found


def short(x: float) -> str:
    """Two digits, or all of those before the point."""
    return f"{x:.0f}" if x >= 10.0 else f"{x:.2g}"


def table(found: Found) -> str:
    """What the experiments show, in Markdown."""
    case, spins = found["case"], found["rotation"]
    rows: dict[str, dict[str, str]] = {}
    for cell in found["gamma"]["ECSE"]:
        for kind, words in (("raw", ""), ("subtracted", ", residual forces subtracted")):
            rows[f"Γ, {cell}{words}: spread, cm⁻¹"] = {
                way: short(np.ptp(x[cell][kind])) for way, x in found["gamma"].items()
            }
    for k in (1, 4):
        rows[f"relaxed crystals that are {case['group']} within {SYMPRECS[k]:g} Å"] = {
            way: f"{sum(tried[k] == case['group'] for tried in x['groups'])} of {len(x['groups'])}"
            for way, x in found["groups"].items()
        }
    start = f"{spins['ECSE']['start']:.0f} ħ"
    rows[f"angular momentum, {start} at the start: largest change, ħ"] = {
        way: short(np.max(x["momentum"])) for way, x in spins.items()
    }
    rows["energy in the same run: largest change, meV/atom"] = {
        way: short(np.abs(x["energy"]).max()) for way, x in spins.items()
    }
    parts = {way: cubic(x["constants"]) for way, x in found["elastic"].items()}
    for k, name in enumerate(("C11", "C12", "C44")):
        rows[f"{name}: spread, GPa"] = {way: short(np.ptp(x[:, k])) for way, x in parts.items()}
    rows["largest C that no cubic crystal has, GPa"] = {
        way: short(x[:, 3].max()) for way, x in parts.items()
    }
    head = [f"{case['crystal']} and {case['molecule']}", *STYLES]
    lines = [[name, *(cells.get(way, "–") for way in STYLES)] for name, cells in rows.items()]
    every = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in every)


def write(out: Path, found: list[Found]) -> None:
    """Draw all pictures, write the tables and print them."""
    figures = {
        "gamma": draw_gamma(found),
        "groups": draw_groups(found, SYMPRECS),
        "rotation": draw_rotation(found),
        "elastic": draw_elastic(found, cubic),
    }
    for name, figure in figures.items():
        write_figure(out / f"{name}.png", figure)
    print("\n" + "\n\n".join(map(table, found)) + f"\n\nPictures and numbers: {out}/")


def main() -> None:
    """Measure, or go on where an earlier run was stopped; draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few orientations, silicon alone")
    parser.add_argument("--crystals", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--out", type=Path, default=Path("why"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / ("quick.json" if given.quick else "why.json")
    found: Found = json.loads(path.read_text())["cases"] if path.is_file() else {}

    def save(one: Found) -> None:
        found[one["case"]["crystal"]] = one
        write_json(path, {**provenance(), "cases": found})
        name, seconds = list(one["seconds"].items())[-1]
        print(f"{one['case']['crystal']}, {name}: {seconds:.0f} s", flush=True)

    cases = [QUICK] if given.quick else [CASES[name] for name in given.crystals]
    write(given.out, [measure(case, found.get(case.crystal, {}), save) for case in cases])


if __name__ == "__main__":
    main()
