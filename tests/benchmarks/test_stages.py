"""Stages of a step: they name functions that exist, add up, and leave the library as it was."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import pytest
from ase.build import bulk

from ase_pet import PETCalculator

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import stages

    return stages


@pytest.mark.parametrize("symmetry", [None, "O(3)"])
def test_stages_of_a_step_add_up_to_it(stages, symmetry):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = PETCalculator("pet-si", symmetry=symmetry)
    start = time.perf_counter()
    with stages.Stages() as counted:
        atoms.get_forces()
    within = time.perf_counter() - start
    seconds = counted.seconds
    busy = {name for name, s in seconds.items() if s > 0.0}
    frames = {"frames"} if symmetry else set()
    assert busy == {"neighbours", "forward", "backward", "rest"} | frames
    assert 0.0 < sum(seconds.values()) <= within


def test_the_library_is_left_as_it_was(stages):
    def functions():
        return [getattr(owner, name) for owner, name, _ in stages.FUNCTIONS]

    def fail():
        with stages.Stages():
            assert not set(functions()) & set(before)
            raise ValueError("in a step")

    before = functions()
    with pytest.raises(ValueError, match="in a step"):
        fail()
    assert functions() == before


def test_what_a_function_calls_of_another_stage_counts_there(stages, monkeypatch):
    times = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr(stages, "_now", lambda: next(times))
    monkeypatch.setattr(stages, "FUNCTIONS", ())
    with stages.Stages() as counted:
        inner = counted._timed(lambda: None, "forward")
        counted._timed(inner, "frames")()
    # 1 s before, 2 s until the inner one, 3 s within it, 4 s after it, 5 s at the end
    assert counted.seconds == {
        "neighbours": 0.0,
        "frames": 2.0 + 4.0,
        "forward": 3.0,
        "backward": 0.0,
        "rest": 1.0 + 5.0,
    }
