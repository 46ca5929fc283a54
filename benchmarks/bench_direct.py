"""Direct forces of a PET of metatrain: how fast they are, and what they cost in energy.

Times are those of the processor, of one thread, energy and forces and stress. The heads of the
reference model are random; for the drift they are trained on the conservative forces of the same
model first, on frames of a trajectory at 300 K, and their error on other frames is given. The drift
is the slope of the total energy in constant-energy dynamics from one of them, float64.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from bench_metatrain_symmetry import FOLDER
from common import show, write

from ase_pet import PETCalculator, load
from ase_pet.formats import Model
from ase_pet.testing.evaluators import graph_of

MODEL = "fresh_adaptive_nc"
#: Molecules come apart, because the energy is random, too.
CRYSTAL = "gaas2_primitive"
STEP = 0.5 * units.fs
WAYS: dict[str, dict[str, Any]] = {
    "bare": {"symmetry": None},
    "O(3), global": {"ensemble": "global", "memory_budget": "300MB"},
}


def seconds(calc: PETCalculator, atoms: Atoms, repeats: int = 7) -> float:
    """Median time of the processor for one evaluation."""
    calc.compute([atoms])
    times = []
    for _ in range(repeats):
        start = time.process_time()
        calc.compute([atoms])
        times.append(time.process_time() - start)
    return median(times)


def speed(model: Model) -> dict[str, dict[str, float]]:
    """Milliseconds of each way for conservative and direct forces."""
    found: dict[str, dict[str, float]] = {}
    for atoms in read(FOLDER / "structures.extxyz", ":"):
        name = atoms.info["name"]
        for way, options in WAYS.items():
            large = name == "gaas64_rattled" and way != "bare"
            if name in ("ethanol", "si8_rattled", "gaas64_rattled") and not large:
                found[f"{name}, {way}"] = {
                    kind: 1e3 * seconds(PETCalculator(model, forces=kind, **options), atoms)
                    for kind in ("conservative", "direct")
                }
    return found


def frames(model: Model, n_frames: int) -> list[Atoms]:
    """A crystal at 300 K, 10 steps apart, with conservative forces."""
    atoms = next(a for a in read(FOLDER / "structures.extxyz", ":") if a.info["name"] == CRYSTAL)
    atoms.calc = PETCalculator(model, dtype="float64", symmetry=None)
    rng = np.random.default_rng(0)
    thermalize_momenta(atoms, 300, rng=rng)
    bath = {"temperature_K": 300, "friction": 0.02 / units.fs, "fixcm": False}
    dynamics = Langevin(atoms, STEP, rng=rng, **bath)
    found = []
    for _ in range(n_frames):
        dynamics.run(10)
        found.append(atoms.copy())
        found[-1].arrays["forces"] = atoms.get_forces()
    return found


def train(model: Model, samples: list[Atoms], n_steps: int) -> Model:
    """The same model with heads for forces that were trained on samples."""
    network = load(FOLDER / f"{MODEL}.ckpt").potential.backbone.double()
    graph = graph_of(samples, network.cutoff)
    expected = torch.from_numpy(np.concatenate([a.arrays["forces"] for a in samples]))
    weights = list(network.direct["forces"].requires_grad_(True).parameters())
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = (network.predict_direct(graph)[1]["forces"] - expected).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    potential = type(model.potential)(network.requires_grad_(False), model.potential.composition)
    return replace(model, potential=potential, dtype="float64")


def drift(calc: PETCalculator, start: Atoms, n_steps: int) -> float:
    """Slope of the total energy, meV an atom and ps."""
    atoms = start.copy()
    atoms.calc = calc
    dynamics, energies = VelocityVerlet(atoms, STEP), []
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
    dynamics.run(n_steps)
    ps = np.arange(len(energies)) * STEP / units.fs / 1000
    return 1e3 * float(np.polyfit(ps, energies, 1)[0]) / len(atoms)


def main() -> None:
    """Measure speed, then drift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--training", type=int, default=300, help="steps")
    parser.add_argument("--steps", type=int, default=2000, help="of dynamics")
    given = parser.parse_args()
    model = load(FOLDER / f"{MODEL}.ckpt")
    times = speed(model)
    rows = [
        [k, v["conservative"], v["direct"], v["conservative"] / v["direct"]]
        for k, v in times.items()
    ]
    show(f"{MODEL}, float32: ms", ["", "conservative", "direct", "times as fast"], rows)
    samples = frames(model, given.frames)
    trained = train(model, samples[::2], given.training)
    others = samples[1::2]
    found = PETCalculator(trained, symmetry=None, forces="direct").compute(others)
    errors = [out["forces"] - a.arrays["forces"] for a, out in zip(others, found, strict=True)]
    size = float(np.sqrt(np.mean([np.square(a.arrays["forces"]).mean() for a in others])))
    rmse = float(np.sqrt(np.mean(np.square(errors))))
    data: dict[str, Any] = {"ms": times, "rmse": rmse, "rms": size}
    for kind in ("conservative", "direct"):
        calc = PETCalculator(trained, symmetry=None, forces=kind)
        data[f"drift, {kind}"] = drift(calc, others[-1], given.steps)
        write("direct", data)
    title = f"{CRYSTAL}, bare; direct forces off by {1e3 * rmse:.0f} of {1e3 * size:.0f} meV/Å"
    show(title, ["", "meV/atom/ps"], [[k, v] for k, v in data.items() if k.startswith("drift")])


if __name__ == "__main__":
    main()
