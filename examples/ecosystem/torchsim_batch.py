"""torch-sim: relax many structures, then run them, all in one batch.

pip install 'ase_pet[torch-sim]'
python examples/ecosystem/torchsim_batch.py --device cuda
"""

from __future__ import annotations

import argparse

import torch
import torch_sim as ts
from ase.build import bulk

from ase_pet.interfaces.torch_sim import TorchSimModel


def total(model: TorchSimModel, state: ts.SimState, momenta: torch.Tensor) -> torch.Tensor:
    """Energies of structures in motion [n_systems], eV."""
    kinetic = momenta.square().sum(1) / (2.0 * state.masses)
    return model(state)["energy"].index_add(0, state.system_idx, kinetic)


def main() -> None:
    """Relax rattled crystals of several sizes, then let them vibrate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tensornet-si")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--systems", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    model = TorchSimModel(given.model, device=given.device, network_dtype="float64")

    crystals = [bulk("Si", cubic=k % 2 == 1) for k in range(given.systems)]
    for k, atoms in enumerate(crystals):
        atoms.rattle(0.05, seed=k)
    found = ts.optimize(crystals, model, optimizer=ts.frechet_cell_fire, max_steps=given.steps)
    n_atoms = found.n_atoms_per_system
    print("relaxed, eV/atom:", *(f"{e:.6f}" for e in (found.energy / n_atoms).tolist()))

    run = {"integrator": ts.nve, "temperature": 600.0, "timestep": 0.001, "seed": 0}
    energies = []
    for n_steps in (1, given.steps):
        state = ts.integrate(crystals, model, n_steps=n_steps, **run)
        energies.append(total(model, state, state.momenta))
    drift = (energies[1] - energies[0]) / n_atoms
    print("change of the total energy, eV/atom:", *(f"{e:.1e}" for e in drift.tolist()))


if __name__ == "__main__":
    main()
