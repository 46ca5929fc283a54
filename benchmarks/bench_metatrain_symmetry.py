"""Residual of the symmetry for PETs of metatrain: bare, averaged over a grid, and exact.

Each structure is turned and reflected; energies are compared relative to |E| (at least 1 eV),
forces and stress to their largest component (at least 1 eV/Å and 0.01 eV/Å³), in float64. The
residual is the largest difference between energies of two orientations, an atom.

The grid is that of :class:`~ase_pet.testing.grid.GridAverage`, 84 in all. Times are those of the
processor, of energy, forces and stress. Long evaluations are made for fewer orientations, as the
column says: as many as fit ``--budget`` (a third of it for the grid), but 1 at least; those with
more than ``--largest`` atoms are left out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ase.stress import voigt_6_to_full_3x3_stress
from common import RESULTS, rotate, rotation, show, write
from remote import REFERENCE, require

from ase_pet import PETCalculator, load
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.testing.grid import GridAverage

FOLDER = REFERENCE / "pet_metatrain"
MODELS = ["fresh_default", "fresh_adaptive_nc", "fresh_residual_preln_mixed", "fresh_cond_zbl"]
#: Of models with conditioning.
STATE = {"charge": 1, "spin": 2}

Result = dict[str, Any]
Evaluate = Callable[[Atoms], Result]


def methods(path: Path) -> dict[str, tuple[Evaluate, PETCalculator]]:
    """How a structure may be evaluated, and the calculator that does it."""
    model = load(path)
    bare = PETCalculator(model, dtype="float64", symmetry=None)
    found: dict[str, tuple[Evaluate, PETCalculator]] = {
        "bare": (lambda atoms: bare.compute([atoms])[0], bare),
        "grid of 84": (lambda atoms: GridAverage(bare).compute([atoms])[0], bare),
    }
    for name in ("local", "global"):
        calc = PETCalculator(model, dtype="float64", ensemble=name, memory_budget="300MB")
        found[f"O(3), {name}"] = (lambda atoms, calc=calc: calc.compute([atoms])[0], calc)
    return found


def measure(evaluate: Evaluate, atoms: Atoms, n_rotations: int, budget: float) -> Result:
    """Largest relative deviations, residual (eV an atom), seconds of one evaluation."""
    rng = np.random.default_rng(0)
    qs = [rotation(rng, reflect=bool(k % 2)) for k in range(n_rotations)]
    start = time.process_time()
    reference, times = evaluate(atoms), []
    affordable = int(budget / (time.process_time() - start))
    qs = qs[: max(1, affordable)]
    turned = []
    for q in qs:
        start = time.process_time()
        turned.append(evaluate(rotate(atoms, q)))
        times.append(time.process_time() - start)
    energies = [reference["energy"], *(out["energy"] for out in turned)]
    found: Result = {
        "rotations": len(qs),
        "seconds": median(times),
        "residual": float(np.ptp(energies)) / len(atoms),
        "energy": float(np.abs(np.subtract(energies, energies[0])).max()) / size(energies[0], 1.0),
        "forces": deviation([q.T for q in qs], reference["forces"], turned, "forces", 1.0),
    }
    if "stress" in reference:
        found["stress"] = deviation(qs, matrix(reference["stress"]), turned, "stress", 0.01)
    return found


def matrix(stress: np.ndarray) -> np.ndarray:
    """[3, 3] of a stress in Voigt's order."""
    return voigt_6_to_full_3x3_stress(stress)


def size(value: Any, least: float) -> float:
    """The largest component, at least ``least``."""
    return max(least, float(np.abs(value).max()))


def deviation(
    qs: Sequence[np.ndarray], value: np.ndarray, turned: list[Result], name: str, least: float
) -> float:
    """Largest deviation of forces (for transposed rotations) or stress, relative to its size."""
    worst = 0.0
    for q, out in zip(qs, turned, strict=True):
        expected = value @ q if name == "forces" else q @ value @ q.T
        other = out[name] if name == "forces" else matrix(out[name])
        worst = max(worst, float(np.abs(other - expected).max()))
    return worst / size(value, least)


def structures(calc: PETCalculator) -> dict[str, Atoms]:
    """Those of the reference whose elements the model knows, charged where that matters."""
    found = {}
    for atoms in read(FOLDER / "structures.extxyz", ":"):
        if set(atoms.numbers.tolist()) <= set(calc.model.species):
            name = atoms.info.pop("name")
            charged = calc.engine.bare.backbone.takes_charge
            atoms.info = dict(STATE) if charged else {}
            found[name] = atoms
    return found


def evaluations(method: str, calc: PETCalculator, atoms: Atoms) -> tuple[int, int]:
    """Copies that one evaluation makes, and the atoms of all of them."""
    if method == "grid of 84":
        return 84, 84 * len(atoms)
    name = None if method == "bare" else method.split(", ")[1]
    cost = calc.engine.costs(system_from_atoms([atoms]))[name]
    return cost.n_copies, cost.n_atoms


def span(values: Sequence[float], form: str) -> str:
    """Smallest and largest."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def table(data: dict[str, Any]) -> None:
    """Print the largest deviations of each model and method."""
    rows = []
    for name, found in data.items():
        for method, cases in found.items():
            each = list(cases.values())
            worst = (max(one.get(q, 0.0) for one in each) for q in ("energy", "forces", "stress"))
            residuals = [one["residual"] for one in each if one["atoms"] > one["copies"]]
            row = [f"{name}, {method}", len(each)]
            row += [span([one[q] for one in each], ",d") for q in ("rotations", "copies")]
            row += [span([one["seconds"] for one in each], ".2g"), *(f"{x:.0e}" for x in worst)]
            rows.append([*row, span(residuals, ".0e")])
    columns = ["", "structures", "turned", "copies", "s", "energy", "forces", "stress"]
    show("Largest relative deviations", [*columns, "residual, eV/atom"], rows)


def earlier(name: str) -> dict[str, Any]:
    """Results that are in the file already, which are kept."""
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    found.pop("machine", None)
    return found


def main() -> None:
    """Measure every model; results are written after each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--rotations", type=int, default=20)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for one case")
    parser.add_argument("--largest", type=int, default=10**6, help="atoms of all copies together")
    parser.add_argument("--name", default="metatrain_symmetry", help="of the file of results")
    parser.add_argument("--resume", action="store_true", help="keep what that file has already")
    given = parser.parse_args()
    require(FOLDER)
    data = earlier(given.name) if given.resume else {}
    for name in given.models:
        for method, (evaluate, calc) in methods(FOLDER / f"{name}.ckpt").items():
            found = data.setdefault(name, {}).setdefault(method, {})
            for label, atoms in structures(calc).items():
                copies, n_atoms = evaluations(method, calc, atoms)
                if label not in found and n_atoms <= given.largest:
                    share = 1 / 3 if method == "grid of 84" else 1
                    measured = measure(evaluate, atoms, given.rotations, share * given.budget)
                    found[label] = {"copies": copies, "atoms": n_atoms, **measured}
                    write(given.name, data)
    table({name: data[name] for name in given.models})


if __name__ == "__main__":
    main()
