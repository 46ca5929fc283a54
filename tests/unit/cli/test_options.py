"""What the commands have in common."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_type_hints

import pytest

from ase_pet import PETCalculator
from ase_pet.cli import dynamics, options
from ase_pet.ecse.settings import PRESETS
from ase_pet.ecse.symmetrized import ENSEMBLES
from ase_pet.errors import CheckpointError
from ase_pet.formats import Model, native
from ase_pet.potentials.total import Total
from tests.tiny import tiny_modern_pet


def test_the_command_line_has_every_option_of_the_calculator_with_its_default() -> None:
    theirs = inspect.signature(PETCalculator).parameters
    ours = inspect.signature(options._calculator).parameters
    assert list(ours) == list(theirs)
    defaults = {name: p.default for name, p in ours.items() if name not in ("model", "symmetry")}
    assert defaults == {name: theirs[name].default for name in defaults}
    assert options.parse_symmetry(ours["symmetry"].default) == theirs["symmetry"].default


def test_what_is_typed_reaches_the_calculator(tmp_path: Path) -> None:
    network = tiny_modern_pet(forces_scales=(1.0, 2.0, 3.0))
    native.save(Model(Total(network), "float64", architecture="pet-metatrain"), tmp_path / "m.pt")
    calc = options._calculator(str(tmp_path / "m.pt"), forces="direct", symmetry="SO3", skin=0.1)
    found = {name: calc.parameters[name] for name in ("forces", "symmetry", "skin", "target")}
    assert found == {"forces": "direct", "symmetry": "SO(3)", "skin": 0.1, "target": None}
    with pytest.raises(CheckpointError, match=r"target: .*got target=2"):
        options._calculator(str(tmp_path / "m.pt"), target="2")


@pytest.mark.parametrize(("text", "target"), [(None, None), ("2", 2), ("energy/pbe", "energy/pbe")])
def test_a_target_is_a_number_or_a_name(text: str | None, target: int | str | None) -> None:
    assert options.parse_target(text) == target


def test_commands_take_the_model_first_and_the_options_last() -> None:
    names = list(inspect.signature(dynamics.run_dynamics).parameters)
    assert names[:2] == ["model", "structure"]
    assert names[-1] == "uncertainty_threshold"
    assert "calculator" not in names


@pytest.mark.parametrize(
    ("text", "symmetry"),
    [("O3", "O(3)"), ("O(3)", "O(3)"), ("so3", "SO(3)"), ("SO(3)", "SO(3)"), ("none", None)],
)
def test_symmetry_needs_no_parentheses(text: str, symmetry: str | None) -> None:
    assert options.parse_symmetry(text) == symmetry


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (1 / 3, "0.333333"),
        ("text", "text"),
        ([1.0, 2.5], "1, 2.5"),
        ({"a": 1, "b": [2]}, "a: 1\nb: 2"),
        ({"a": {"b": {"c": 1}, "d": 2}, "e": {}}, "a:\n  b:\n    c: 1\n  d: 2\ne: "),
    ],
)
def test_values_are_readable(value: object, text: str) -> None:
    assert options.readable(value) == text


def test_the_help_names_every_ensemble_and_preset() -> None:
    hints = get_type_hints(
        options._calculator, {**vars(options), "PETCalculator": None}, None, True
    )
    for option, names in (("ensemble", ENSEMBLES), ("weights", PRESETS.keys() - {"smooth-3"})):
        (told,) = hints[option].__metadata__
        assert set(names) | {"auto"} == set(re.split(r", | or |\.", told.help)) - {""}


def test_a_comma_too_many_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"names with a comma between two of them, got 'one\.pt,'"):
        options._calculator("one.pt,")


def test_a_file_that_holds_no_structure_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="structure: no format that it knows; give a file"):
        options.read_structures(path)
