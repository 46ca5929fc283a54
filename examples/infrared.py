"""Infrared spectrum of ethanol: normal modes by ASE, and molecular dynamics with dipoles.

    python examples/infrared.py --out infrared/

The molecule turns and vibrates; its dipole turns with it exactly, so that no line of the spectrum
comes from the model's own orientation. ``--model`` takes any model with a dipole.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Infrared
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ase_pet import PETCalculator

STEP = 0.5  # fs
LIGHT = 2.99792458e-5  # cm/fs


def spectrum(dipoles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers (1/cm) and power of the dipole's change, from dipoles [n, 3] every ``STEP``."""
    change = np.diff(dipoles, axis=0) * np.hanning(len(dipoles) - 1)[:, None]
    power = (np.abs(np.fft.rfft(change, axis=0)) ** 2).sum(1)
    wavenumbers = np.fft.rfftfreq(len(change), STEP) / LIGHT
    width = max(1, int(np.searchsorted(wavenumbers, 15.0)))  # smoothed over 15 1/cm
    return wavenumbers, np.convolve(power, np.ones(width) / width, mode="same")


def main() -> None:
    """Relax, find the normal modes, run, and draw both spectra."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tensornet-ethanol")
    parser.add_argument("--steps", type=int, default=16000, help="of 0.5 fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--out", type=Path, default=Path("infrared"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    atoms = molecule("CH3CH2OH")
    atoms.calc = PETCalculator(given.model, dtype="float64")
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=300)
    print(f"dipole {np.linalg.norm(atoms.get_dipole_moment()) / units.Debye:.2f} D")
    modes = Infrared(atoms, name=given.out / "modes")
    modes.clean()
    modes.run()
    with (given.out / "modes.txt").open("w") as log:
        modes.summary(log=log)
    energies, lines = modes.get_energies().real / units.invcm, modes.intensities
    real = energies > 50.0

    rng = np.random.default_rng(0)
    thermalize_momenta(atoms, given.temperature, rng=rng)
    thermostat = {"temperature_K": given.temperature, "friction": 0.01 / units.fs}
    Langevin(atoms, STEP * units.fs, **thermostat, fixcm=False, rng=rng).run(given.steps // 4)
    Stationary(atoms)
    dipoles = []
    run = VelocityVerlet(atoms, STEP * units.fs)
    run.attach(lambda: dipoles.append(atoms.get_dipole_moment()))
    run.run(given.steps)
    wavenumbers, power = spectrum(np.array(dipoles))
    np.savetxt(
        given.out / "spectrum.csv",
        np.column_stack([wavenumbers, power / power.max()]),
        delimiter=",",
        header="wavenumber_per_cm,intensity",
        comments="",
    )

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = wavenumbers < 4200
    axes.plot(wavenumbers[shown], power[shown] / power[shown].max(), label="dynamics")
    axes.vlines(energies[real], 0, lines[real] / lines[real].max(), "C3", label="normal modes")
    axes.set(xlim=(0, 4200), ylim=(0, 1.05), title=f"ethanol, {given.temperature:g} K")
    axes.set(xlabel="wavenumber, 1/cm", ylabel="intensity, arbitrary")
    axes.legend()
    figure.savefig(given.out / "infrared.png", dpi=120)
    print(f"wrote {given.out / 'infrared.png'}")


if __name__ == "__main__":
    main()
