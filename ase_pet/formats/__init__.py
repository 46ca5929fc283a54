"""Checkpoints: the project's own and those of other projects, recognised by content."""

from __future__ import annotations

from pathlib import Path

from ase_pet.errors import CheckpointError
from ase_pet.formats import native
from ase_pet.formats.importers import pet_original
from ase_pet.formats.model import Model
from ase_pet.formats.shipped import locate, shipped_models
from ase_pet.formats.torch_file import read_plain

__all__ = ["Model", "load"]

_SUPPORTED = (
    "an ase_pet checkpoint (one file), or the folder of a model trained with the original PET "
    f"({pet_original.HYPERS}, {pet_original.SPECIES}, *_state_dict)"
)


def load(path: str | Path, *, target: int | None = None) -> Model:
    """Read a trained model in any supported format; nothing in its files is executed.

    Args:
        path: A file or folder, or the name of a model that comes with the package, such as
            ``"pet-si"``. The format is recognised by content, not by the file's name.
        target: For a model trained on several targets at once: which one, from 0.

    Returns:
        The bare potential and what is known of it.

    Raises:
        CheckpointError: If the path is missing, damaged, of an unknown format, or asks for
            something that is not supported; says what to do.
    """
    path = locate(path)
    if not path.exists():
        names = ", ".join(shipped_models()) or "none"
        raise CheckpointError(
            f"{path}: no such file or folder; check the path, or give the name of a model that "
            f"comes with the package ({names})"
        )
    if pet_original.matches(path) and not _is_native(path):
        return pet_original.load(path, target)
    if path.is_dir():
        found = sorted(p.name for p in path.iterdir())[:6]
        raise CheckpointError(
            f"{path}: a folder without {pet_original.HYPERS} (it holds {found}); expected "
            f"{_SUPPORTED}"
        )
    model = native.read(path)
    if target is not None:
        raise CheckpointError(
            f"{path}: target: only folders of the original PET ask for one, got target={target}; "
            "an ase_pet checkpoint holds the one that was chosen when it was written"
        )
    return model


def _is_native(path: Path) -> bool:
    return path.is_file() and native.is_native(read_plain(path))
