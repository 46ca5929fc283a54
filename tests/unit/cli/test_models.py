"""info and convert."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ase_pet.formats import load
from tests.foreign_metatrain import checkpoint as checkpoint_of
from tests.foreign_metatrain import write
from tests.tiny import NEEDS_TORCH_PME, tiny_modern_pet

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


def test_info_tells_each_member_of_a_committee(run, checkpoint: Path, silicon: Path) -> None:
    two = f"{checkpoint},pet-si"
    rows = json.loads(run("info", two, "--json").stdout)
    assert [row["path"] for row in rows] == [load(name).path for name in two.split(",")]
    shown = run("info", two, "--structure", silicon).stdout
    assert shown.count("one evaluation") == 2
    for command in ("check", "convert"):
        refused = run(command, two, *(["new.pt"] if command == "convert" else []))
        assert f"MODEL: one is needed here, got 2; give {checkpoint} or pet-si" in refused.stderr


@NEEDS_TORCH_PME
def test_long_range_is_told_checked_and_converted(run, tmp_path: Path) -> None:
    net = tiny_modern_pet(long_range=True, smearing=0.9, mesh_spacing=0.8)
    source = write(checkpoint_of(net), tmp_path / "model.ckpt")
    assert run("convert", source, tmp_path / "model.pt").exit_code == 0
    rows = json.loads(run("info", tmp_path / "model.pt", "--json").stdout)
    assert (rows["long range"], rows["self-test"]) == ("electrostatics", "yes")
    found = run("check", tmp_path / "model.pt", "--n-rotations", 2, "--json")
    assert found.exit_code == 0, found.stdout
    checked = {row["check"]: row["passed"] for row in json.loads(found.stdout)}
    assert len(checked) == 10
    assert checked.pop("rotations, bare") is None
    assert all(checked.values())


def test_info_counts_what_ensembles_take(
    run, checkpoint: Path, silicon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = json.loads(run("info", checkpoint, silicon, "--json").stdout)
    assert rows["elements"] == "Si"
    cost = {row["ensemble"]: row for row in rows["cost"]}
    assert list(cost) == ["bare", "local", "shared", "global"]
    assert [row["auto"] for row in rows["cost"]] == [False, True, False, False]
    assert [row["weights"] for row in rows["cost"]] == [None, "smooth", "lean", "lean"]
    assert (cost["bare"]["n_copies"], cost["bare"]["n_atoms"], cost["bare"]["ratio"]) == (1, 8, 1)
    assert cost["global"]["n_atoms"] == 8 * cost["global"]["n_copies"]
    assert cost["local"]["n_copies"] == cost["local"]["n_atoms"]
    assert cost["local"]["memory"] > cost["bare"]["memory"] > 1000
    options = ("--structure", silicon, "--symmetry", "SO3", "--json")
    half = json.loads(run("info", checkpoint, *options).stdout)["cost"]
    assert 2 * half[1]["n_copies"] == cost["local"]["n_copies"]
    (bare,) = json.loads(run("info", checkpoint, *options[:3], "none", "--json").stdout)["cost"]
    assert bare["auto"]
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("info", checkpoint, "--structure", silicon).stdout
    assert max(map(len, shown.splitlines())) <= 80
    numbers = (f"{cost['local'][name]:,}" for name in ("n_copies", "n_atoms"))
    line = next(text for text in shown.splitlines() if "local" in text)
    assert all(number in line for number in numbers)
    assert "smooth" in line
    assert "auto" in line
    water = silicon.with_name("water.xyz")
    water.write_text("1\n\nO 0 0 0\n")
    assert "does not know O" in run("info", checkpoint, "--structure", water).stderr


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


@pytest.mark.parametrize(
    ("hypers", "taken"),
    [({}, "structures alone"), ({"conditioning": True}, "total charge, spin multiplicity")],
)
def test_info_tells_what_a_model_takes(run, hypers: dict, taken: str, tmp_path: Path) -> None:
    path = write(checkpoint_of(tiny_modern_pet(**hypers)), tmp_path / "model.ckpt")
    assert json.loads(run("info", path, "--json").stdout)["takes"] == taken
