"""Older checkpoints of metatrain's PET, brought to the names and hyperparameters of version 16."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ase_pet.errors import CheckpointError

NEWEST = 16
#: A first name of this kind tells the large models of version 7 from the standard ones.
_LARGE = "node_embedding.weight"

#: Hyperparameters that a version brought, with what older files mean.
_ADDED: tuple[tuple[int, dict[str, Any]], ...] = (
    (10, {"num_neighbors_adaptive": None, "cutoff_function": "Cosine"}),
    (11, {"attention_temperature": 1.0}),
    (12, {"adaptive_cutoff_method": "grid"}),
    (15, {"system_conditioning": False, "max_charge": 10, "max_spin_multiplicity": 10}),
)
_STANDARD = {
    "normalization": "LayerNorm",
    "activation": "SiLU",
    "transformer_type": "PostLN",
    "featurizer_type": "residual",
}
_WIDE = {
    "normalization": "RMSNorm",
    "activation": "SwiGLU",
    "transformer_type": "PreLN",
    "featurizer_type": "feedforward",
}
_RENAMED = (
    (r"embedding\.weight", "edge_embedder.weight"),
    (r"edge_embedding\.weight", "edge_embedder.weight"),
    (r"node_embedding\.weight", "node_embedders.0.weight"),
    (r"gnn_layers\.(\d+)\.node_embedder\.weight", r"node_embedders.\1.weight"),
    (r"(gnn_layers\..*\.mlp)\.0\.(weight|bias)", r"\1.w_in.\2"),
    (r"(gnn_layers\..*\.mlp)\.3\.(weight|bias)", r"\1.w_out.\2"),
    (r"combination_rmsnorms\.(.*)", r"combination_norms.\1"),
)
#: Tables of the standard models up to version 7 have a row more, for padding.
_TABLES = re.compile(
    r"edge_embedder\.weight|node_embedders\.\d+\.weight|gnn_layers\.\d+\.neighbor_embedder\.weight"
)


def upgraded(checkpoint: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Hyperparameters and weights of a checkpoint as version 16 would have them.

    Args:
        checkpoint: Its content.
        path: The file, for messages.

    Raises:
        CheckpointError: If the version is unknown, or hyperparameters or weights are missing.
    """
    version = checkpoint.get("model_ckpt_version")
    if type(version) is not int or not 1 <= version <= NEWEST:
        newer = type(version) is int and version > NEWEST
        raise CheckpointError(
            f"{path}: model_ckpt_version: expected 1 to {NEWEST}, got {version!r}"
            + ("; written by a newer metatrain, upgrade ase_pet" if newer else "")
        )
    data = checkpoint.get("model_data")
    given = data.get("model_hypers") if isinstance(data, dict) else None
    last, best = (checkpoint.get(k) for k in ("model_state_dict", "best_model_state_dict"))
    large = version < 8 and isinstance(last, dict) and _LARGE in last
    state = last if large else best or last
    if not isinstance(given, dict) or not isinstance(state, dict):
        raise CheckpointError(f"{path}: incomplete: no hyperparameters or no weights")
    weights = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    hypers = _hypers(given, version, large=large)
    # Conditioning is there twice since version 16, under its old name and with a prefix.
    prefix = "backend."
    weights = {k: v for k, v in weights.items() if not k.startswith(prefix)} | {
        k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)
    }
    if version >= 8:
        return hypers, weights
    weights = {_renamed(name): value for name, value in weights.items()}
    if not large:
        weights = {k: v[:-1] if _TABLES.fullmatch(k) else v for k, v in weights.items()}
    return hypers, weights


def _hypers(given: Mapping[str, Any], version: int, *, large: bool) -> dict[str, Any]:
    added: dict[str, Any] = {}
    if large:
        # Their widths are fixed multiples, whatever the file says.
        width = given["d_pet"]
        given = {**given, **_WIDE, "d_node": 4 * width, "d_feedforward": 2 * width}
    elif version < 8:
        added |= {**_STANDARD, "d_node": given.get("d_pet")}
    for since, values in _ADDED:
        added |= values if version < since else {}
    if version < 14:
        added["cutoff_width_adaptive"] = given.get("cutoff_width")
    return {**added, **given}


def _renamed(name: str) -> str:
    for old, new in _RENAMED:
        if re.fullmatch(old, name):
            return re.sub(old, new, name)
    return name
