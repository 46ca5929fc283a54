import pytest
import torch

from ase_pet.errors import CheckpointError
from ase_pet.training.state import load_state, save_state


def test_state_comes_back(tmp_path):
    path = tmp_path / "state.pt"
    save_state({"weights": [torch.ones(2)], "epoch": 3}, path, "run a")
    state = load_state(path, "run a")
    assert state["epoch"] == 3
    assert torch.equal(state["weights"][0], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_state_of_another_run_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    save_state({"epoch": 3}, path, "run a")
    with pytest.raises(ValueError, match=r"another recipe or other data.*--no-resume"):
        load_state(path, "run b")


def test_damaged_state_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    save_state({"weights": [torch.ones(200)]}, path, "run a")
    path.write_bytes(path.read_bytes()[:-100])
    for data in (path.read_bytes(), b""):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"damaged or incomplete; delete it.*--no-resume"):
            load_state(path, "run a")
