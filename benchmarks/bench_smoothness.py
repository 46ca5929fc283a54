"""How smooth the symmetrised surfaces are: each kind of weights against the bare network.

1. A neighbour leaves a distorted methane through the cutoff.
2. The angle H-C-H passes through 180 degrees.
3. A rattled crystal or molecule is displaced at random: frames appear and are pruned.
4. A methane leaves another one: shared frames serve both at first, and each its own at last.

Along each, the largest force on any atom and the largest change of a force per Å of the path, for
shipped models of one message-passing layer, and for a random network of two on the last path.
"""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from common import CHECKPOINTS, RESULTS, console, show, write

from ase_pet import PETCalculator
from ase_pet.formats import Model
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total

N_STEPS = 201
#: Weights and ensembles that are measured, and those of the figure.
WAYS = [
    *((weights, "local") for weights in ("paper", "smooth-3", "smooth", "lean")),
    *((weights, "shared") for weights in ("smooth", "lean")),
    ("smooth", "global"),
]
DRAWN = ("bare", "paper, local", "smooth, local", "smooth, shared", "lean, shared")


def methane_paths(cutoff: float) -> dict[str, list[Atoms]]:
    """Paths of methane-like structures."""
    methane = molecule("CH4")
    methane.rattle(0.1, seed=4)
    away = methane.positions[4] - methane.positions[0]
    away /= np.linalg.norm(away)
    leaving = []
    for r in np.linspace(1.0, cutoff + 0.3, N_STEPS):
        step = methane.copy()
        step.positions[4] = step.positions[0] + r * away
        leaving.append(step)
    bending = []
    for angle in np.radians(np.linspace(120.0, 240.0, N_STEPS)):
        arm = 1.1 * np.array([np.cos(angle), np.sin(angle), 0.0])
        bending.append(Atoms("CH2", [[0, 0, 0], [1.09, 0, 0], arm]))
    rng = np.random.default_rng(1)
    ends = [methane.positions + 0.35 * rng.normal(size=(5, 3)) for _ in range(2)]
    shaking = []
    for t in np.linspace(0.0, 1.0, N_STEPS):
        step = methane.copy()
        step.positions = (1 - t) * ends[0] + t * ends[1]
        shaking.append(step)
    return {
        "leaves through the cutoff": leaving,
        "H-C-H bends": bending,
        "distorts": shaking,
        **parting_path(),
    }


def parting_path() -> dict[str, list[Atoms]]:
    """A molecule leaves another one."""
    pair = [molecule("CH4"), molecule("CH4")]
    for seed, one in enumerate(pair):
        one.rattle(0.1, seed=seed)
    pair[1].rotate(50.0, (1.0, 2.0, 3.0))
    parting = []
    for r in np.linspace(3.2, 9.0, N_STEPS):
        moved = pair[1].copy()
        moved.translate([0.6 * r, 0.0, 0.8 * r])
        parting.append(pair[0] + moved)
    return {"CH4 leaves CH4": parting}


def two_layers() -> Model:
    """A random network of two message-passing layers for carbon and hydrogen."""
    torch.manual_seed(0)
    hypers = PETHypers(cutoff=4.0, d_model=32, d_feedforward=32, head_width=32, n_message_layers=2)
    network = PET(hypers, (1, 6)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return Model(Total(network), "float64", architecture="pet")


def silicon_paths() -> dict[str, list[Atoms]]:
    """A path between two thermal configurations of silicon."""
    crystal = bulk("Si", cubic=True)
    rng = np.random.default_rng(2)
    ends = [crystal.positions + 0.15 * rng.normal(size=(8, 3)) for _ in range(2)]
    path = []
    for t in np.linspace(0.0, 1.0, N_STEPS):
        step = crystal.copy()
        step.positions = (1 - t) * ends[0] + t * ends[1]
        path.append(step)
    return {"thermal": path}


def profile(calc: PETCalculator, path: list[Atoms]) -> dict[str, np.ndarray]:
    """Energy, forces and their change along a path."""
    out = calc.compute(path)
    length = np.cumsum(
        [0.0]
        + [float(np.linalg.norm(b.positions - a.positions)) for a, b in itertools.pairwise(path)]
    )
    forces = np.array([o["forces"] for o in out])
    energy = np.array([o["energy"] for o in out])
    slope = np.abs(np.diff(forces, axis=0)).max((1, 2)) / np.diff(length)
    # Forces must be the gradient: their work over each step is minus the change of energy.
    moves = np.diff(np.array([a.positions for a in path]), axis=0)
    work = (0.5 * (forces[1:] + forces[:-1]) * moves).sum((1, 2))
    return {
        "x": length,
        "energy": energy,
        "force": np.abs(forces).max((1, 2)),
        "slope": slope,
        "work": np.abs(np.diff(energy) + work),
    }


def main() -> None:
    """Measure the paths, print, draw."""
    rows, data, figures = [], {}, {}
    cases = {
        "pet-ch4": (CHECKPOINTS / "pet-ch4.pt", methane_paths(5.0)),
        "pet-si": (CHECKPOINTS / "pet-si.pt", silicon_paths()),
        "two layers": (two_layers(), parting_path()),
    }
    for name, (model, paths) in cases.items():
        calcs = {"bare": PETCalculator(model, dtype="float64", symmetry=None)}
        for weights, ensemble in WAYS:
            calcs[f"{weights}, {ensemble}"] = PETCalculator(
                model, dtype="float64", weights=weights, ensemble=ensemble
            )
        for label, path in paths.items():
            for which, calc in calcs.items():
                p = profile(calc, path)
                row = [float(p["force"].max()), float(p["slope"].max()), float(p["work"].max())]
                rows.append([f"{name}: {label}", which, *row])
                if which in DRAWN:
                    figures.setdefault(f"{name}: {label}", {})[which] = p
                data[f"{name}: {label}: {which}"] = row
                console.print(f"{name}: {label}: {which}: {row[0]:.3g} eV/Å, {row[1]:.3g} eV/Å²")
    columns = ["path", "surface", "max |F| eV/Å", "max |dF/dx| eV/Å²", "max |ΔE + F·Δx| eV"]
    show("Smoothness along paths", columns, rows)
    write("smoothness", data)
    draw(figures)


def draw(figures: dict[str, dict[str, dict[str, np.ndarray]]]) -> None:
    """One column for each path: energy, largest force, its change."""
    fig, axes = plt.subplots(3, len(figures), figsize=(4 * len(figures), 9), squeeze=False)
    for column, (title, surfaces) in enumerate(figures.items()):
        for which, p in surfaces.items():
            style = {"color": "black", "lw": 1.5} if which == "bare" else {"lw": 1.0}
            axes[0, column].plot(p["x"], p["energy"] - p["energy"][0], label=which, **style)
            axes[1, column].semilogy(p["x"], p["force"] + 1e-3, **style)
            axes[2, column].semilogy(p["x"][1:], p["slope"] + 1e-3, **style)
        axes[0, column].set_title(title, fontsize=9)
        axes[2, column].set_xlabel("length of the path (Å)")
    for row, label in enumerate(("energy (eV)", "largest |F| (eV/Å)", "largest |dF/dx| (eV/Å²)")):
        axes[row, 0].set_ylabel(label)
    axes[0, 0].legend(fontsize=7)
    fig.tight_layout()
    fig.savefig(RESULTS / "smoothness.png", dpi=110)
    plt.close(fig)


if __name__ == "__main__":
    main()
