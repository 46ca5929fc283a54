"""Checkpoints: the project's own and those of other projects, recognised by content."""

from __future__ import annotations

from pathlib import Path

import torch

from ase_pet.errors import CheckpointError
from ase_pet.formats import native
from ase_pet.formats.importers import (
    matgl,
    metatrain,
    metatrain_exported,
    pet_original,
    torchmd_net,
)
from ase_pet.formats.model import Model
from ase_pet.formats.script_file import holds_program
from ase_pet.formats.shipped import locate, shipped_models
from ase_pet.formats.torch_file import read_plain

__all__ = ["Model", "load"]

_SUPPORTED = (
    "an ase_pet checkpoint (one file), the folder of a model trained with the original PET "
    f"({pet_original.HYPERS}, {pet_original.SPECIES}, *_state_dict), the folder of a TensorNet "
    f"potential of MatGL ({matgl.STATE}, {matgl.JSON}), a TensorNet checkpoint of TorchMD-NET, or "
    "a PET of metatrain (a checkpoint or an exported model)"
)


@torch.inference_mode(mode=False)  # in which a caller may be: such weights give no forces
def load(
    path: str | Path,
    *,
    target: int | str | None = None,
    length_unit: str | None = None,
    energy_unit: str | None = None,
) -> Model:
    """Read a trained model in any supported format; nothing in its files is executed.

    Args:
        path: A file or folder, or the name of a model that comes with the package, such as
            ``"pet-si"``. The format is recognised by content, not by the file's name.
        target: For a model trained on several targets at once: which one, from 0; for one of
            metatrain its name.
        length_unit: Unit of the data that a TorchMD-NET checkpoint was trained on, Å if not given.
        energy_unit: Likewise, eV if not given.

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
    is_folder = path.is_dir() or matgl.is_description(path)
    exported = not is_folder and holds_program(path)
    content = None if is_folder or exported else read_plain(path, metatrain.RECORDS)
    if exported or metatrain.is_checkpoint(content):
        _refuse_options(path, length_unit=length_unit, energy_unit=energy_unit)
        if target is not None and not isinstance(target, str):
            raise CheckpointError(
                f"{path}: target: expected the name of an energy, such as 'energy', got {target!r}"
            )
        return metatrain_exported.load(path, target) if exported else metatrain.load(path, target)
    if torchmd_net.is_checkpoint(content):
        _refuse_options(path, target=target)
        return torchmd_net.load(path, length_unit=length_unit, energy_unit=energy_unit)
    _refuse_options(path, length_unit=length_unit, energy_unit=energy_unit)
    if pet_original.matches(path) and not native.is_native(content):
        if isinstance(target, str):
            raise CheckpointError(f"{path}: target: expected a number from 0, got {target!r}")
        return pet_original.load(path, target)
    _refuse_options(path, target=target)
    if matgl.is_part(content) or (is_folder and matgl.matches(path)):
        return matgl.load(path)
    if path.is_dir():
        found = sorted(p.name for p in path.iterdir())[:6]
        raise CheckpointError(
            f"{path}: a folder without {pet_original.HYPERS} (it holds {found}); expected "
            f"{_SUPPORTED}"
        )
    return native.read(path)


def _refuse_options(path: Path, **options: object) -> None:
    """Refuse what a format leaves no choice of."""
    askers = "models with several targets (the original PET, metatrain)", "those of TorchMD-NET"
    for name, value in options.items():
        if value is not None:
            asker = askers[0] if name == "target" else askers[1]
            raise CheckpointError(
                f"{path}: {name}: only {asker} ask for one, got {name}={value}; other files hold "
                "the one that was chosen when they were written"
            )
