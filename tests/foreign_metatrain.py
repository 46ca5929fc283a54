"""Writes our modern PETs as metatrain does, so that its importer has something to read."""

from __future__ import annotations

import copyreg
import io
import lzma
import re
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ase_pet.potentials.pet import ModernPET

DATA = Path(__file__).parent / "data"
_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_THEIRS = r"gnn_layers.\1.trans.layers.\2."
_NAMES = (
    (_BLOCK + "qkv", _THEIRS + "attention.input_linear"),
    (_BLOCK + "out", _THEIRS + "attention.output_linear"),
    (_BLOCK + "contract", _THEIRS + "center_contraction"),
    (_BLOCK + "expand", _THEIRS + "center_expansion"),
    (_BLOCK + "norm_node", _THEIRS + "norm_center_features"),
    (_BLOCK + "node_mlp", _THEIRS + "center_mlp"),
    (_BLOCK, _THEIRS),
    (r"layers\.(\d+)\.coordinates", r"gnn_layers.\1.edge_embedder"),
    (r"layers\.(\d+)\.neighbor_species", r"gnn_layers.\1.neighbor_embedder"),
    (r"layers\.(\d+)\.compress", r"gnn_layers.\1.compress"),
    (r"combinations\.(\d+)\.norm", r"combination_norms.\1"),
    (r"combinations\.(\d+)\.mlp", r"combination_mlps.\1"),
    (r"node_species\.", "node_embedders."),
    (r"edge_species", "edge_embedder"),
    (r"conditioning\.charge", "system_conditioning.charge_embedding"),
    (r"conditioning\.spin", "system_conditioning.spin_multiplicity_embedding"),
    (r"conditioning\.mlp", "system_conditioning.project"),
    (r"long_range\.charges", "long_range_featurizer.charges_map"),
    (r"long_range\.mlp", "long_range_featurizer.out_projection"),
)


def serialised(label: str, labels: list[int], values: list, dtype: type = np.float64) -> Tensor:
    """Bytes of a map of numbers by label."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in (
            ("samples", np.array([(k,) for k in labels], dtype=[(label, "<i4")])),
            ("values", np.array(values, dtype=dtype)[:, None]),
        ):
            part = io.BytesIO()
            np.save(part, array)
            archive.writestr(f"blocks/0/{name}.npy", part.getvalue())
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def state_dict(net: ModernPET, target: str) -> dict[str, Tensor]:
    """Weights under the names of version 16; energies belong to ``target``."""
    found: dict[str, Tensor] = OrderedDict()
    for name, value in net.state_dict().items():
        head = re.fullmatch(r"energies\.(\d+)\.(node|edge)s\.(\d)\.(weight|bias)", name)
        if head:
            k, kind, place, part = head.groups()
            last = f"{kind}_last_layers.{target}.{k}.{target}___0.{part}"
            found[last if place == "4" else f"{kind}_heads.{target}.{k}.{place}.{part}"] = value
            continue
        old, new = next(pair for pair in _NAMES if re.match(pair[0], name))
        found[re.sub(old, new, name, count=1)] = value
    index = torch.full((max(net.species) + 1,), -1)
    index[list(net.species)] = torch.arange(len(net.species))
    found["species_to_species_index"] = index
    if net.long_range is not None:
        found["long_range_featurizer.p3m_calculator.potential.smearing"] = torch.tensor(0.0)
    return {
        name if name.startswith("long_range") else f"backend.{name}": value
        for name, value in found.items()
    }


def hypers(net: ModernPET) -> dict[str, Any]:
    """Hyperparameters under their names."""
    from ase_pet.formats.importers.metatrain import _LONG_RANGE, _SAME

    far = {theirs: getattr(net.hypers, ours) for ours, theirs, _ in _LONG_RANGE}
    far |= {"enable": net.hypers.long_range, "use_ewald": True}
    found = {theirs: getattr(net.hypers, ours) for ours, theirs, _ in _SAME}
    adaptive = net.hypers.n_neighbors or None
    return {**found, "num_neighbors_adaptive": adaptive, "zbl": False, "long_range": far}


def checkpoint(
    net: ModernPET,
    *,
    targets: dict[str, dict[str, Any]] | None = None,
    energies: dict[int, float] | None = None,
    scale: float = 1.0,
    target: str = "energy",
) -> dict[str, Any]:
    """The content of a file of version 16, with plain dictionaries where classes will be."""
    targets = targets or {target: {"quantity": "energy", "unit": "eV"}}
    weights = state_dict(net, target)
    weights[f"scaler.{target}_scaler_buffer"] = serialised("atomic_type", [-1], [scale])
    if energies:
        name = f"additive_models.0.{target}_composition_buffer"
        weights[name] = serialised("center_type", list(energies), list(energies.values()))
    info = {"length_unit": "angstrom", "_atomic_types": list(net.species), "targets": targets}
    return {
        "architecture_name": "pet",
        "model_ckpt_version": 16,
        "metadata": ('{"name": "made up", "references": {}}', "ModelMetadata"),
        "model_data": {"model_hypers": hypers(net), "dataset_info": info},
        "model_state_dict": weights,
        "best_model_state_dict": None,
    }


def write(content: dict[str, Any], path: Path) -> Path:
    """Save it with objects of the foreign classes in their places."""
    places = {
        "DatasetInfo": "metatrain.utils.data.dataset",
        "TargetInfo": "metatrain.utils.data.target_info",
        "ScriptObject": "torch",
    }
    packages = ("metatrain", "metatrain.utils", "metatrain.utils.data")
    with pytest.MonkeyPatch.context() as patch:
        for module in (*packages, places["DatasetInfo"], places["TargetInfo"]):
            patch.setitem(sys.modules, module, ModuleType(module))
        classes = {}
        for name, module in places.items():
            members = {"__module__": module, "__reduce_ex__": _reduce}
            classes[name] = type(name, (), members)
            patch.setattr(sys.modules[module], name, classes[name], raising=False)
        torch.save(_with_classes(content, classes), path)
    return path


def exported_sample(name: str, folder: Path) -> Path:
    """One of the exported models of ``tests/data``, unpacked."""
    path = folder / f"{name}.pt"
    path.write_bytes(lzma.decompress((DATA / f"{name}.pt.xz").read_bytes()))
    return path


def _with_classes(content: dict[str, Any], classes: dict[str, Any]) -> dict[str, Any]:
    def made(name: str, state: object) -> Any:
        instance = classes[name]()
        instance.held = state
        return instance

    found = dict(content)
    if "wrapped_model_checkpoint" in content:
        found["wrapped_model_checkpoint"] = _with_classes(
            content["wrapped_model_checkpoint"], classes
        )
    if "model_data" in content:
        info = dict(content["model_data"]["dataset_info"])
        targets = {k: made("TargetInfo", v) for k, v in info["targets"].items()}
        info = made("DatasetInfo", {**info, "targets": targets})
        found["model_data"] = {**content["model_data"], "dataset_info": info}
        found["metadata"] = made("ScriptObject", content["metadata"])
    return found


def _reduce(self: Any, protocol: int) -> Any:
    return copyreg.__newobj__, (type(self),), self.held
