"""OpenMM: ethanol with a model as the force of an OpenMM system, by OpenMM-ML's ``ase`` potential.

    pip install openmm openmmml
    python examples/ecosystem/openmm_dynamics.py

``createMixedSystem`` of OpenMM-ML takes the same argument where a force field serves the rest.
"""

from __future__ import annotations

import argparse

import openmm
from ase import Atoms
from ase.build import molecule
from openmm import app, unit
from openmmml import MLPotential

from ase_pet import PETCalculator


def topology_of(atoms: Atoms) -> app.Topology:
    """The atoms in one residue; a model needs no bonds."""
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for k, atom in enumerate(atoms):
        element = app.Element.getByAtomicNumber(int(atom.number))
        topology.addAtom(f"{atom.symbol}{k}", element, residue)
    return topology


def main() -> None:
    """Relax a molecule, then let it move and watch its energy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tensornet-ethanol")
    parser.add_argument("--steps", type=int, default=200, help="of 0.5 fs")
    given = parser.parse_args()
    atoms = molecule("CH3CH2OH")
    topology = topology_of(atoms)
    calculator = PETCalculator(given.model, dtype="float64")
    system = MLPotential("ase").createSystem(topology, calculator=calculator)
    integrator = openmm.VerletIntegrator(0.5 * unit.femtosecond)
    platform = openmm.Platform.getPlatformByName("Reference")  # double precision
    simulation = app.Simulation(topology, system, integrator, platform)
    simulation.context.setPositions(atoms.positions * unit.angstrom)

    simulation.minimizeEnergy(tolerance=1.0)
    simulation.context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    for n_steps in (1, given.steps):  # the first stops the centre of mass
        simulation.step(n_steps)
        state = simulation.context.getState(energy=True)
        parts = (state.getPotentialEnergy(), state.getKineticEnergy())
        numbers = [part.value_in_unit(unit.kilojoule_per_mole) for part in parts]
        print("{:.4f} kJ/mol potential, {:.4f} kJ/mol kinetic".format(*numbers))
        print(f"total {sum(numbers):.4f} kJ/mol")


if __name__ == "__main__":
    main()
