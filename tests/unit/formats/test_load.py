"""Formats are recognised by content."""

from __future__ import annotations

from pathlib import Path

import pytest

import ase_pet
from ase_pet.errors import CheckpointError
from ase_pet.formats import Model, load, native


def test_the_name_of_a_file_does_not_matter(model: Model, tmp_path: Path) -> None:
    for name in ("model.pt", "folder.with.dots", "model_state_dict", "hypers.yaml"):
        native.save(model, tmp_path / name)
        assert load(str(tmp_path / name)).species == (1, 6)


def test_a_native_file_beside_files_of_the_original_is_native(model: Model, tmp_path: Path) -> None:
    (tmp_path / "hypers_used.yaml").write_text("R_CUT: 5.0\n")
    native.save(model, tmp_path / "model.pt")
    assert load(tmp_path / "model.pt").metadata["training_data"] == "made up"


def test_load_is_public(model: Model, tmp_path: Path) -> None:
    native.save(model, tmp_path / "model.pt")
    assert ase_pet.load(tmp_path / "model.pt").n_layers == 2


def test_a_missing_path_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.pt: no such file or folder; check"):
        load(tmp_path / "model.pt")


def test_another_projects_folder_is_described(tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text("seed: 1\n")
    with pytest.raises(CheckpointError, match=r"without hypers_used\.yaml.*options\.yaml.*expect"):
        load(tmp_path)


def test_a_native_checkpoint_has_no_targets_to_choose(model: Model, tmp_path: Path) -> None:
    native.save(model, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="target"):
        load(tmp_path / "model.pt", target=1)
