import torch
from rich.console import Console

from ase_pet.engine import Engine
from ase_pet.formats.self_test import deviations, structure_of
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from ase_pet.training.config import read_config
from ase_pet.training.loop import Trainer
from ase_pet.training.report import Report
from ase_pet.training.result import describe, record_self_test


def test_self_test_can_be_replayed(frames):
    torch.manual_seed(0)
    hypers = PETHypers(cutoff=3.5, d_model=8, n_heads=2, n_attention_layers=1)
    potential = Total(PET(hypers, [13, 29]), Composition({13: -1.0, 29: 2.0}))
    record = record_self_test(potential, frames[1], rotations="atom")
    assert record["symmetrized"]["ensemble"] == "local"
    system = structure_of(record)
    bare = Engine(potential, device="cpu", symmetry=None)(system)
    symmetrized = Engine(potential, device="cpu")(system)
    found = deviations(record, bare, symmetrized)
    for part in ("bare", "symmetrized"):
        assert max(found[part].values()) < 1e-12
    assert abs(record["bare"]["energy"] - record["symmetrized"]["energy"]) > 1e-6


def test_description_counts_frames_and_says_when_it_continues(recipe, write_recipe):
    config = read_config(write_recipe({**recipe, "epochs": 1}))
    trainer = Trainer(config, report=Report(Console(quiet=True)))
    (line,) = describe(trainer)
    assert "24 training frames" in line
    assert "6 for validation, 0 held out for test, 0 dropped" in line
    trainer.run()
    assert "continuing at epoch 1" in list(describe(Trainer(config)))[1]
