"""The report of the benchmarks: exponents, goals and tables from rows that are known."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from ase_pet.ecse.choice import Choice

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import report

    return report


def row(way: str, ms: float, *, model="PET, 1 layer", structure="water 192", **more):
    n = int(structure.split()[1])
    base = {"model": model, "structure": structure, "atoms": n, "way": way, "copies": 1}
    return {**base, "ms": ms, "ratio": ms / 10, "estimated": False, **more}


def test_exponents_come_from_measured_silicon_alone(report):
    rows = [
        row("bare", 2.0 * n**1.05, structure=f"Si {n}", MB=0.1 * n) for n in (8, 512, 1000, 4096)
    ]
    rows[0]["ms"] = 1e6  # below 512 atoms
    rows += [row("bare", 1e6, structure="Si 1728", estimated=True), row("bare", 1e6)]
    (found,) = report.slopes(rows)
    assert found["time"] == pytest.approx(1.05)
    assert found["memory"] == pytest.approx(1.0)
    assert found["atoms"] == "512 to 4096"


def test_two_sizes_have_no_exponent(report):
    assert report.slopes([row("bare", n, structure=f"Si {n}") for n in (512, 1000)]) == []


def test_what_auto_takes_is_compared(report):
    rows = [row("O(3), local", 35.0), row("O(3), shared", 30.0), row("SO(3), local", 20.0)]
    assert report.taken(rows, "PET, 1 layer", "water 192", "O(3)")["way"] == "O(3), local"
    assert report.taken(rows[1:], "PET, 1 layer", "water 192", "O(3)") is None
    for name, layers in (("PET, 1 layer", 1), ("PET, 2 layers", 2)):
        network = SimpleNamespace(n_layers=layers, cutoff=5.0)
        choice = Choice(ensemble="auto", weights="auto", invariant_atoms=False)
        assert choice.way(network, 216, periodic=True).ensemble == report.TAKEN[name]


def test_goals_say_what_is_met_missed_and_only_estimated(report):
    rows = [row("O(3), local", 30.0, residual=1e-9), row("SO(3), local", 25.0)]
    rows += [row("grid of 84", 840.0, residual=1e-3), row("grid of 84, metatomic", 200.0)]
    two = {"model": "PET, 2 layers", "structure": "Si 216"}
    rows += [row("O(3), shared", 50.0, estimated=True, **two)]
    found = {line[0]: line[1:] for line in report.goals({"price": {"rows": rows}})}
    assert found["O(3) over bare, PET, 1 layer, water 192"][:3] == ["≤ 4", 3.0, "met"]
    assert found["SO(3) over bare, PET, 1 layer, water 192"][2] == "missed"
    assert found["O(3) over bare, PET, 2 layers, Si 216"][2] == "estimate"
    asked, times, met, where = found["grid of 84 over O(3), PET, 1 layer, water 192"]
    assert (asked, times, met) == ("≥ 8", 28.0, "met")
    assert "1e-09 and 1e-03" in where
    assert found["grid of 84, metatomic over O(3), PET, 1 layer, water 192"][2] == "missed"


def test_the_closest_size_decides_whether_ours_is_ahead(report):
    rows = [
        {"model": "m", "code": code, "atoms": n, "threads": threads, "ours / this": ratio}
        for code, n, threads, ratio in [
            ("matgl", 8, 1, 0.5),
            ("matgl", 64, 1, 0.8),
            ("matgl", 64, 2, 2.0),
            ("matgl", 1000, 1, 3.0),
            ("ase_pet, skin 0", 64, 1, 1.5),
            ("torchmdnet", 8, 1, 1.25),
        ]
    ]
    matgl, torchmdnet = report.goals({"tensornet": {"rows": rows}})
    assert matgl[2:4] == [1.25, "met"]
    assert "64 atoms" in matgl[4]
    assert torchmdnet[2:4] == [0.8, "missed"]


def test_overhead_is_all_but_forward_and_backward(report):
    times = {"neighbours": 1.0, "frames": 2.0, "forward": 40.0, "backward": 56.0, "rest": 1.0}
    rows = [row("bare", 100.0, structure="Si 512", stages=times)]
    rows += [
        row("bare", 100.0, model="TensorNet", structure="Si 512", stages={**times, "rest": 3.0})
    ]
    pet, tensornet = report.overhead_goals(rows)
    assert pet[2] == pytest.approx(4.0)
    assert pet[3] == "met"
    assert tensornet[0] == "all but the network, TensorNet, 512 atoms, %"
    assert tensornet[2:4] == [pytest.approx(100 * 6 / 102), "missed"]


def test_results_of_any_shape_become_tables(report):
    nested = {"a": {"x": {"s": 1.5, "eV": 2.0}, "y": {"s": 3.0, "eV": 4.0}}, "long": [0] * 7}
    text = report.anything(nested)
    assert "|  | s | eV |" in text
    assert "| a, x | 1.5 | 2 |" in text
    assert "long" not in text
    assert "| 8 | 12,345 |" in report.anything({"columns": ["N", "ms"], "rows": [[8, 12345.0]]})
    listed = report.anything({"rows": [{"code": "p|q", "ms": 0.001234, "list": [1]}]})
    assert "| code | ms |" in listed
    assert "| p\\|q | 0.00123 |" in listed
