"""check tells what is sound, and finds what is not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from ase.build import bulk

from ase_pet import PETCalculator
from ase_pet.formats import Model, native
from ase_pet.potentials.total import Total
from ase_pet.workflows import checks, smoothness
from ase_pet.workflows.checks import each_rotation
from ase_pet.workflows.smoothness import pull_through_cutoff
from tests.foreign_metatrain import checkpoint as checkpoint_of
from tests.foreign_metatrain import write
from tests.tiny import tiny_modern_pet, tiny_tensornet


def test_check_passes_for_a_sound_model(run, checkpoint: Path) -> None:
    found = run("check", checkpoint, "--n-rotations", 4, "--json")
    assert found.exit_code == 0
    rows = {row["check"]: row for row in json.loads(found.stdout)}
    assert len(rows) == 10
    assert 0.0 < rows["cutoff forces, symmetrized"]["forces"] < 1e-6
    assert rows["rotations, bare"]["passed"] is None
    assert rows["rotations, bare"]["forces"] > 1e-6
    assert all(row["passed"] for name, row in rows.items() if name != "rotations, bare")


def test_check_takes_a_structure_and_draws(
    run, checkpoint: Path, silicon: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found = run("check", checkpoint, silicon, "--n-rotations", 3, "--out", out)
    assert found.exit_code == 0
    assert "Si8" in found.stdout
    assert "checks: 7/7" in found.stdout
    bars = [line for line in found.stdout.splitlines() if "█" in line]
    assert (
        sum(int(part.split()[-1]) for line in bars for part in line.split("│") if "█" in part) == 6
    )
    assert {path.name for path in out.iterdir()} == {"summary.json", "rotations.png", "cutoff.png"}
    summary = json.loads((out / "summary.json").read_text())
    spreads = summary["force_errors_of_rotations"]
    assert [len(spreads[name]) for name in ("bare", "symmetrized")] == [3, 3]
    assert max(spreads["symmetrized"]) < 1e-10 < 1e-6 < min(spreads["bare"])
    assert summary["settings"]["structure"] == str(silicon)
    again = run("check", checkpoint, "--structure", silicon, "--n-rotations", 3, "--json")
    assert json.loads(again.stdout) == summary["checks"]
    assert summary["pull_through_cutoff"]["n_atoms"] == 8


def test_a_model_that_is_exact_by_itself_is_evaluated_once(run, tmp_path: Path) -> None:
    native.save(Model(Total(tiny_tensornet()), "float64", architecture="tensornet"), tmp_path / "m")
    found = run("check", tmp_path / "m", "--n-rotations", 2, "--json")
    assert found.exit_code == 0, found.stderr
    names = {row["check"] for row in json.loads(found.stdout)}
    assert "rotations, symmetrized" in names
    assert not any("bare" in name for name in names)
    bare = run("check", tmp_path / "m", "--n-rotations", 2, "--symmetry", "none", "--json")
    names = {row["check"] for row in json.loads(bare.stdout)}
    assert "derivatives, bare" in names
    assert not any("symmetrized" in name for name in names)


def test_large_structures_are_checked_in_parts(run, checkpoint: Path, tmp_path: Path) -> None:
    bulk("Si", cubic=True).repeat((3, 3, 1)).write(tmp_path / "si.xyz", format="extxyz")
    found = run("check", checkpoint, tmp_path / "si.xyz", "--n-rotations", 1)
    assert found.exit_code == 0, found.stderr
    assert "among the 64 atoms nearest to both" in found.stdout


def test_rotations_are_evaluated_in_batches_of_bounded_size(model: Model, monkeypatch) -> None:
    calculator, sizes = PETCalculator(model, symmetry=None), []
    compute = calculator.compute
    monkeypatch.setattr(calculator, "compute", lambda s: sizes.append(len(s)) or compute(s))
    monkeypatch.setattr(checks, "_BATCH_ATOMS", 4)
    assert len(each_rotation(calculator, bulk("Si"), n_rotations=5)) == 5
    assert sizes == [2, 2, 2]


@pytest.mark.parametrize("part", ["energy", "forces"])
def test_check_fails_for_a_jump_at_the_cutoff(run, checkpoint, monkeypatch, part: str) -> None:
    def jumping(*given):
        pull = pull_through_cutoff(*given)
        jumps = dataclasses.replace(pull.jumps, **{part: float("nan")})
        return dataclasses.replace(pull, jumps=jumps)

    monkeypatch.setattr(smoothness, "pull_through_cutoff", jumping)
    found = run("check", checkpoint, "--n-rotations", 1)
    assert found.exit_code == 1
    assert f"beyond tolerance: cutoff {part}, bare; cutoff {part}, symmetrized" in found.stderr


def test_a_structure_without_neighbours_has_no_cutoff_to_check(run, checkpoint, tmp_path) -> None:
    (tmp_path / "atom.xyz").write_text("1\n\nSi 0 0 0\n")
    found = run("check", checkpoint, tmp_path / "atom.xyz", "--n-rotations", 1, "--json")
    assert found.exit_code == 0, found.stderr
    assert not any("cutoff" in row["check"] for row in json.loads(found.stdout))


def test_check_turns_direct_forces(run, tmp_path: Path) -> None:
    network = tiny_modern_pet(forces_scales=(1.0, 1.0, 1.0), stress_scales=(1.0, 1.0, 1.0))
    native.save(Model(Total(network), "float64", architecture="pet-metatrain"), tmp_path / "m.pt")
    found = run("check", tmp_path / "m.pt", "--n-rotations", 2, "--json")
    assert found.exit_code == 0
    rows = {row["check"]: row for row in json.loads(found.stdout)}
    assert rows["rotations, direct"]["passed"] is True
    assert rows["rotations, direct"]["virial"] < 1e-10
    assert "derivatives, direct" not in rows
    assert rows["derivatives, symmetrized"]["passed"] is True
    assert "direct heads" in run("info", tmp_path / "m.pt").stdout


def test_check_finds_a_model_that_is_not_what_it_was(run, model: Model, tmp_path: Path) -> None:
    assert model.self_test is not None
    changed = {**model.self_test, "bare": {**model.self_test["bare"], "energy": -11.0}}
    native.save(dataclasses.replace(model, self_test=changed), tmp_path / "changed.pt")
    found = run("check", tmp_path / "changed.pt", "--n-rotations", 2)
    assert found.exit_code == 1
    assert "FAILED" in found.stdout
    assert "beyond tolerance: self-test, bare" in found.stderr


def test_check_takes_one_energy_of_several(run, tmp_path: Path) -> None:
    targets = {name: {"quantity": "energy", "unit": "eV"} for name in ("energy/a", "energy/b")}
    content = checkpoint_of(tiny_modern_pet(), targets=targets, target="energy/a")
    path = write(content, tmp_path / "model.ckpt")
    found = run("check", path, "--target", "energy/a", "--n-rotations", 1)
    assert found.exit_code == 0, found.stderr
    refused = run("check", path)
    assert "target= one of ['energy/a', 'energy/b']" in refused.stderr
    wrong = run("check", path, "--target", "energy/c")
    assert "'energy/c' is not among the targets" in wrong.stderr
