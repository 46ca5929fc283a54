"""Preferences of lean weights: where other neighbours lie tells candidates apart, and fades."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ase import Atoms

from ase_pet.ecse import SmoothSettings
from ase_pet.ecse.settings import settings
from ase_pet.ecse.smooth import candidates
from ase_pet.testing.evaluators import graph_of

CUTOFF = 2.6
LEAN = settings("lean")
assert isinstance(LEAN, SmoothSettings)


def scores_of_center(given: SmoothSettings, distance: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of the first atom's pairs, and whether they have an edge to the last atom."""
    atoms = Atoms("COHH", [[0, 0, 0], [1.2, 0, 0], [0.1, 1.1, 0.3], [0, 0, distance]])
    graph = graph_of([atoms], CUTOFF)
    group = torch.arange(len(atoms))
    found = candidates(graph, group, len(atoms), CUTOFF, given, mirror=True)
    n = len(found.second)
    ends = graph.others[torch.stack([found.first[:n], found.second])]
    mine = found.owners[:n] == 0
    return found.scores[:n][mine], (ends == 3).any(0)[mine]


@pytest.mark.parametrize("gap", [1e-3, 1e-6])
def test_preferences_fade_at_the_cutoff(gap: float) -> None:
    """A pair about to leave has no advantage, however many neighbours it points to."""
    plain = replace(LEAN, preference=0.0, prominence=0.0)
    without, leaving = scores_of_center(plain, CUTOFF - gap)
    preferred, _ = scores_of_center(replace(LEAN, prominence=0.0), CUTOFF - gap)
    advantage = (without - preferred).abs()
    assert bool(leaving.any())
    assert float(advantage[leaving].max()) < 1e3 * gap**3
    assert float(advantage[~leaving].max()) > 0.3


def test_mirror_images_are_told_apart() -> None:
    preferred, _ = scores_of_center(LEAN, 1.4)
    right, left = preferred.chunk(2)
    assert float((right - left).abs().min()) > 0.1
