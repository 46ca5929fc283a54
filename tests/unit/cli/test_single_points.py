"""eval gives what the library gives."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest

from ase_pet import PETCalculator


def test_eval_prints_and_writes_what_the_calculator_says(
    run, checkpoint: Path, silicon: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.extxyz"
    found = run("eval", checkpoint, silicon, "--json", "--out", out, "--dtype", "float64")
    assert found.exit_code == 0
    structures = ase.io.read(silicon, ":")
    calculator = PETCalculator(checkpoint, dtype="float64")
    written = ase.io.read(out, ":")
    printed = json.loads(found.stdout)
    assert len(printed) == len(written) == len(structures) == 2
    for atoms, one, frame in zip(structures, printed, written, strict=True):
        expected = calculator.compute([atoms])[0]
        assert one["energy"] == pytest.approx(expected["energy"], abs=1e-12)
        assert np.allclose(one["stress"], expected["stress"], atol=1e-12)
        assert np.allclose(frame.get_forces(), expected["forces"], atol=1e-7)
    summary = json.loads((tmp_path / "results.summary.json").read_text())
    assert summary["energy_eV"] == [one["energy"] for one in printed]
    assert summary["calculator"]["sha256"] == calculator.model.sha256
    assert summary["settings"]["index"] == ":"


def test_the_table_names_models_without_their_folders(run, checkpoint: Path, silicon: Path) -> None:
    shown = run("eval", f"{checkpoint},{checkpoint}", silicon).stdout
    assert f"{checkpoint.name} and {checkpoint.name}" in shown
    assert str(checkpoint) not in shown


def test_many_structures_show_progress(
    run, checkpoint: Path, silicon: Path, tmp_path: Path
) -> None:
    ase.io.write(tmp_path / "many.extxyz", [ase.io.read(silicon, 0)] * 33)
    assert "structures: 32/33" in run("eval", checkpoint, tmp_path / "many.extxyz").stdout
    assert "structures:" not in run("eval", checkpoint, silicon).stdout


@pytest.mark.parametrize(("index", "frame"), [(":", 40), ("38:", 40), ("-3::2", 40), ("40", 40)])
def test_eval_names_the_frame_at_fault(
    run, checkpoint: Path, silicon: Path, tmp_path: Path, index: str, frame: int
) -> None:
    frames = [ase.io.read(silicon, 0) for _ in range(42)]
    if index == "-3::2":
        frames.append(frames[-1])
    frames[frame].positions[1] = frames[frame].positions[0]
    ase.io.write(tmp_path / "many.extxyz", frames)
    out = tmp_path / "out.extxyz"
    found = run("eval", checkpoint, tmp_path / "many.extxyz", f"--index={index}", "--out", out)
    assert found.exit_code == 1
    assert f"many.extxyz: frame {frame}: positions: atoms 0 and 1" in found.stderr
    assert not out.exists()


def test_commas_make_a_committee(run, checkpoint: Path, silicon: Path, tmp_path: Path) -> None:
    out, two = tmp_path / "one.extxyz", f"{checkpoint},{checkpoint}"
    assert run("eval", two, silicon, "--index", "1", "--out", out).exit_code == 0
    alone = PETCalculator(checkpoint).compute([ase.io.read(silicon, 1)])[0]
    assert ase.io.read(out).get_potential_energy() == pytest.approx(alone["energy"], rel=1e-7)
    comma = tmp_path / "one,two.pt"
    comma.write_bytes(checkpoint.read_bytes())
    assert run("eval", comma, silicon).exit_code == 0
    threshold = ("--uncertainty-threshold", "0.1")
    assert run("eval", two, silicon, *threshold).exit_code == 0
    refused = run("eval", checkpoint, silicon, *threshold)
    assert refused.exit_code == 1
    assert "this model has no uncertainty" in refused.stderr


def test_eval_tells_the_uncertainty(run, silicon: Path, tmp_path: Path) -> None:
    wrapped = Path(__file__).parents[2] / "data" / "llpr" / "feedforward.ckpt"
    atoms = ase.io.read(wrapped.with_name("structures.xyz"), "0")
    ase.io.write(tmp_path / "in.extxyz", atoms)
    options = ("--uncertainty", "--out", tmp_path / "out.extxyz")
    found = run("eval", wrapped, tmp_path / "in.extxyz", *options)
    expected = PETCalculator(wrapped).uncertainty(atoms).energy
    assert f"{expected:.6f}" in found.stdout
    written = ase.io.read(tmp_path / "out.extxyz").info["energy_uncertainty"]
    assert written == pytest.approx(expected, rel=1e-6)
    plain = run("eval", wrapped, tmp_path / "in.extxyz")
    assert "uncertainty" not in plain.stdout


def test_eval_shows_a_table_and_takes_the_calculators_options(
    run, checkpoint: Path, silicon: Path
) -> None:
    energies = set()
    for symmetry in ("O3", "SO3", "none"):
        found = run("eval", checkpoint, silicon, "--index", "1", "--symmetry", symmetry)
        assert found.exit_code == 0
        assert "Si8" in found.stdout
        assert "GPa" in found.stdout
        energies.add(found.stdout)
    assert len(energies) == 3


WRAPPED = Path(__file__).parents[2] / "data" / "llpr" / "feedforward.ckpt"


def test_a_warning_is_one_sentence(run) -> None:
    arguments = ("eval", WRAPPED, WRAPPED.with_name("structures.xyz"))
    options = ("--uncertainty-threshold", "1e-9")
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        found = run(*arguments, *options)
        (line,) = found.stderr.splitlines()
        assert line.startswith("warning: the uncertainty of the energy, ")
        assert found.exit_code == 0
        with pytest.warns(UserWarning, match="above uncertainty_threshold"):
            run("--debug", *arguments, *options)


def test_eval_refuses_an_uncertainty_before_it_evaluates(
    run, checkpoint: Path, silicon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(PETCalculator, "compute")
    found = run("eval", checkpoint, silicon, "--uncertainty")
    assert found.exit_code == 1
    assert found.stderr.startswith("error: --uncertainty: this model has none; models of metatrain")
