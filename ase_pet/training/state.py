"""The state of an interrupted run, on disk whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ase_pet.errors import CheckpointError
from ase_pet.formats.torch_file import read_plain, write_plain
from ase_pet.training.config import TrainConfig
from ase_pet.training.dataset import Split, fingerprint

#: Entries of a recipe that may differ when a run continues: they move files, or say when to save.
_FREE = {"name", "output", "save_every", "provenance", "device"}
_ANEW = "start anew with --no-resume (resume=False)"


def run_fingerprint(config: TrainConfig, split: Split) -> str:
    """Hash of all that a run's numbers depend on: recipe and training data, not where they lie."""
    recipe = config.model_dump(mode="json", exclude=_FREE | {"data"})
    digest = hashlib.sha256(repr(recipe).encode())
    for frames in (split.train, split.validation):
        for atoms in frames:
            digest.update(fingerprint(atoms).encode())
            digest.update(atoms.get_forces().tobytes())
    return digest.hexdigest()


def save_state(state: dict[str, Any], path: Path, run: str) -> None:
    """Write a state; a kill at any moment leaves either the old or the new one.

    Args:
        state: Tensors and plain containers.
        path: File to write or replace.
        run: Fingerprint of the run.
    """
    write_plain(path, {"run": run, **state})


def load_state(path: Path, run: str) -> dict[str, Any]:
    """Read a state.

    Raises:
        CheckpointError: If the file is damaged.
        ValueError: If it belongs to another recipe or other data.
    """
    try:
        state = read_plain(path)
    except CheckpointError as error:
        raise damaged(path) from error
    if not isinstance(state, dict) or state.get("run") != run:
        raise ValueError(
            f"{path}: belongs to a run with another recipe or other data; continue with the old "
            f"recipe, choose another `output`, or {_ANEW}"
        )
    return state


def damaged(path: Path) -> CheckpointError:
    """The error that says that a state is not whole, and what to do."""
    return CheckpointError(f"{path}: damaged or incomplete; delete it, or {_ANEW}")
