"""A small model, and silicon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from ase_pet import PETCalculator
from ase_pet.formats import Model, native
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    hypers = PETHypers(
        cutoff=3.2, d_model=8, n_heads=2, d_feedforward=8, n_attention_layers=1, head_width=4
    )
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    native.save(Model(Total(PET(hypers, [14])), "float32"), path)
    return path


@pytest.fixture
def silicon(checkpoint: Path) -> Callable[..., Atoms]:
    def make(**options: object) -> Atoms:
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.05, seed=1)
        atoms.calc = PETCalculator(checkpoint, device="cpu", symmetry=None, **options)
        return atoms

    return make
