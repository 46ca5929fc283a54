"""Importer of PET checkpoints (``.ckpt``) of metatrain, model versions 1 to 16.

A checkpoint is a dictionary with ``architecture_name``, ``model_ckpt_version``, ``model_data``
(hyperparameters, elements, targets) and weights. Released models are often wrapped to predict
uncertainties ("llpr"); the PET inside is read, and what the wrapper knows of its energy. Objects of
foreign classes are read as inert records, see :class:`~ase_pet.formats.torch_file.Record`.

Source:
    https://github.com/metatensor/metatrain
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.formats.files import sha256_of
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
from ase_pet.potentials.pet.modern_hypers import DIRECT
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl_covalent import CovalentZBL
from ase_pet.units import ENERGY_UNITS

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
_ANGSTROM = ("angstrom", "a")
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
    chosen = _choose(targets, target, path)
    _check_length(info.get("length_unit"), path)
    unit = _energy_unit(targets[chosen].get("unit"), path)
    backbone = _network(options, weights, species, targets, chosen, unit, path)
    energies = composition(weights, chosen, species, path)
    known = wrapper and last_layer(wrapper, chosen, unit, backbone.n_last_features, path)
    fingerprint = sha256_of(path)
    source = {
        "format": "checkpoint of metatrain",
        "version": content["model_ckpt_version"],
        "target": chosen,
        "unused_targets": sorted(targets.keys() - {chosen, *_direct(targets, chosen).values()}),
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
    direct, names = _direct(targets, chosen), list(targets)
    scales = {
        f"{kind}_scales": tuple(
            scale * _direct_unit(kind, targets[name].get("unit"), unit, path)
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


def _choose(targets: Mapping[str, Mapping[str, Any]], wanted: str | None, path: Path) -> str:
    """The energy target: the one asked for, the only one, or that called "energy"."""
    energies = [name for name, about in targets.items() if about.get("quantity") == "energy"]
    if wanted is None and (len(energies) == 1 or "energy" in energies):
        wanted = "energy" if "energy" in energies else energies[0]
    if wanted in energies:
        return wanted
    if not energies:
        raise CheckpointError(
            f"{path}: the model predicts no energy, only {sorted(targets)}: it is no potential"
        )
    if wanted is None:
        raise CheckpointError(
            f"{path}: the model predicts several energies; choose one: target= one of {energies}"
        )
    known = "is no energy" if wanted in targets else "is not among the targets"
    raise CheckpointError(f"{path}: target: {wanted!r} {known}; choose one of {energies}")


def _check_length(unit: object, path: Path) -> None:
    """Refuse other units than Å, for which an empty name stands."""
    if str(unit or "angstrom").lower() not in _ANGSTROM:
        raise CheckpointError(
            f"{path}: length_unit: only models in Å can be imported, this one is in {unit!r}"
        )


def _energy_unit(unit: object, path: Path) -> float:
    """Unit of energy in eV; an empty name stands for eV."""
    units = {name.lower(): value for name, value in ENERGY_UNITS.items()}
    name = str(unit or "eV").lower()
    if name not in units:
        raise CheckpointError(f"{path}: unit: expected one of {list(ENERGY_UNITS)}, got {unit!r}")
    return units[name]


def _direct_unit(kind: str, unit: object, energy: float, path: Path) -> float:
    """Unit of direct forces in eV/Å, or of a direct stress in eV/Å³; without one, the energy's."""
    text = str(unit or "").lower().removesuffix("^3" if kind == "stress" else "")
    for length in _ANGSTROM:
        text = text.removesuffix(f"/{length}")
    return _energy_unit(text, path) if text else energy


def _direct(targets: Mapping[str, Mapping[str, Any]], energy: str) -> dict[str, str]:
    """Targets of direct forces and stress that belong to an energy, by our names of them."""
    if not energy.startswith("energy"):
        return {}
    variant = energy.removeprefix("energy")
    found = {}
    for kind in DIRECT:
        for name in (kind.removesuffix("s") if kind == "forces" else kind, kind):
            if f"non_conservative_{name}{variant}" in targets:
                found[kind] = f"non_conservative_{name}{variant}"
    return found


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
        about = json.loads(metadata.state[0])
        references = [r for group in about.get("references", {}).values() for r in group]
        if references:
            found["citation"] = "; ".join(map(str, references))
        named = [str(about[key]) for key in ("name", "description") if about.get(key)]
        if named:
            found["training_data"] = ": ".join(named)
    except (AttributeError, IndexError, TypeError, ValueError, RecursionError):
        return found
    return found
