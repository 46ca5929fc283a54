"""Importer of PET checkpoints (``.ckpt``) of metatrain, model versions 1 to 16.

A checkpoint is a dictionary with ``architecture_name``, ``model_ckpt_version``, ``model_data``
(hyperparameters, elements, targets) and weights. Released models are often wrapped to predict
uncertainties ("llpr"); the PET inside is read, and what the wrapper knows of its energy. Objects of
foreign classes are read as inert records, see :class:`~ase_pet.formats.torch_file.Record`.

Source:
    https://github.com/metatensor/metatrain
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.formats.files import parse_json, sha256_of
from ase_pet.formats.importers.metatrain_targets import (
    check_length,
    choose_energy,
    direct_targets,
    direct_unit,
    energy_unit,
)
from ase_pet.formats.importers.metatrain_uncertainty import last_layer
from ase_pet.formats.importers.metatrain_versions import upgraded
from ase_pet.formats.importers.metatrain_weights import (
    composition,
    direct_scales,
    network_weights,
    scales,
)
from ase_pet.formats.model import Model
from ase_pet.formats.native import METADATA
from ase_pet.formats.networks import build
from ase_pet.formats.torch_file import Record, read_plain
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import ModernPET, ModernPETHypers
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl_covalent import CovalentZBL

#: Classes whose objects are in such files; read as records, or as the container that they are.
RECORDS = frozenset(
    {
        "torch.ScriptObject",
        "metatrain.utils.data.dataset.DatasetInfo",
        "metatrain.utils.data.target_info.TargetInfo",
        "builtins.set",
        "__builtin__.set",
    }
)
_CITATION = "Mazitov et al., PET-MAD, arXiv:2503.14118; metatrain"

#: Hyperparameters that keep their meaning: ours, theirs, type.
_SAME = (
    ("cutoff", "cutoff", float),
    ("cutoff_width", "cutoff_width", float),
    ("cutoff_function", "cutoff_function", str),
    ("adaptive_width", "cutoff_width_adaptive", float),
    ("adaptive_method", "adaptive_cutoff_method", str),
    ("d_model", "d_pet", int),
    ("d_node", "d_node", int),
    ("n_heads", "num_heads", int),
    ("d_feedforward", "d_feedforward", int),
    ("n_message_layers", "num_gnn_layers", int),
    ("n_attention_layers", "num_attention_layers", int),
    ("head_width", "d_head", int),
    ("normalization", "normalization", str),
    ("activation", "activation", str),
    ("transformer", "transformer_type", str),
    ("messages", "featurizer_type", str),
    ("temperature", "attention_temperature", float),
    ("conditioning", "system_conditioning", bool),
    ("max_charge", "max_charge", int),
    ("max_spin", "max_spin_multiplicity", int),
)
#: Likewise of the long-range part; evaluation is on a mesh whether or not training was.
_LONG_RANGE = (
    ("smearing", "smearing", float),
    ("mesh_spacing", "kspace_resolution", float),
    ("mesh_nodes", "interpolation_nodes", int),
)
#: Read elsewhere.
_OTHER = {"num_neighbors_adaptive", "zbl", "long_range"}
#: Names of those that are single values.
HYPERPARAMETERS = (*(theirs for _, theirs, _ in _SAME), "num_neighbors_adaptive")


def is_checkpoint(content: object) -> bool:
    """Whether the content of a torch file is a checkpoint of metatrain, of any architecture."""
    return (
        isinstance(content, dict)
        and "architecture_name" in content
        and ("model_ckpt_version" in content or "wrapped_model_checkpoint" in content)
    )


def load(path: str | Path, target: str | None = None) -> Model:
    """Read a checkpoint of metatrain.

    Args:
        path: The ``.ckpt`` file.
        target: Name of the energy to predict, of a model that was trained on several.

    Raises:
        CheckpointError: If the file is damaged, from a newer version, of another architecture,
            asks for something that is not supported, or has no such energy.
    """
    path = Path(path)
    content = read_plain(path, RECORDS)
    if not isinstance(content, dict) or not is_checkpoint(content):
        raise CheckpointError(f"{path}: not a checkpoint of metatrain")
    return build_model(content, target, path)


def build_model(content: Any, target: str | None, path: Path) -> Model:
    """Build a PET from the content of a checkpoint, from whatever file it comes.

    Args:
        content: Of the checkpoint, with a wrapper or without.
        target: Name of the energy to predict.
        path: The file, for messages and its fingerprint.

    Raises:
        CheckpointError: As :func:`load`.
    """
    wrapper = content if content["architecture_name"] == "llpr" else None
    if wrapper is not None:
        content = wrapper.get("wrapped_model_checkpoint")
    if not isinstance(content, dict) or content.get("architecture_name") != "pet":
        name = content.get("architecture_name") if isinstance(content, dict) else content
        raise CheckpointError(
            f"{path}: architecture_name: expected 'pet', got {name!r}; only PET models of "
            "metatrain can be imported"
        )
    try:
        options, weights = upgraded(content, path)
        model = _model(content, wrapper, options, weights, target, path)
    except CheckpointError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not a PET of metatrain: {error!r}") from error
    model.metadata["source"]["wrapper"] = None if wrapper is None else "llpr"
    return model


def _model(
    content: Mapping[str, Any],
    wrapper: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    target: str | None,
    path: Path,
) -> Model:
    info = content["model_data"]["dataset_info"].state
    species = sorted(int(z) for z in info["_atomic_types"])
    targets = {str(name): dict(record.state) for name, record in info["targets"].items()}
    chosen = choose_energy(targets, target, path)
    check_length(info.get("length_unit"), path)
    unit = energy_unit(targets[chosen].get("unit"), path)
    backbone = _network(options, weights, species, targets, chosen, unit, path)
    energies = composition(weights, chosen, species, path)
    known = wrapper and last_layer(wrapper, chosen, unit, backbone.n_last_features, path)
    fingerprint = sha256_of(path)
    source = {
        "format": "checkpoint of metatrain",
        "version": content["model_ckpt_version"],
        "target": chosen,
        "unused_targets": sorted(
            targets.keys() - {chosen, *direct_targets(targets, chosen).values()}
        ),
        "sha256": {path.name: fingerprint},
    }
    baselines = (
        Composition({z: e * unit for z, e in energies.items()}) if energies else None,
        _repulsion(options, weights, species, path),
    )
    return Model(
        potential=Total(backbone, *baselines).eval().requires_grad_(False),
        dtype="float64" if backbone.dtype == torch.float64 else "float32",
        metadata={
            **dict.fromkeys(METADATA),
            **_described(content.get("metadata")),
            "rotations": "structure",
            "source": source,
        },
        architecture="pet-metatrain",
        path=str(path),
        sha256=fingerprint,
        uncertainty=known or None,
    )


def _network(
    options: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    species: list[int],
    targets: Mapping[str, Mapping[str, Any]],
    chosen: str,
    unit: float,
    path: Path,
) -> ModernPET:
    """The network with its readouts of one energy, in ``unit`` (eV), and of what belongs to it."""
    direct, names = direct_targets(targets, chosen), list(targets)
    scales = {
        f"{kind}_scales": tuple(
            scale * direct_unit(kind, targets[name].get("unit"), unit, path)
            for scale in direct_scales(weights, name, names, species, path)
        )
        for kind, name in direct.items()
    }
    energy_scale = _energy_scale(weights, chosen, names, path) * unit
    hypers = _hypers(options, path, energy_scale=energy_scale, **scales)
    readouts = {chosen: "energies", **{name: f"direct.{kind}" for kind, name in direct.items()}}
    found = network_weights(weights, species, readouts, path)
    dtype = torch.promote_types(found["edge_species.weight"].dtype, torch.float32)
    return build(ModernPET, hypers, species, found, str(path), dtype)


def _energy_scale(
    weights: Mapping[str, Tensor], target: str, targets: list[str], path: Path
) -> float:
    values = scales(weights, target, targets, path)
    if len(values) != 1:
        raise CheckpointError(
            f"{path}: {target}: an energy of single atoms, scaled by element, is not supported; "
            "only energies of structures"
        )
    return values[0]


def _hypers(options: Mapping[str, Any], path: Path, **scales: Any) -> ModernPETHypers:
    """Translate the hyperparameters, refusing by name what is not supported."""
    names = {theirs for _, theirs, _ in _SAME}
    missing, unknown = sorted(names - options.keys()), sorted(options.keys() - names - _OTHER)
    if missing or unknown:
        raise CheckpointError(
            f"{path}: model_hypers: missing {missing}, unknown {unknown}; not a PET of a "
            "supported version"
        )
    values = _renamed(options, _SAME, path)
    electrostatics = options.get("long_range") or {}
    if electrostatics.get("enable"):
        values |= {"long_range": True, **_renamed(electrostatics, _LONG_RANGE, path)}
    try:
        return ModernPETHypers(
            **values, **scales, n_neighbors=float(options["num_neighbors_adaptive"] or 0.0)
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _renamed(
    options: Mapping[str, Any], names: Sequence[tuple[str, str, type]], path: Path
) -> dict[str, Any]:
    """Values of the right type, by our names."""
    values: dict[str, Any] = {}
    for ours, theirs, kind in names:
        value = options[theirs]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise CheckpointError(f"{path}: {theirs}: expected {kind.__name__}, got {value!r}")
        values[ours] = value
    return values


def _repulsion(
    options: Mapping[str, Any], weights: Mapping[str, Tensor], species: list[int], path: Path
) -> CovalentZBL | None:
    if not options["zbl"]:
        return None
    for name, radii in weights.items():
        if name.startswith("additive_models.") and name.endswith(".covalent_radii"):
            index = weights[name.replace("covalent_radii", "species_to_index")]
            return CovalentZBL({z: float(radii[int(index[z])]) for z in species})
    raise CheckpointError(f"{path}: zbl: the covalent radii are missing; the file is incomplete")


def _described(metadata: object) -> dict[str, Any]:
    """What the authors say of the model."""
    found: dict[str, Any] = {"citation": _CITATION}
    if not isinstance(metadata, Record):
        return found
    try:
        about = parse_json(metadata.state[0])
        references = [r for group in about.get("references", {}).values() for r in group]
        if references:
            found["citation"] = "; ".join(map(str, references))
        named = [str(about[key]) for key in ("name", "description") if about.get(key)]
        if named:
            found["training_data"] = ": ".join(named)
    except (AttributeError, IndexError, TypeError, ValueError):
        return found
    return found
