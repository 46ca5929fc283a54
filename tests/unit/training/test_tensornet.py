"""The trainer takes every architecture that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ase_pet import PETCalculator, load
from ase_pet.training.config import read_config
from ase_pet.training.loop import train

TENSORNET = {
    "architecture": "tensornet",
    "cutoff": 3.5,
    "n_units": 8,
    "n_layers": 1,
    "n_functions": 6,
    "readout_width": 8,
}


def test_a_short_run_learns_and_repeats_bit_for_bit(
    recipe: dict[str, Any], write_recipe: Callable[..., Path], tmp_path: Path, frames: list
) -> None:
    recipe |= {"model": TENSORNET, "rotations": "none", "epochs": 6}
    recipe["optimizer"] = {"learning_rate": 0.03, "ema": 0.5}
    model = load(train(write_recipe(recipe)))
    assert model.architecture == "tensornet"
    assert model.potential.backbone.hypers.n_units == 8
    history = np.genfromtxt(tmp_path / "run" / "history.csv", delimiter=",", names=True)
    assert history["validation_loss"][-1] < 0.9 * history["validation_loss"][0]
    atoms = frames[1].copy()
    atoms.calc = PETCalculator(model, dtype="float64", device="cpu")
    forces = atoms.get_forces()
    atoms.rotate(40.0, (1.0, 2.0, 3.0), rotate_cell=True)
    turned = atoms.get_forces()
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=1), np.linalg.norm(forces, axis=1), rtol=0, atol=1e-11
    )

    other = recipe | {"output": "again"}
    path = write_recipe(other, "again.yaml")
    again = load(train(path))
    ours, theirs = (m.potential.backbone.state_dict() for m in (model, again))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"architecture": "gpt"}}, "architecture: expected one of .*got 'gpt'"),
        ({"model": {**TENSORNET, "d_model": 8}}, r"unknown option\(s\) \['d_model'\]"),
        ({"model": {**TENSORNET, "coulomb": True}}, r"unknown option\(s\) \['coulomb'\]"),
        ({"model": TENSORNET, "rotations": "atom"}, "tensornet is, use rotations: none"),
    ],
)
def test_recipes_that_make_no_sense(
    changes: dict, message: str, recipe: dict[str, Any], write_recipe: Callable[..., Path]
) -> None:
    with pytest.raises(ValueError, match=message):
        read_config(write_recipe({**recipe, **changes}))
