from __future__ import annotations

from dataclasses import asdict

import pytest

from ase_pet.ecse import PaperSettings, SmoothSettings
from ase_pet.ecse.settings import describe, settings


def test_presets_have_names() -> None:
    assert settings("paper") == PaperSettings()
    assert settings("smooth") == SmoothSettings()
    assert settings("auto") == settings("auto", "global") == settings("smooth")
    assert settings("auto", "shared") == settings("lean") != settings("smooth")
    assert settings("smooth-3").axis_penalty == 2.8
    mine = SmoothSettings(window=0.3)
    assert settings(mine) is mine
    with pytest.raises(
        ValueError, match=r"weights: expected one of 'auto', 'smooth', .* got 'Smooth'"
    ):
        settings("Smooth")


def test_settings_that_are_no_names_nor_settings() -> None:
    with pytest.raises(ValueError, match="weights: expected"):
        settings(["smooth"])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [PaperSettings, SmoothSettings])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_values_out_of_range_are_named(kind: type, value: float) -> None:
    for name in asdict(kind()):
        with pytest.raises(
            ValueError, match=f"{name}: expected (a finite number|an integer), .*got"
        ):
            kind(**{name: value})


@pytest.mark.parametrize("value", ["wide", None, True, [0.4]])
def test_values_that_are_no_numbers_are_named(value: object) -> None:
    with pytest.raises(ValueError, match="window: expected a finite number, more than 0, got"):
        SmoothSettings(window=value)  # type: ignore[arg-type]


def test_numbers_that_count_are_integers() -> None:
    with pytest.raises(
        ValueError, match=r"shared_hops: expected an integer, more than 0, got 1\.5"
    ):
        SmoothSettings(shared_hops=1.5)  # type: ignore[arg-type]


def test_widths_cannot_be_zero_but_penalties_can() -> None:
    for name in ("window", "axis_window", "reach", "fade_width", "beta"):
        with pytest.raises(ValueError, match=f"{name}: .*more than 0"):
            SmoothSettings(**{name: 0.0})
    assert SmoothSettings(axis_penalty=0.0).axis_penalty == 0.0
    assert PaperSettings(n_prunings=0).n_prunings == 0


def test_the_defaults_of_the_paper() -> None:
    described = describe(PaperSettings())
    assert described == {
        "weights": "paper",
        "beta": 5.0,
        "beta_weights": 1.0,
        "largest_cutoff": 10.0,
        "switch_width": 0.15,
        "min_sine2": 0.2,
        "sine2_width": 0.15,
        "pruning_fraction": 0.9,
        "pruning_width": 0.1,
        "n_prunings": 4,
    }


def test_a_description_makes_the_settings_again() -> None:
    mine = SmoothSettings(beta=3.0, reach=2.0)
    described = describe(mine)
    assert described.pop("weights") == "smooth"
    assert SmoothSettings(**described) == mine


def test_settings_are_given_by_name_and_stay_as_they_are() -> None:
    with pytest.raises(TypeError):
        SmoothSettings(5.0)
    with pytest.raises(AttributeError):
        PaperSettings().beta = 1.0


@pytest.mark.parametrize(
    "values",
    [{"parallel_penalty": 0.0}, {"angle_penalty": 0.0}, {"axis_penalty": 20.0}, {"window": 3.0}],
)
def test_parallel_edges_must_not_win_over_axes(values: dict[str, float]) -> None:
    """Energies of linear molecules would not be numbers."""
    with pytest.raises(ValueError, match=r"axis_penalty \+ window = .*, got"):
        SmoothSettings(**values)
