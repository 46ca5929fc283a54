"""train and evaluate hand over to ase_pet.training."""

from __future__ import annotations

import io
import json
from pathlib import Path

import ase.io
import pytest
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from ase_pet import load
from ase_pet.cli.learning import _parse_condition


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    frames = []
    for seed in range(8):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["split"] = "test" if seed > 5 else "train"
        atoms.info["fold"] = seed % 4
        frames.append(atoms)
    ase.io.write(tmp_path / "cu.extxyz", frames)
    return tmp_path / "cu.extxyz"


def test_train_then_evaluate(run, copper: Path, tmp_path: Path) -> None:
    recipe = {
        "name": "cu",
        "output": "run",
        "data": {
            "train": {"path": "cu.extxyz", "where": {"split": "train"}},
            "validation": 0.2,
        },
        "model": {
            "cutoff": 3.0,
            "d_model": 8,
            "n_heads": 2,
            "d_feedforward": 8,
            "n_attention_layers": 1,
            "head_width": 4,
        },
        "provenance": {"source": "ASE's EMT", "level_of_theory": "EMT", "licence": "MIT"},
        "epochs": 2,
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(recipe))
    found = run("train", config)
    assert found.exit_code == 0, found.output
    model = tmp_path / "run" / "model.pt"
    assert found.stdout.replace("\n", "").count(str(model)) == 1
    assert load(model).species == (29,)
    out = tmp_path / "evaluation"
    arguments = ("--where", "split=test", "--out", out, "--json")
    found = run("evaluate", model, copper, *arguments)
    assert found.exit_code == 0, found.output
    errors = json.loads(found.stdout)
    assert set(errors) == {"bare", "O(3)"}
    assert errors["O(3)"]["all"]["forces_rmse"] > 0.0
    assert json.loads((out / "errors.json").read_text()) == errors
    assert (out / "parity.png").is_file()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["errors"] == errors
    assert summary["settings"]["where"] == {"split": "test"}
    assert summary["sha256"] == load(model).sha256
    arguments = ("--where", "fold=1", "--where", "split=train", "--out", out)
    found = run("evaluate", model, copper, *arguments)
    assert found.exit_code == 0, found.output
    assert "O(3), 2 frames" in found.stdout
    found = run("evaluate", model, tmp_path / "none.extxyz")
    assert "none.extxyz" in found.stderr
    assert "recipe" not in found.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("fold=1", 1),
        ("x=1.5", 1.5),
        ("split=test", "test"),
        ("title=two words", "two words"),
        ("used=T", True),
        ("used=no", "no"),
    ],
)
def test_conditions_are_read_as_files_are(text: str, value: object) -> None:
    name, found = _parse_condition(text)
    assert name == text.split("=")[0]
    assert found == value
    atoms = ase.io.read(io.StringIO(f'1\n{name}="{value}"\nCu 0 0 0\n'), format="extxyz")
    assert atoms.info[name] == found
