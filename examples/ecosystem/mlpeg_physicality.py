"""ML-PEG's tests of physicality, on the structures whose elements a model knows.

    pip install ml-peg          # in an environment of its own: it takes older versions of matcalc
    python examples/ecosystem/mlpeg_physicality.py --model pet-emt --out physicality/

Its own command scores complete sets of structures only, and one of ten has sulphur:

    ml_peg calc --models-file models.yml --category physicality --test rotational_symmetry

with what ``ase_pet.interfaces.ml_peg`` says in ``models.yml``. Calculations here are ML-PEG's;
figures are what its analysis takes from them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import ase.io
import ml_peg.models
import numpy as np
from ase import Atoms

from ase_pet.interfaces.ml_peg import calculator


def calculate(name: str, given: argparse.Namespace) -> tuple[ModuleType, Iterator[list[Atoms]]]:
    """Run one of ML-PEG's calculations; return it and what it wrote, one list a structure."""
    module = import_module(f"ml_peg.calcs.physicality.{name}.calc_{name}")
    symmetry = None if given.symmetry == "none" else given.symmetry
    made = calculator(given.model, default_dtype="float64", symmetry=symmetry)
    if hasattr(module, "STRUCTURES"):
        known = set(made.model.species)
        module.STRUCTURES = {
            name: atoms
            for name, atoms in module.STRUCTURES.items()
            if known >= {*atoms.numbers} and name in (given.structures or [name])
        }
    module.OUT_PATH = given.out / name
    model = SimpleNamespace(get_calculator=lambda precision: made)
    getattr(module, f"test_{name}")((given.model, model))
    paths = sorted((module.OUT_PATH / given.model).glob("*.xyz"))
    return module, (ase.io.read(path, ":") for path in paths)


def forces_of(atoms: Atoms) -> np.ndarray:
    """Forces [n_atoms, 3], eV/Å, turned back where the structure was turned."""
    turned_back = atoms.arrays.get("forces_original_frame")
    return atoms.get_forces() if turned_back is None else turned_back


def changes(pairs: Iterable[tuple[Atoms, Atoms]]) -> list[tuple[float, float]]:
    """Changes of the energy (meV/atom) and mean ones of forces (meV/Å), from one to the other."""
    return [
        (
            1000 * abs(a.get_potential_energy() - b.get_potential_energy()) / len(a),
            1000 * np.abs(forces_of(a) - forces_of(b)).mean(),
        )
        for a, b in pairs
    ]


def report(name: str, found: list[tuple[float, float]]) -> None:
    """Print what ML-PEG scores: means and largest of the changes of energies and forces."""
    (energy, force), (energies, forces) = np.mean(found, axis=0), np.max(found, axis=0)
    print(f"{name}, meV/atom: mean {energy:.1e}, max {energies:.1e}")
    print(f"{name}, meV/Å: mean {force:.1e}, max {forces:.1e}")


def antisymmetry(frames: list[Atoms], step: float) -> float:
    """Share of the derivatives of forces that is antisymmetric, from displacements ±step (Å)."""
    forces = np.array([atoms.get_forces().ravel() for atoms in frames])
    jacobian = (forces[::2] - forces[1::2]) / (2.0 * step)
    return float(np.linalg.norm(0.5 * (jacobian - jacobian.T)) / np.linalg.norm(jacobian))


def main() -> None:
    """Run the four tests that the symmetries of an energy decide."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pet-emt")
    parser.add_argument("--symmetry", default="O(3)", help="O(3), SO(3) or none")
    parser.add_argument("--tests", nargs="+", default=["rotational", "translational", "jacobian"])
    parser.add_argument("--structures", nargs="+", help="some of ML-PEG's; default: all")
    parser.add_argument("--out", type=Path, default=Path("physicality"))
    given = parser.parse_args()
    ml_peg.models.current_models = []  # none of its own registry

    if "rotational" in given.tests:
        _, sets = calculate("rotational_symmetry", given)
        found = [x for s in sets for x in changes(pairwise(s))]
        report("rotation", found)
    if "translational" in given.tests:
        _, sets = calculate("translational_symmetry", given)
        found = [x for s in sets for x in changes((s[0], t) for t in s[1:])]
        report("translation", found)
    if "jacobian" in given.tests:
        module, sets = calculate("jacobian_symmetry", given)
        shares = [antisymmetry(frames, module.EPS) for frames in sets]
        print(f"jacobian: mean lambda {np.mean(shares):.1e}, max lambda {np.max(shares):.1e}")
    if "extensivity" in given.tests:
        _, sets = calculate("extensivity", given)
        one, other, both = (atoms.get_potential_energy() for atoms in next(sets))
        print(f"extensivity: {1000 * abs(both - one - other):.1e} meV")


if __name__ == "__main__":
    main()
