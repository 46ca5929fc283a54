"""Write a PET of metatrain with the sizes of its defaults and random weights, and export it.

It runs in metatrain's environment; without hyperparameters the file has some 10 MB::

    python make_pet.py pet.ckpt pet.pt d_pet=128
    python make_pet.py --export pet.ckpt pet.pt
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from metatrain.pet import PET
from metatrain.utils.architectures import get_default_hypers
from metatrain.utils.data import DatasetInfo
from metatrain.utils.data.target_info import get_energy_target_info
from metatrain.utils.io import load_model

ELEMENTS = [1, 6, 7, 8, 11, 12, 14, 17, 29]


def checkpoint(path: str, changes: list[str]) -> None:
    """Write a checkpoint as after training."""
    hypers: dict[str, Any] = get_default_hypers("pet")["model"]
    for change in changes:
        key, _, value = change.partition("=")
        hypers[key] = json.loads(value)
    torch.manual_seed(0)
    energy = get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"})
    model = PET(hypers, DatasetInfo("angstrom", ELEMENTS, {"energy": energy}))
    content = model.get_checkpoint()
    content["best_model_state_dict"] = content["model_state_dict"]
    content["train_hypers"] = {}
    torch.save(content, path)


def main() -> None:
    """Make or take a checkpoint, export it."""
    arguments = sys.argv[1:]
    if arguments[0] == "--export":
        source, target = arguments[1:]
    else:
        source, target, *changes = arguments
        checkpoint(source, changes)
    load_model(source).export().save(target)


if __name__ == "__main__":
    main()
