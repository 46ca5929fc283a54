"""The demo runs from end to end; on a tiny untrained model, for its numbers are not the point."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ase_pet.formats import Model, native
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo(tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    hypers = PETHypers(cutoff=3.0, d_model=4, n_heads=1, d_feedforward=4, n_attention_layers=1)
    potential = Total(PET(hypers, [14]).double(), Composition({14: -1.0}))
    native.save(Model(potential, dtype="float64", architecture="pet"), tmp_path / "model.pt")
    module.MODEL, module.OUT = tmp_path / "model.pt", tmp_path / "demo"
    module.MD_STEPS, module.MAX_STEPS = 4, 3
    return module


def test_it_runs_and_draws(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    demo.OUT.mkdir()
    demo.rotations()
    demo.dynamics()
    demo.spinning_cluster()
    assert demo.relaxation() > 0
    demo.phonons(5.43)
    printed = capsys.readouterr().out
    for words in ("ECSE", "drift", "angular momentum", "lattice constant", "triplet"):
        assert words in printed
    for picture in ("nvt/md.png", "nve/md.png", "relax/relax.png", "phonons/bands.png"):
        assert (demo.OUT / picture).stat().st_size > 5000


def test_a_missing_model_is_named(demo: ModuleType, tmp_path: Path) -> None:
    demo.MODEL = tmp_path / "none.pt"
    with pytest.raises(SystemExit, match=r"none\.pt is missing"):
        demo.main()
