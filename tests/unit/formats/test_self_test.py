from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ase_pet.data import Results, System
from ase_pet.formats.self_test import (
    check_self_test,
    deviations,
    make_self_test,
    structure_of,
)

SETTINGS = {"symmetry": "O(3)", "ensemble": "local", "weights": "smooth"}


def system(edge: float = 2.0) -> System:
    return System(
        torch.tensor([[0.0, 0, 0], [1, 0, 0]], dtype=torch.float64),
        torch.tensor([1, 6]),
        edge * torch.eye(3, dtype=torch.float64)[None],
        torch.tensor([[edge > 0] * 3]),
        torch.tensor([0, 0]),
    )


def results(seed: int) -> Results:
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    return Results(draw(2), draw(2, 3), draw(2, 3, 3), draw(1), draw(1, 3, 3))


def test_what_is_made_is_complete_and_holds_the_results() -> None:
    bare, symmetrized = results(1), results(2)
    made = make_self_test(system(), bare, symmetrized, **SETTINGS)
    check_self_test(made, (1, 6), (), "here")
    assert made["bare"]["energy"] == float(bare.energy)
    assert torch.equal(made["symmetrized"]["stress"], symmetrized.virial[0] / 8.0)
    assert made["symmetrized"]["ensemble"] == "local"
    assert torch.equal(structure_of(made).positions, system().positions)


def test_deviations_are_the_largest_differences() -> None:
    bare, symmetrized = results(1), results(2)
    made = make_self_test(system(), bare, symmetrized, **SETTINGS)
    assert set(deviations(made, bare, symmetrized)["bare"].values()) == {0.0}
    forces = symmetrized.forces.clone()
    forces[1, 2] += 0.25
    moved = replace(symmetrized, forces=forces, virial=symmetrized.virial + 0.8)
    found = deviations(made, bare, moved)
    assert found["symmetrized"]["forces"] == pytest.approx(0.25)
    assert found["symmetrized"]["stress"] == pytest.approx(0.1)
    assert found["symmetrized"]["energy"] == 0.0


def test_without_a_volume_there_is_no_stress() -> None:
    made = make_self_test(system(0.0), results(1), results(2), **SETTINGS)
    assert made["bare"]["stress"] is None
    check_self_test(made, (1, 6), (), "here")
    assert set(deviations(made, results(1), results(2))["bare"]) == {"energy", "forces"}


def test_one_structure_is_needed() -> None:
    pair = System.cat([system(), system()])
    with pytest.raises(ValueError, match="expected one structure, got 2"):
        make_self_test(pair, results(1), results(2), **SETTINGS)
