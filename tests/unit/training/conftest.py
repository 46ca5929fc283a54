"""A toy data set, labelled by EMT, and a recipe that trains a tiny model on it in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write


def _labelled(atoms: ase.Atoms, *, stress: bool) -> ase.Atoms:
    atoms.calc = EMT()
    values = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if stress:
        values["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **values)
    return atoms


@pytest.fixture(scope="session")
def frames() -> list[ase.Atoms]:
    """Thirty crystals and molecules: every third without stress, every fifth for validation."""
    rng = np.random.default_rng(0)
    result = []
    for k in range(30):
        if k % 3:
            atoms = bulk("Cu", "fcc", a=rng.uniform(3.5, 3.8), cubic=True)
            atoms.symbols[: k % 4] = "Al"
        else:
            atoms = ase.Atoms("CuAl2", [(0, 0, 0), (2.4, 0, 0), (0, 2.5, 0)])
        atoms.positions += rng.normal(0, 0.1, (len(atoms), 3))
        atoms = _labelled(atoms, stress=bool(k % 3))
        atoms.info = {"split": "val" if k % 5 == 0 else "train", "group": f"g{k % 3}"}
        result.append(atoms)
    return result


@pytest.fixture(scope="session")
def data_path(frames: list[ase.Atoms], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "toy.extxyz"
    write(path, frames, format="extxyz")
    return path


@pytest.fixture
def recipe(data_path: Path) -> dict[str, Any]:
    return {
        "name": "toy",
        "output": "run",
        "data": {
            "train": {"path": str(data_path), "where": {"split": "train"}},
            "validation": {"path": str(data_path), "where": {"split": "val"}},
        },
        "provenance": {"source": "test", "level_of_theory": "EMT", "licence": "MIT"},
        "model": {
            "cutoff": 3.5,
            "d_model": 8,
            "n_heads": 2,
            "d_feedforward": 16,
            "head_width": 8,
            "n_attention_layers": 1,
            "transformer": "PreLN",
        },
        "rotations": "atom",
        "loss": {"energy": {"start_weight": 0.01, "weight": 0.1, "scale": 0.05}},
        "optimizer": {"learning_rate": 3e-3, "ema": 0.9},
        "schedule": {"warmup": 5},
        "batch": {"structures": 4},
        "epochs": 3,
        "seed": 1,
    }


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., Path]:
    def write_it(recipe: dict[str, Any], name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write_it
