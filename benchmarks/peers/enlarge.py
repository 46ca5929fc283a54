"""Write a TorchMD-NET checkpoint like a given one, with other widths and random weights.

It runs in TorchMD-NET's environment::

    python enlarge.py tensornet_o3_h64_l2.ckpt larger.ckpt embedding_dimension=128
"""

from __future__ import annotations

import sys

import torch
from torchmdnet.models.model import create_model


def main() -> None:
    """Read, change, write."""
    source, target, *changes = sys.argv[1:]
    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    hypers = checkpoint["hyper_parameters"]
    for change in changes:
        key, _, value = change.partition("=")
        hypers[key] = type(hypers[key])(value)
    torch.manual_seed(0)
    weights = create_model(dict(hypers)).state_dict()
    checkpoint["state_dict"] = {f"model.{key}": value for key, value in weights.items()}
    torch.save(checkpoint, target)


if __name__ == "__main__":
    main()
