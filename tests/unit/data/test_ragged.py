from __future__ import annotations

import torch

from ase_pet.data import run_index


def test_run_index_counts_within_each_run() -> None:
    assert run_index(torch.tensor([2, 0, 3, 1])).tolist() == [0, 1, 0, 1, 2, 0]
    assert run_index(torch.tensor([0, 0])).tolist() == []
    assert run_index(torch.tensor([], dtype=torch.int64)).tolist() == []
