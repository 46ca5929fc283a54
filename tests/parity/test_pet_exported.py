"""Exported models against the checkpoints that they were exported from; needs metatrain's ``mtt``.

metatrain and this package cannot share an environment: put the folder of its ``mtt`` last in PATH.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from ase_pet import load
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "pet_metatrain"
NAMES = [
    "fresh_adaptive_nc",
    "fresh_cond_zbl",
    "fresh_default",
    "fresh_legacy_postln",
    "fresh_postln_feedforward_wide",
    "fresh_residual_preln_mixed",
    "legacy_v1_layout",
]
MTT = shutil.which("mtt")

pytestmark = [
    pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"checkpoints are not here: {REFERENCE}"),
    pytest.mark.skipif(MTT is None, reason="metatrain's command mtt is not in PATH"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_is_that_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    checkpoint = REFERENCE / f"{name}.ckpt"
    subprocess.run([str(MTT), "export", str(checkpoint), "-o", str(path)], check=True)
    ours, theirs = load(path), load(checkpoint)
    assert ours.potential.backbone.hypers == theirs.potential.backbone.hypers
    assert ours.dtype == theirs.dtype
    for key in theirs.metadata.keys() - {"source"}:
        assert ours.metadata[key] == theirs.metadata[key]
    weights = dict(theirs.potential.backbone.state_dict())
    torch.testing.assert_close(dict(ours.potential.backbone.state_dict()), weights, rtol=0, atol=0)
    found = [structures(ours.species[:3])[k] for k in ("molecule", "triclinic")]
    graph = graph_of(found, ours.cutoff)
    assert torch.equal(ours.potential(graph), theirs.potential(graph))
