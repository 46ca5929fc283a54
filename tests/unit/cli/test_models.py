"""info, check and convert."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from ase_pet.formats import Model, load, native

REFERENCE = Path(__file__).parents[4] / "shared" / "reference" / "pet_original"


def test_info(run, checkpoint: Path) -> None:
    found = run("info", checkpoint)
    assert found.exit_code == 0
    for text in ("Si", "3.2 Å", "float32", "licence", "MIT", "forces_rmse: 0.1"):
        assert text in found.stdout
    rows = json.loads(run("info", checkpoint, "--json").stdout)
    assert rows["sha256"] == load(checkpoint).sha256
    assert rows["accuracy"] == {"forces_rmse": 0.1}
    assert rows["uncertainty"] == "none"
    wrapped = Path(__file__).parents[2] / "data" / "llpr" / "residual.ckpt"
    assert json.loads(run("info", wrapped, "--json").stdout)["uncertainty"] == "llpr, ensemble"


def test_check_passes_for_a_sound_model(run, checkpoint: Path) -> None:
    found = run("check", checkpoint, "--n-rotations", 4, "--json")
    assert found.exit_code == 0
    rows = {row["check"]: row for row in json.loads(found.stdout)}
    assert len(rows) == 6
    assert rows["rotations, bare"]["passed"] is None
    assert rows["rotations, bare"]["forces"] > 1e-6
    assert all(row["passed"] for name, row in rows.items() if name != "rotations, bare")


def test_check_takes_a_structure(run, checkpoint: Path, silicon: Path) -> None:
    found = run("check", checkpoint, "--structure", silicon, "--n-rotations", 2)
    assert found.exit_code == 0
    assert "Si8" in found.stdout
    assert "checks: 4/4" in found.stdout


def test_check_finds_a_model_that_is_not_what_it_was(run, model: Model, tmp_path: Path) -> None:
    assert model.self_test is not None
    changed = {**model.self_test, "bare": {**model.self_test["bare"], "energy": -11.0}}
    native.save(dataclasses.replace(model, self_test=changed), tmp_path / "changed.pt")
    found = run("check", tmp_path / "changed.pt", "--n-rotations", 2)
    assert found.exit_code == 1
    assert "FAILED" in found.stdout
    assert "beyond tolerance: self-test, bare" in found.stderr


@pytest.mark.parametrize("name", ["methane_gnn1"])
def test_convert_imports_a_folder_of_the_original(run, tmp_path: Path, name: str) -> None:
    source = REFERENCE / name
    if not source.is_dir():
        pytest.skip(f"{source} is not there: reference models do not come with the project")
    target = tmp_path / "new.pt"
    found = run("convert", source, target, "--note", "licence=MIT")
    assert found.exit_code == 0
    model, original = load(target), load(source)
    assert model.metadata["licence"] == "MIT"
    assert model.species == original.species
    assert model.self_test is not None
    for ours, theirs in zip(
        model.potential.parameters(), original.potential.parameters(), strict=True
    ):
        assert (ours == theirs).all()


def test_convert_keeps_the_uncertainty(run, tmp_path: Path) -> None:
    wrapped = Path(__file__).parents[2] / "data" / "llpr" / "feedforward.ckpt"
    assert run("convert", wrapped, tmp_path / "new.pt").exit_code == 0
    theirs, ours = load(wrapped).uncertainty, load(tmp_path / "new.pt").uncertainty
    assert torch.equal(ours.cholesky, theirs.cholesky)
    assert torch.equal(ours.members, theirs.members)
    assert ours.multiplier == theirs.multiplier


def test_convert_keeps_a_self_test_and_replaces_only_by_force(
    run, checkpoint: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy.pt"
    assert run("convert", checkpoint, target).exit_code == 0
    before = target.read_bytes()
    assert run("convert", checkpoint, target, "--note", "licence=none").exit_code == 1
    assert target.read_bytes() == before
    assert run("convert", checkpoint, target, "--note", "licence=none", "--force").exit_code == 0
    copied, original = load(target), load(checkpoint)
    assert copied.metadata["licence"] == "none"
    assert copied.self_test is not None
    assert original.self_test is not None
    assert copied.self_test["bare"]["energy"] == original.self_test["bare"]["energy"]
