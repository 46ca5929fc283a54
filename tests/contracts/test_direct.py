"""Direct forces and stress keep every contract but those of derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms

from ase_pet import PETCalculator
from ase_pet.formats import Model
from ase_pet.potentials.total import Total
from ase_pet.testing import contracts
from ase_pet.testing.evaluators import Evaluator, calculator_evaluator
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_modern_pet

EVERY = structures(SPECIES)
FEW = [EVERY[name] for name in ("wire", "triclinic", "bent", "line", "dimer", "atom", "molecule")]
#: An oxygen that no other atom sees.
APART = EVERY["molecule"] + Atoms("O", [(40.0, 30.0, 20.0)])
HEADS = {"forces_scales": (0.5, 2.0, 3.0), "stress_scales": (1.0, 2.0, 0.7)}
OPTIONS: dict[str, dict[str, Any]] = {
    "local": {"ensemble": "local"},
    "global": {"ensemble": "global"},
    "paper": {"ensemble": "global", "weights": "paper"},
    "rotations": {"symmetry": "SO(3)"},
}


def evaluator(**options: Any) -> Evaluator:
    network = tiny_modern_pet(1, cutoff=2.2, messages="residual", **HEADS)
    model = Model(Total(network), "float64")
    return calculator_evaluator(PETCalculator(model, device="cpu", forces="direct", **options))


@pytest.mark.parametrize("name", OPTIONS)
def test_they_turn_with_the_structure(name: str) -> None:
    ask = evaluator(**OPTIONS[name])
    for atoms in [*FEW, APART]:
        contracts.check_rotation(ask, atoms, reflections=name != "rotations")
        contracts.check_permutation(ask, atoms)
        contracts.check_translation(ask, atoms)
        contracts.check_net_force(ask, atoms)
    contracts.check_batch(ask, FEW)


@pytest.mark.parametrize("name", ["local", "global"])
def test_crystals(name: str) -> None:
    ask = evaluator(**OPTIONS[name])
    contracts.check_handedness(ask, EVERY["triclinic"])
    if name == "local":
        contracts.check_supercell(ask, EVERY["triclinic"])
    (found,) = ask([EVERY["triclinic"]])
    assert found.virial is not None
    assert np.abs(found.virial).max() > 1e-2
    assert np.abs(found.forces).max() > 1e-2


def test_the_bare_network_does_not_pass() -> None:
    ask = evaluator(symmetry=None)
    contracts.check_net_force(ask, EVERY["molecule"])
    with pytest.raises(AssertionError, match="rotation"):
        contracts.check_rotation(ask, EVERY["molecule"])


@pytest.mark.parametrize("name", ["local", "global"])
def test_what_has_no_direction_has_no_force(name: str) -> None:
    ask = evaluator(**OPTIONS[name])
    boxed = Atoms("O", cell=[30.0, 31.0, 32.0], pbc=True)
    (alone,) = ask([boxed])
    np.testing.assert_allclose(alone.forces, 0.0, atol=1e-15)
    assert alone.virial is not None
    trace = np.trace(alone.virial) / 3.0
    assert abs(trace) > 1e-3
    np.testing.assert_allclose(alone.virial, trace * np.eye(3), atol=1e-14)
    (dimer,) = ask([EVERY["dimer"]])
    axis = EVERY["dimer"].positions[1] - EVERY["dimer"].positions[0]
    assert np.abs(dimer.forces).max() > 1e-3
    np.testing.assert_allclose(np.cross(dimer.forces, axis), 0.0, atol=1e-13)
