"""A small model of carbon in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ase_pet.formats import Model, native
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.total import Total
from tests.tiny import SPECIES, tiny_pet


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    potential = Total(tiny_pet(), Composition(dict.fromkeys(SPECIES, -1.0)))
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    native.save(Model(potential, "float64", {"rotations": "atom"}), path)
    return path
