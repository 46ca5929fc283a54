"""matcalc and pymatgen: relaxation, equation of state, elasticity, phonons and dynamics of silicon.

    pip install matcalc
    python examples/ecosystem/matcalc_properties.py

Each of matcalc's calculators takes an ASE calculator, as ``matcalc.load_fp`` does; so does
``Structure.relax`` of pymatgen.
"""

from __future__ import annotations

import argparse

import matcalc
import numpy as np
from ase.build import bulk
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from ase_pet import PETCalculator


def main() -> None:
    """Ask for one property after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tensornet-si")
    parser.add_argument("--supercell", type=int, default=3, help="of the primitive cell, phonons")
    parser.add_argument("--steps", type=int, default=100, help="of dynamics, 1 fs each")
    given = parser.parse_args()
    calculator = matcalc.load_fp(PETCalculator(given.model, dtype="float64"))

    silicon = AseAtomsAdaptor.get_structure(bulk("Si"))
    rattled = silicon.copy()
    rattled.perturb(0.05, seed=0)
    relaxed = rattled.relax(calculator=calculator, fmax=1e-3, verbose=False)
    group = SpacegroupAnalyzer(relaxed, symprec=1e-2).get_space_group_symbol()
    print(f"pymatgen's relaxer: {(4.0 * relaxed.volume) ** (1 / 3):.3f} Å, {group}")

    found = matcalc.RelaxCalc(calculator, fmax=1e-3).calc(silicon)
    print(f"RelaxCalc: {found['a'] * 2**0.5:.3f} Å, {found['energy'] / 2:.4f} eV/atom")
    fixed = {"fmax": 1e-3, "relax_structure": False}
    silicon = found["final_structure"]
    found = matcalc.EOSCalc(calculator, **fixed).calc(silicon)
    print(f"EOSCalc: bulk modulus {found['bulk_modulus_bm']:.1f} GPa")
    # Components that vanish by symmetry are fits to rounding, and would fail a test of their R².
    elasticity = matcalc.ElasticityCalc(calculator, **fixed, units_GPa=True, r2_min=-1.0)
    found = elasticity.calc(silicon)
    print(f"ElasticityCalc: bulk modulus {found['bulk_modulus_vrh']:.1f} GPa")
    supercell = np.eye(3) * given.supercell
    phonons = matcalc.PhononCalc(
        calculator, **fixed, supercell_matrix=supercell, write_phonon=False
    )
    found = phonons.calc(silicon)["thermal_properties"]
    k = found["temperatures"].tolist().index(300.0)
    print(
        f"PhononCalc: heat capacity at 300 K {found['heat_capacity'][k] / 2:.2f} J/K/mol of atoms"
    )
    run = {"ensemble": "nve", "steps": given.steps, "relax_structure": False}
    found = matcalc.MDCalc(calculator, **run).calc(silicon * 2)
    print(f"MDCalc: total energy {found['total_energy'] / 16:.4f} eV/atom")


if __name__ == "__main__":
    main()
