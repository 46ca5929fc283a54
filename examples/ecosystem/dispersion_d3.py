"""D3 dispersion on top of a model, by ASE's SumCalculator: the lattice of silicon shrinks.

    pip install dftd3
    python examples/ecosystem/dispersion_d3.py

D3 corrects one functional: take the one that the model's data come from (``ase-pet info MODEL``),
and none where the data hold dispersion already.
"""

from __future__ import annotations

import argparse

from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from dftd3.ase import DFTD3

from ase_pet import PETCalculator


def relaxed(calculator: Calculator) -> Atoms:
    """Silicon in the cell that a calculator likes best."""
    atoms = bulk("Si")
    atoms.calc = calculator
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=100)
    return atoms


def main() -> None:
    """Relax with and without dispersion."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tensornet-si")
    parser.add_argument("--functional", default="PBE")
    given = parser.parse_args()
    model = PETCalculator(given.model, dtype="float64")
    dispersion = DFTD3(method=given.functional, damping="d3bj")
    for name, calculator in (("model", model), ("sum", SumCalculator([model, dispersion]))):
        atoms = relaxed(calculator)
        lattice = (4.0 * atoms.get_volume()) ** (1 / 3)
        print(f"{name}: {lattice:.4f} Å, {atoms.get_potential_energy() / len(atoms):.6f} eV/atom")
    parts = [part.get_potential_energy(atoms) / len(atoms) for part in (model, dispersion)]
    print(f"parts of the sum: {parts[0]:.6f} and {parts[1]:.6f} eV/atom")


if __name__ == "__main__":
    main()
