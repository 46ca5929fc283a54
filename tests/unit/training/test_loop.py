import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from rich.console import Console

from ase_pet.errors import CheckpointError
from ase_pet.formats import load
from ase_pet.training import loop as loop_module
from ase_pet.training import train
from ase_pet.training.config import read_config
from ase_pet.training.loop import Trainer
from ase_pet.training.report import Report


@pytest.fixture
def report():
    return Report(Console(quiet=True))


@pytest.fixture
def one_thread():
    """Sums are split among threads, so that bits depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(path):
    return load(path).potential.backbone.state_dict()


def assert_same_weights(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_training_lowers_the_error_and_writes_a_checkpoint(recipe, write_recipe):
    path = write_recipe({**recipe, "epochs": 25})
    trainer = Trainer(read_config(path), report=Report(Console(quiet=True)))
    before = trainer.validate(trainer.validation_samples)
    model_path = trainer.run()
    history = trainer.history
    assert len(history) == 25
    assert trainer.best["loss"] < 0.6 * before["loss"]
    assert trainer.best["energy_mae"] < 0.5 * before["energy_mae"]
    assert trainer.best["loss"] == min(row["validation_loss"] for row in history)

    model = load(model_path)
    assert model.species == (13, 29)
    assert model.dtype == "float32"
    metadata = model.metadata
    assert metadata["rotations"] == "atom"
    assert metadata["training_data"]["n_train"] == 24
    assert metadata["licence"] == "MIT"
    assert len(next(iter(metadata["training_data"]["files"].values()))) == 64
    assert metadata["accuracy"]["validation"]["forces_mae"] == trainer.best["forces_mae"]
    assert model.self_test is not None
    assert model.potential.composition is not None


def test_same_seed_same_model_other_seed_other_model(recipe, write_recipe):
    results = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = write_recipe({**recipe, "output": name, "seed": seed, "epochs": 1}, f"{name}.yaml")
        results.append(train(path))
    assert_same_weights(results[0], results[1])
    assert not torch.equal(
        weights(results[0])["embedding.weight"], weights(results[2])["embedding.weight"]
    )


@pytest.mark.parametrize("kind", ["cosine", "plateau"])
@pytest.mark.usefixtures("one_thread")
def test_killed_run_continues_as_if_nothing_had_happened(recipe, write_recipe, tmp_path, kind):
    recipe = {**recipe, "epochs": 6, "save_every": 0.0}
    recipe["schedule"] = {"kind": kind, "warmup": 5, "patience": 1, "final": 1e-4}
    whole = train(write_recipe({**recipe, "output": "whole"}, "whole.yaml"))

    path = write_recipe({**recipe, "output": "killed"}, "killed.yaml")
    code = (
        "import sys, time, torch; torch.set_num_threads(1)\n"
        "from ase_pet.training import loop\n"
        "step = loop.Trainer._step\n"
        "def slow(self, *args):\n"
        "    time.sleep(0.05)\n"
        "    return step(self, *args)\n"
        "loop.Trainer._step = slow\n"
        "loop.train(sys.argv[1])\n"
    )
    state = tmp_path / "killed" / "state.pt"
    for minimum in (1, 8):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and saved_step(state) < minimum:
                assert process.poll() is None, "the run ended before it could be killed"
                time.sleep(0.02)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert saved_step(state) >= minimum
        assert not (tmp_path / "killed" / "model.pt").exists()
    assert_same_weights(train(path), whole)


def saved_step(path):
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def test_finished_run_is_not_repeated(recipe, write_recipe, monkeypatch):
    path = write_recipe({**recipe, "epochs": 1})
    first = train(path).read_bytes()
    monkeypatch.setattr(loop_module.Trainer, "_step", lambda *a: pytest.fail("trained again"))
    assert_same_weights(train(path), train(path))
    assert len(train(path).read_bytes()) == len(first)


def test_other_recipe_does_not_continue(recipe, write_recipe):
    train(write_recipe({**recipe, "epochs": 1}))
    changed = write_recipe({**recipe, "epochs": 2})
    with pytest.raises(ValueError, match="another recipe or other data"):
        train(changed)
    train(changed, resume=False)


def test_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(
    recipe, write_recipe, report, monkeypatch
):
    config = read_config(write_recipe({**recipe, "save_every": 0.0}))
    trainer = Trainer(config, report=report)
    original = loop_module.compute_loss

    def poisoned(prediction, batch, loss_config, progress=1.0):
        loss = original(prediction, batch, loss_config, progress)
        return loss * float("nan") if trainer.step == 4 else loss

    monkeypatch.setattr(loop_module, "compute_loss", poisoned)
    with pytest.raises(FloatingPointError, match=r"step 4.*last good state.*learning_rate"):
        trainer.run()
    monkeypatch.undo()
    again = Trainer(config, report=report)
    assert again.step == 4
    assert all(bool(torch.isfinite(p).all()) for p in again.potential.parameters())


def test_no_state_is_promised_that_was_not_saved(recipe, write_recipe, report, monkeypatch):
    path = write_recipe({**recipe, "epochs": 1})
    train(path)
    trainer = Trainer(read_config(path), resume=False, report=report)
    monkeypatch.setattr(loop_module, "compute_loss", lambda *_: torch.tensor(float("nan")).sum())
    monkeypatch.setattr(torch.Tensor, "backward", lambda _: None)
    with pytest.raises(FloatingPointError, match=r"step 0; no state was saved\."):
        trainer.run()


@pytest.mark.parametrize("entry", ["weights", "optimizer", "average", "schedule", "history"])
def test_an_incomplete_state_says_what_to_do(recipe, write_recipe, tmp_path, entry):
    path = write_recipe({**recipe, "epochs": 1})
    train(path)
    state_path = tmp_path / "run" / "state.pt"
    state = torch.load(state_path, weights_only=True)
    torch.save({name: value for name, value in state.items() if name != entry}, state_path)
    with pytest.raises(CheckpointError, match=r"state\.pt: damaged or incomplete.*--no-resume"):
        train(path)
    train(path, resume=False)


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu", "device: expected 'auto', 'cpu'"), ("cuda:99", "device: 'cuda:99' asked for")],
)
def test_the_device_is_checked_before_the_data_are_read(recipe, write_recipe, device, message):
    recipe["data"]["train"]["path"] = "none.extxyz"
    with pytest.raises(ValueError, match=message):
        train(write_recipe({**recipe, "device": device}))
    recipe["data"]["train"]["path"] = recipe["data"]["validation"]["path"]
    config = read_config(write_recipe({**recipe, "device": "auto"}))
    assert Trainer(config).device.type in ("cpu", "cuda")


def test_what_a_killed_run_left_half_written_is_removed(recipe, write_recipe, report, tmp_path):
    (tmp_path / "run").mkdir()
    left = tmp_path / "run" / ".state.pt.0123abcd.tmp"
    other = tmp_path / "run" / ".state.pt.notes.tmp"
    for path in (left, other):
        path.write_bytes(b"half")
    Trainer(read_config(write_recipe(recipe)), report=report)
    assert not left.exists()
    assert other.exists()


def test_time_limit_ends_the_run_and_its_schedule(recipe, write_recipe, report):
    config = read_config(write_recipe({**recipe, "epochs": 100_000, "max_time": 2.0}))
    trainer = Trainer(config, report=report)
    assert trainer.run().exists()
    assert trainer.finished
    rates = [row["rate"] for row in trainer.history]
    assert rates[-1] < 0.2 * config.optimizer.learning_rate


def test_patience_ends_the_run(recipe, write_recipe, report):
    recipe = {**recipe, "epochs": 50, "patience": 2}
    recipe["optimizer"] = {"learning_rate": 1e-12}
    trainer = Trainer(read_config(write_recipe(recipe)), report=report)
    trainer.run()
    assert trainer.epoch < 50


def test_held_out_frames_never_reach_the_optimizer(recipe, write_recipe, report, monkeypatch):
    config = read_config(write_recipe({**recipe, "epochs": 1}))
    trainer = Trainer(config, report=report)
    seen = []
    original = loop_module.Trainer._step

    def step(self, batch, k, progress):
        seen.extend(batch.energy.tolist())
        return original(self, batch, k, progress)

    monkeypatch.setattr(loop_module.Trainer, "_step", step)
    trainer.run()
    held_out = {atoms.get_potential_energy() for atoms in trainer.split.validation}
    assert len(seen) == 24
    assert not held_out & set(seen)
