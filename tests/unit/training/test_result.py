import io

import pytest
import torch
from rich.console import Console

from ase_pet.engine import Engine
from ase_pet.formats import Model, load
from ase_pet.formats.self_test import deviations, structure_of
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from ase_pet.training import evaluate
from ase_pet.training.config import read_config
from ase_pet.training.loop import Trainer
from ase_pet.training.report import Report
from ase_pet.training.result import describe, record_self_test


def test_self_test_can_be_replayed(frames):
    torch.manual_seed(0)
    hypers = PETHypers(cutoff=3.5, d_model=8, n_heads=2, n_attention_layers=1)
    potential = Total(PET(hypers, [13, 29]), Composition({13: -1.0, 29: 2.0}))
    record = record_self_test(Model(potential, "float64", {"rotations": "atom"}), frames[1])
    assert record["symmetrized"]["ensemble"] == "local"
    system = structure_of(record)
    bare = Engine(potential, device="cpu", symmetry=None)(system)
    symmetrized = Engine(potential, device="cpu")(system)
    found = deviations(record, bare, symmetrized)
    for part in ("bare", "symmetrized"):
        assert max(found[part].values()) < 1e-12
    assert abs(record["bare"]["energy"] - record["symmetrized"]["energy"]) > 1e-6


@pytest.mark.parametrize(("rotations", "ensemble"), [(None, "local"), ("structure", "shared")])
def test_unknown_rotations_count_as_those_of_atoms(frames, rotations, ensemble):
    hypers = PETHypers(cutoff=3.5, d_model=8, n_heads=2, n_attention_layers=1)
    model = Model(Total(PET(hypers, [13, 29])), "float32", {"rotations": rotations})
    molecule = frames[1].copy()
    molecule.pbc = False
    assert record_self_test(model, molecule)["symmetrized"]["ensemble"] == ensemble
    assert record_self_test(model, frames[1])["symmetrized"]["ensemble"] == "local"


def test_how_the_model_was_symmetrised_is_recorded(recipe, write_recipe):
    trainer = Trainer(
        read_config(write_recipe({**recipe, "epochs": 1})), report=Report(Console(quiet=True))
    )
    model = load(trainer.run())
    ecse = model.metadata["ecse"]
    assert (ecse["symmetry"], ecse["ensemble"]) == ("O(3)", "auto")
    assert ecse["weights"] == "auto"
    assert model.self_test["symmetrized"]["symmetry"] == ecse["symmetry"]
    assert set(model.metadata["accuracy"]) == {"validation"}


def test_held_out_frames_are_measured_bare_and_symmetrised(recipe, write_recipe, data_path):
    recipe["data"]["train"]["where"] = {"split": "train", "group": ["g0", "g1"]}
    recipe["data"]["test"] = {"path": str(data_path), "where": {"split": "train", "group": "g2"}}
    shown = io.StringIO()
    report = Report(Console(file=shown, width=120))
    path = Trainer(read_config(write_recipe({**recipe, "epochs": 1})), report=report).run()
    model = load(path)
    found = model.metadata["accuracy"]["test"]
    assert set(found) == {"bare", "O(3)"}
    where = {"split": "train", "group": "g2"}
    quiet = Report(Console(quiet=True))
    again = evaluate(model, data_path, where=where, device="cpu", report=quiet)
    for kind, errors in found.items():
        assert errors == pytest.approx(again[kind]["all"], rel=1e-5)
    assert "held out for test" in shown.getvalue()
    assert "O(3), 8 frames" in shown.getvalue()


def test_description_counts_frames_and_says_when_it_continues(recipe, write_recipe):
    config = read_config(write_recipe({**recipe, "epochs": 1}))
    trainer = Trainer(config, report=Report(Console(quiet=True)))
    (line,) = describe(trainer)
    assert "24 training frames" in line
    assert "6 for validation, 0 held out for test, 0 dropped" in line
    trainer.run()
    assert "continuing at epoch 1" in list(describe(Trainer(config)))[1]
