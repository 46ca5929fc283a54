"""What the commands have in common."""

from __future__ import annotations

import inspect

import pytest

from ase_pet import PETCalculator
from ase_pet.cli import options, simulation


def test_the_command_line_has_every_option_of_the_calculator_with_its_default() -> None:
    theirs = inspect.signature(PETCalculator).parameters
    ours = inspect.signature(options._calculator).parameters
    assert list(ours) == list(theirs)
    defaults = {name: p.default for name, p in ours.items() if name not in ("model", "symmetry")}
    assert defaults == {name: theirs[name].default for name in defaults}
    assert options.parse_symmetry(ours["symmetry"].default) == theirs["symmetry"].default


def test_commands_take_the_model_first_and_the_options_last() -> None:
    names = list(inspect.signature(simulation.run_dynamics).parameters)
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
    ],
)
def test_values_are_readable(value: object, text: str) -> None:
    assert options.readable(value) == text
