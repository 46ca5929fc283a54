"""Where two models of silicon no longer agree: energy and its uncertainty along a strain.

    python examples/uncertainty.py --out uncertainty/

``--models`` takes any committee, or one model that is wrapped as "llpr" by metatrain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ase_pet import PETCalculator


def main() -> None:
    """Stretch a crystal, ask for energies and uncertainties, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["pet-si", "tensornet-si"])
    parser.add_argument("--points", type=int, default=13)
    parser.add_argument("--out", type=Path, default=Path("uncertainty"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    models = given.models if len(given.models) > 1 else given.models[0]
    calculator = PETCalculator(models, dtype="float64", uncertainty_threshold=0.05)
    crystal = bulk("Si", a=5.47, cubic=True)
    crystal.rattle(0.05, seed=0)
    rows = []
    print("strain   energy, eV/atom   force, eV/Å   stress, eV/Å³")
    for strain in np.linspace(-0.05, 0.1, given.points):
        atoms = crystal.copy()
        atoms.set_cell(crystal.cell * (1.0 + strain), scale_atoms=True)
        atoms.calc = calculator  # warns once, where the models begin to differ
        energy = atoms.get_potential_energy() / len(atoms)
        sigma = calculator.uncertainty(atoms, forces=True)
        rows.append((strain, energy, sigma.energy / len(atoms), sigma.forces.max(), sigma.stress))
        print("{:+.3f}   {:.4f} ± {:.4f}   ± {:.4f}      ± {:.5f}".format(*rows[-1]))
    names = ("strain", "energy", "uncertainty", "uncertainty_forces", "uncertainty_stress")
    table = np.array(rows)
    header = ",".join(names)
    np.savetxt(given.out / "strain.csv", table, delimiter=",", header=header, comments="")

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    strain, energy, sigma = table[:, :3].T
    axes.fill_between(strain, energy - 2 * sigma, energy + 2 * sigma, alpha=0.3, label="± 2 σ")
    axes.plot(strain, energy, label=" and ".join(given.models))
    axes.set(xlabel="strain", ylabel="energy, eV/atom", title="silicon")
    axes.legend()
    figure.savefig(given.out / "uncertainty.png", dpi=120)
    print(f"wrote {given.out / 'uncertainty.png'}")


if __name__ == "__main__":
    main()
