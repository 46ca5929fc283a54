"""A tiny model, made up, with everything that a checkpoint can hold."""

from __future__ import annotations

import pytest
import torch

from ase_pet.formats import Model
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL

HYPERS = PETHypers(
    cutoff=3.0,
    cutoff_width=0.5,
    d_model=8,
    n_heads=2,
    d_feedforward=12,
    n_message_layers=2,
    n_attention_layers=1,
    head_width=6,
)


def results_of(n_atoms: int) -> dict:
    return {
        "energy": -1.5,
        "forces": torch.zeros(n_atoms, 3, dtype=torch.float64),
        "stress": torch.eye(3, dtype=torch.float64),
    }


@pytest.fixture
def model() -> Model:
    torch.manual_seed(7)
    backbone = PET(HYPERS, (1, 6)).double()
    return Model(
        potential=Total(backbone, Composition({1: -13.6, 6: -1030.5}), ZBL(0.4, 1.1)),
        dtype="float64",
        metadata={
            "training_data": "made up",
            "level_of_theory": None,
            "licence": "MIT",
            "citation": None,
            "rotations": "atom",
            "ecse": {"symmetry": "O(3)", "weights": "smooth"},
            "accuracy": {"energy_rmse": 0.01},
            "source": None,
        },
        self_test={
            "structure": {
                "numbers": torch.tensor([6, 1]),
                "positions": torch.tensor([[0.0, 0, 0], [1.1, 0, 0]], dtype=torch.float64),
                "cell": 4.0 * torch.eye(3, dtype=torch.float64),
                "pbc": torch.tensor([True, True, True]),
            },
            "bare": results_of(2),
            "symmetrized": {
                **results_of(2),
                "symmetry": "O(3)",
                "ensemble": "local",
                "weights": "smooth",
            },
        },
    )
