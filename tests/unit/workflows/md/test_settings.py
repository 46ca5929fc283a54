"""Settings that make no sense are refused; the others say what happens when."""

from __future__ import annotations

import pytest

from ase_pet.workflows.md import MDSettings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dynamics": "nvt"}, "dynamics: expected one of"),
        ({"steps": 0}, "steps: expected a positive number, got 0"),
        ({"time_step": float("nan")}, "time_step: expected a positive"),
        ({"dynamics": "langevin"}, "temperature: 'langevin' needs one"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"temperature": 1e5}, "temperature: expected 0 < temperature < 10000"),
        ({"end_temperature": 300.0}, "end_temperature: 'nve' has no thermostat"),
        ({"pressure": 1.0}, "pressure: 'nve' keeps the cell"),
        ({"dynamics": "mtk-full", "temperature": 300.0}, "'mtk-full' needs one in GPa"),
        ({"format": "xyz"}, "format: expected one of"),
        ({"equilibration": -1}, "equilibration: expected 0 or more"),
        ({"max_gap": 0.0}, "max_gap: expected a positive"),
        ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds: expected 0 or more"),
    ],
)
def test_settings_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MDSettings(**options)


def test_a_ramp_begins_after_the_equilibration() -> None:
    settings = MDSettings(
        "langevin", steps=10, equilibration=5, temperature=100.0, end_temperature=300.0
    )
    found = [settings.temperature_at(step) for step in (0, 5, 10, 15, 16)]
    assert found == [100.0, 100.0, 200.0, 300.0, 300.0]
    assert MDSettings(temperature=50.0).temperature_at(7) == 50.0


def test_records_are_counted_from_the_end_of_the_equilibration() -> None:
    settings = MDSettings(steps=10, equilibration=5, interval=4)
    assert [step for step in range(16) if settings.is_recorded(step)] == [1, 5, 9, 13]
    assert MDSettings(steps=3, interval=10).every == 3
