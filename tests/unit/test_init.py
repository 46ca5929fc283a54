"""The package itself: public names, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ase_pet


def test_public_names_are_there() -> None:
    assert ase_pet.__all__ == ["PETCalculator", "__version__", "load"]
    assert dir(ase_pet) == ase_pet.__all__
    assert ase_pet.PETCalculator.__name__ == "PETCalculator"
    assert callable(ase_pet.load)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Calculator'"):
        _ = ase_pet.Calculator


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import ase_pet", {"torch", "ase", "numpy"}),
        ("import ase_pet; ase_pet.load", {"ase", "phonopy", "matplotlib", "rich", "typer"}),
        ("import ase_pet.engine", {"ase", "phonopy", "matplotlib", "rich", "typer"}),
        ("import ase_pet; ase_pet.PETCalculator", {"phonopy", "matplotlib", "rich", "typer"}),
        ("import ase_pet.cli", {"torch", "ase", "phonopy", "matplotlib"}),
    ],
)
def test_imports_are_light(statement: str, absent: set[str]) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not absent & set(found.stdout.split())
