"""Weights of metatrain's PET under our names, and the numbers around the network."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from torch import Tensor

from ase_pet.errors import CheckpointError

_BLOCK = r"gnn_layers\.(\d+)\.trans\.layers\.(\d+)\."
_LAYER = r"gnn_layers\.(\d+)\."
_RENAMED = (
    (_BLOCK + r"attention\.input_linear\.", r"layers.\1.blocks.\2.qkv."),
    (_BLOCK + r"attention\.output_linear\.", r"layers.\1.blocks.\2.out."),
    (_BLOCK + r"(norm_attention|norm_mlp|mlp)\.", r"layers.\1.blocks.\2.\3."),
    (_BLOCK + r"center_contraction\.", r"layers.\1.blocks.\2.contract."),
    (_BLOCK + r"center_expansion\.", r"layers.\1.blocks.\2.expand."),
    (_BLOCK + r"norm_center_features\.", r"layers.\1.blocks.\2.norm_node."),
    (_BLOCK + r"center_mlp\.", r"layers.\1.blocks.\2.node_mlp."),
    (_LAYER + r"edge_embedder\.", r"layers.\1.coordinates."),
    (_LAYER + r"compress\.", r"layers.\1.compress."),
    (_LAYER + r"neighbor_embedder\.", r"layers.\1.neighbor_species."),
    (r"combination_norms\.(\d+)\.", r"combinations.\1.norm."),
    (r"combination_mlps\.(\d+)\.", r"combinations.\1.mlp."),
    (r"node_embedders\.(\d+)\.", r"node_species.\1."),
    (r"edge_embedder\.", "edge_species."),
    (r"system_conditioning\.charge_embedding\.", "conditioning.charge."),
    (r"system_conditioning\.spin_multiplicity_embedding\.", "conditioning.spin."),
    (r"system_conditioning\.project\.", "conditioning.mlp."),
    (r"long_range_featurizer\.charges_map\.", "long_range.charges."),
    (r"long_range_featurizer\.out_projection\.", "long_range.mlp."),
)
_TABLES = ("edge_species.weight", "neighbor_species.weight")
#: Without influence on any energy, or read elsewhere.
_OTHER = re.compile(
    r"additive_models\.|scaler\.|species_to_species_index$|"
    r"long_range_featurizer\.\w+_calculator\."
)
_HEAD = re.compile(r"(node|edge)_(heads|last_layers)\.(.+?)\.(\d+)\.(.+)\.(weight|bias)")


def network_weights(
    weights: Mapping[str, Tensor],
    species: Sequence[int],
    readouts: Mapping[str, str],
    path: Path,
) -> dict[str, Tensor]:
    """Translate the network's weights; every one is used, known to be unused, or refused.

    Args:
        weights: Theirs, by the names of version 16.
        species: Atomic numbers, sorted.
        readouts: Our name of the heads of each target that is wanted.
        path: The file, for messages.

    Raises:
        CheckpointError: If a weight has an unknown name, or a table too few rows.
    """
    rows = _rows(weights, species, path)
    found: dict[str, Tensor] = {}
    unknown = []
    for name, value in weights.items():
        if _OTHER.match(name):
            continue
        if head := _HEAD.fullmatch(name):
            if head[3] in readouts:
                last = "4" if head[2] == "last_layers" else head[5]
                ours = f"{readouts[head[3]]}.{head[4]}.{head[1]}s.{last}.{head[6]}"
                found[ours] = value
            continue
        renamed = [re.sub(old, new, name, count=1) for old, new in _RENAMED if re.match(old, name)]
        if not renamed:
            unknown.append(name)
            continue
        ours = renamed[0]
        if ours.endswith(_TABLES) or ours.startswith("node_species."):
            if value.dim() != 2 or value.shape[0] != len(species):
                raise CheckpointError(
                    f"{path}: {name}: expected {len(species)} rows, got {list(value.shape)}"
                )
            value = value[rows]
        found[ours] = value
    if unknown:
        raise CheckpointError(
            f"{path}: unexpected weights {sorted(unknown)[:6]}; not a PET of a supported version"
        )
    return found


def _rows(weights: Mapping[str, Tensor], species: Sequence[int], path: Path) -> list[int]:
    """Row of each species in their tables."""
    index = weights.get("species_to_species_index")
    rows = [] if index is None or index.dim() != 1 else index.tolist()
    found = [int(rows[z]) if z < len(rows) else -1 for z in species]
    if sorted(found) != list(range(len(species))):
        raise CheckpointError(
            f"{path}: species_to_species_index: does not number the elements {list(species)}"
        )
    return found


def tensor_map(buffer: Tensor, label: str, where: str) -> dict[int, float]:
    """Numbers by a label, from a serialised map of one block with one property.

    Args:
        buffer: Bytes of a zip archive of arrays.
        label: Name of the label.
        where: File and tensor, for messages.

    Raises:
        CheckpointError: If it is something else.
    """
    try:
        with zipfile.ZipFile(BytesIO(buffer.numpy().tobytes())) as archive:
            samples, values = (
                np.lib.format.read_array(BytesIO(archive.read(f"blocks/0/{k}.npy")))
                for k in ("samples", "values")
            )
            n_blocks = sum(name.endswith("/values.npy") for name in archive.namelist())
        labels = samples[label].tolist()
        numbers = np.asarray(values, dtype=np.float64)
    except (KeyError, IndexError, ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{where}: damaged or not a map of numbers: {error}") from error
    if n_blocks != 1 or numbers.shape != (len(labels), 1):
        raise CheckpointError(
            f"{where}: expected one number for each of {len(labels)} labels, got {n_blocks} "
            f"block(s) of shape {list(numbers.shape)}"
        )
    return dict(zip(labels, numbers[:, 0].tolist(), strict=True))


def composition(
    weights: Mapping[str, Tensor], target: str, species: Sequence[int], path: Path
) -> dict[int, float]:
    """Energy of each element, in the unit of the target; empty if there is none.

    Raises:
        CheckpointError: If an element has none, but another has.
    """
    found: dict[int, float] = {}
    pattern = re.compile(rf"additive_models\.\d+\.{re.escape(target)}_composition_buffer")
    for name, buffer in weights.items():
        if pattern.fullmatch(name):
            found |= tensor_map(buffer, "center_type", f"{path}: {name}")
    missing = sorted(set(species) - found.keys())
    if found and missing:
        raise CheckpointError(f"{path}: no composition energy for atomic number(s) {missing}")
    return {z: found[z] for z in species} if found else {}


def scales(
    weights: Mapping[str, Tensor], target: str, targets: Sequence[str], path: Path
) -> list[float]:
    """What a target was divided by in training: one number, or one for each row of the tables.

    Args:
        weights: Theirs.
        target: Name of the target.
        targets: Names of all targets, in order.
        path: The file, for messages.
    """
    if "scaler.scales" in weights:
        return [float(weights["scaler.scales"][list(targets).index(target)])]
    names = [f"scaler.{target}_{kind}_scaler_buffer" for kind in ("per_target", "per_property")]
    if names[0] not in weights:
        names = [f"scaler.{target}_scaler_buffer"]
    product: dict[int, float] = {}
    for name in names:
        if name in weights:
            factors = tensor_map(weights[name], "atomic_type", f"{path}: {name}")
            product = {k: v * product.get(k, 1.0) for k, v in factors.items()}
    return [product[k] for k in sorted(product)] or [1.0]


def direct_scales(
    weights: Mapping[str, Tensor],
    target: str,
    targets: Sequence[str],
    species: Sequence[int],
    path: Path,
) -> tuple[float, ...]:
    """Scale of a direct prediction for each element.

    Raises:
        CheckpointError: If there are neither one nor as many as elements.
    """
    values = scales(weights, target, targets, path)
    if len(values) == 1:
        return tuple(values * len(species))
    if len(values) != len(species):
        raise CheckpointError(
            f"{path}: {target}: expected a scale for each of {len(species)} elements, got "
            f"{len(values)}"
        )
    return tuple(values[row] for row in _rows(weights, species, path))
