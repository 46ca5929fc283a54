"""A small model, and the command line as a person uses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
import torch
from ase.build import bulk
from typer.testing import CliRunner, Result

from ase_pet.cli import app
from ase_pet.formats import Model, native
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from ase_pet.training.result import record_self_test

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def model() -> Model:
    torch.manual_seed(0)
    hypers = PETHypers(
        cutoff=3.2, d_model=8, n_heads=2, d_feedforward=8, n_attention_layers=1, head_width=4
    )
    potential = Total(PET(hypers, [14]), Composition({14: -5.4}))
    metadata = {"rotations": "atom", "licence": "MIT", "accuracy": {"forces_rmse": 0.1}}
    made = Model(potential, "float32", metadata)
    return dataclasses.replace(made, self_test=record_self_test(made, bulk("Si")))


@pytest.fixture(scope="session")
def checkpoint(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    native.save(model, path)
    return path


@pytest.fixture
def silicon(tmp_path: Path) -> Path:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    path = tmp_path / "si.extxyz"
    ase.io.write(path, [bulk("Si"), atoms])
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "160")

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke
