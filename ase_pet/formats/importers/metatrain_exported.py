"""Importer of models that metatrain exported (``model.pt``), of all versions of its PET.

Such a file is a TorchScript archive of an ``AtomisticModel`` of metatomic that holds the PET, or a
wrapper that predicts uncertainties and holds it. Its attributes are the hyperparameters, elements,
targets and weights of a checkpoint, which is put together from them; the program is not read. What
differs from the checkpoint: up to version 6 a model in single precision has its scale so, too.

Source:
    https://github.com/metatensor/metatrain
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.formats.files import parse_json
from ase_pet.formats.importers import metatrain
from ase_pet.formats.model import Model
from ase_pet.formats.script_file import ScriptRecord, read_program, tensors_of
from ase_pet.formats.torch_file import Record

_EXPORTED = "AtomisticModel", "MetatensorAtomisticModel"
_WRAPPER = "LLPRUncertaintyModel"
_PET = "metatrain.pet.model.PET"
#: Layouts of weights, by the first version that has them.
_BACKEND, _NAMED, _OLDEST = 16, 8, 7
#: Likewise of the wrapper.
_LAYERS, _PLAIN = 4, 2
#: What missing or other attributes raise, and text nested without end.
_DAMAGED = (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError)


def load(path: str | Path, target: str | None = None) -> Model:
    """Read an exported model of metatrain.

    Args:
        path: The ``model.pt`` file.
        target: Name of the energy to predict, of a model that was trained on several.

    Raises:
        CheckpointError: If the file is damaged, another TorchScript program, a model of another
            architecture, or asks for something that is not supported, or has no such energy.
    """
    path = Path(path)
    program = read_program(path)
    if program.kind.rpartition(".")[2] not in _EXPORTED:
        raise CheckpointError(
            f"{path}: a TorchScript program of {program.kind[:100]}; of such programs only models "
            "exported by metatrain can be imported"
        )
    try:
        content = _as_wrapper(program, path)
    except _DAMAGED as error:
        raise CheckpointError(
            f"{path}: damaged or not a PET of a supported version: {error!r}"
        ) from error
    model = metatrain.build_model(content, target, path)
    model.metadata["source"] |= {"format": "exported model of metatrain", "version": None}
    return model


def _as_wrapper(program: ScriptRecord, path: Path) -> dict[str, Any]:
    """The content of the checkpoint that a model was exported from, wrapped or not."""
    module = program.state["module"]
    if module.kind.rpartition(".")[2] == _WRAPPER:
        own = ScriptRecord(module.kind)
        own.state = {name: value for name, value in module.state.items() if name != "model"}
        weights = tensors_of(own)
        return {
            "architecture_name": "llpr",
            "model_ckpt_version": _LAYERS if "llpr_ensemble_layers" in own.state else _PLAIN,
            "model_state_dict": weights,
            "state_dict": weights,
            "wrapped_model_checkpoint": _as_checkpoint(module.state["model"], program, path),
        }
    return _as_checkpoint(module, program, path)


def _as_checkpoint(module: ScriptRecord, program: ScriptRecord, path: Path) -> dict[str, Any]:
    """The content of the checkpoint of a PET, without what only training needs."""
    if module.kind != _PET:
        raise CheckpointError(
            f"{path}: architecture: expected {_PET}, got {module.kind[:100]}; only PET models of "
            "metatrain can be imported"
        )
    pet, weights = module.state, tensors_of(module)
    backend = pet.get("backend")
    net = pet | backend.state if backend else pet
    options = {
        name: net[name]
        for name in metatrain.HYPERPARAMETERS
        if isinstance(net.get(name, module), bool | int | float | str | None)
    }
    version = _BACKEND if backend else _NAMED if "d_pet" in options else _OLDEST
    if version == _OLDEST:
        options |= _widths(net, weights)
    metadata = Record()
    metadata.state = ((pet.get("metadata") or program.state["_metadata"]).state,)
    return {
        "architecture_name": "pet",
        "model_ckpt_version": version,
        "metadata": metadata,
        "model_data": {
            "model_hypers": options | _conditioning(net) | _additions(pet),
            "dataset_info": pet["dataset_info"] if "dataset_info" in pet else _dataset(pet),
        },
        "model_state_dict": {name: _widened(name, value) for name, value in weights.items()},
    }


def _widened(name: str, value: Tensor) -> Tensor:
    """Radii of elements as the table has them, decimals that an exported model has rounded."""
    if not name.endswith(".covalent_radii"):
        return value
    return torch.tensor([_decimal(radius) for radius in value], dtype=torch.float64)


def _decimal(value: Tensor) -> float:
    """The shortest decimal number that is a scalar in its precision: 1.4 also in float32."""
    return float(str(value.numpy()))


def _dataset(pet: Mapping[str, Any]) -> Record:
    """Elements and targets of a module from before it knew the data that it was trained on."""
    dataset, targets = Record(), {}
    for name in pet["target_names"]:
        about = parse_json(pet["outputs"][name].state)
        targets[name] = Record()
        targets[name].state = {"quantity": "energy" if name == "energy" else ""} | about
    unit = parse_json(pet["requested_nl"].state)["length_unit"]
    dataset.state = {
        "length_unit": unit,
        "_atomic_types": pet["atomic_types"],
        "targets": targets,
    }
    return dataset


def _widths(net: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Hyperparameters that older modules do not hold, from the modules and weights in them."""
    layers = net["gnn_layers"].state
    blocks = layers["0"].state["trans"].state["layers"].state
    head = next(iter(_modules(net["node_heads"].state)))
    return {
        "num_gnn_layers": len(_modules(layers)),
        "num_attention_layers": len(_modules(blocks)),
        "num_heads": blocks["0"].state["attention"].state["num_heads"],
        "d_pet": len(weights["gnn_layers.0.edge_embedder.weight"]),
        "d_feedforward": len(weights["gnn_layers.0.trans.layers.0.mlp.0.weight"]),
        "d_head": len(weights[f"node_heads.{head}.0.0.weight"]),
    }


def _modules(state: Mapping[str, Any]) -> list[str]:
    return [name for name, value in state.items() if isinstance(value, ScriptRecord)]


def _conditioning(net: Mapping[str, Any]) -> dict[str, Any]:
    """Whether charge and spin matter; without it, their limits are those of the defaults."""
    module = net.get("system_conditioning")
    limits = {"max_charge": 10, "max_spin_multiplicity": 10}
    if not isinstance(module, ScriptRecord) or "charge_embedding" not in module.state:
        return {"system_conditioning": False, **limits}
    return {"system_conditioning": True, **{name: module.state[name] for name in limits}}


def _additions(pet: Mapping[str, Any]) -> dict[str, Any]:
    """What is added to the network: repulsion at short range, electrostatics at long range."""
    additive = pet["additive_models"].state.values()
    kinds = [model.kind.rpartition(".")[2] for model in additive if isinstance(model, ScriptRecord)]
    found: dict[str, Any] = {"zbl": "ZBL" in kinds, "long_range": {"enable": pet["long_range"]}}
    if pet["long_range"]:
        featurizer = pet["long_range_featurizer"].state
        mesh = featurizer["p3m_calculator"].state
        found["long_range"] |= {
            "use_ewald": featurizer["use_ewald"],
            "smearing": _decimal(mesh["potential"].state["smearing"]),
            "kspace_resolution": mesh["mesh_spacing"],
            "interpolation_nodes": mesh["interpolation_nodes"],
        }
    return found
