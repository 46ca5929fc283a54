"""The class that stands in for EMT."""

from __future__ import annotations

import os
from typing import Any

import torch

from ase_pet import PETCalculator, load
from tests.ase_suite.replacement import CHECKPOINT

torch.set_num_threads(1)
_MODEL = load(os.environ[CHECKPOINT])


class EMT(PETCalculator):
    """PETCalculator, created as EMT is: without naming a model.

    It computes in float64, because the tests' tolerances are those of an analytic potential.
    """

    nolabel = True  # as EMT says to ASE's command line: no ``label`` among the arguments

    def __init__(self, **options: Any) -> None:
        super().__init__(_MODEL, **{"dtype": "float64", **options})
