"""ASE finds the calculator by its name, and nothing heavy is imported for that."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import external_calculators, get_calculator_class

from ase_pet import PETCalculator
from ase_pet.interfaces import ase_plugin

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_entry_point() -> None:
    points = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["ase.plugins"]
    module = EntryPoint("pet", points["pet"], "ase.plugins").load()
    (plugin,) = module.__ase_plugins__
    assert plugin.name == PETCalculator("pet-si").name == "pet"
    assert plugin.implementation is PETCalculator
    assert "2305.19302" in plugin.citation


def test_the_entry_point_imports_no_network() -> None:
    code = "import sys, ase_pet.interfaces.ase_plugin; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_calculator_class("pet") is PETCalculator
    ase_plugin.registered(PETCalculator)  # as a module that is loaded again does
    monkeypatch.delitem(external_calculators, "pet")
    monkeypatch.setattr("ase.calculators.names.names", [])
    monkeypatch.setattr("ase.calculators.calculator.names", [])
    assert ase_plugin.registered(PETCalculator) is PETCalculator
    assert get_calculator_class("pet") is PETCalculator


def test_ase_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atoms = bulk("Si")
    atoms.rattle(0.05, seed=0)
    atoms.write("si.extxyz")
    line = "ase run pet si.extxyz -p model=pet-si,symmetry=None,dtype=float64 -o out.extxyz"
    monkeypatch.setattr("sys.argv", line.split())
    ase_plugin.main()
    found = ase.io.read("out.extxyz")
    atoms.calc = PETCalculator("pet-si", symmetry=None, dtype="float64")
    assert np.allclose(found.get_forces(), atoms.get_forces(), rtol=0, atol=1e-7)  # digits written
    assert abs(atoms.get_forces()).max() > 0.1
