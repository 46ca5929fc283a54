"""The project's own checkpoint: one file of tensors and plain containers.

Version 1 is a dictionary saved with ``torch.save`` and read with ``weights_only=True``:

    format            "ase_pet"
    format_version    1
    architecture      name of the backbone
    hyperparameters   fields of its hyperparameter class
    species           atomic numbers
    cutoff            Å
    dtype             "float32" or "float64"
    units             {"length": "angstrom", "energy": "eV"}
    weights           state dictionary of the backbone
    composition       eV by atomic number, or None
    zbl               {"inner": Å, "cutoff": Å} and what else differs from its defaults,
                      {"radii": Å by atomic number}, or None
    metadata          see ``METADATA``
    self_test         see ``ase_pet.formats.self_test``, or None
    uncertainty       fields of ``ase_pet.potentials.last_layer.LastLayer``, or None (version 3)

Version 4 has the same entries; weights named "smooth" in a self-test are others than before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.formats.files import sha256_of
from ase_pet.formats.model import Model
from ase_pet.formats.networks import ARCHITECTURES, DTYPES, AnyBackbone, build, check_hypers
from ase_pet.formats.self_test import check_self_test, with_old_weights
from ase_pet.formats.torch_file import read_plain, write_plain
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.last_layer import HasLastLayer, LastLayer
from ase_pet.potentials.tensors import tensors_of
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL
from ase_pet.potentials.zbl_covalent import CovalentZBL

FORMAT = "ase_pet"
FORMAT_VERSION = 4
#: Hyperparameters that a format version brought, with what older files mean.
_ADDED: dict[int, dict[str, Any]] = {
    2: {"dipole": False, "polarizability": False},
    3: {"long_range": False, "smearing": 1.4, "mesh_spacing": 1.33, "mesh_nodes": 5},
}
UNITS = {"length": "angstrom", "energy": "eV"}
ROTATIONS = ("structure", "atom", "none", None)
#: What a checkpoint says of its origin; None where unknown.
METADATA = (
    "training_data",
    "level_of_theory",
    "licence",
    "citation",
    "rotations",
    "ecse",
    "accuracy",
    "source",
)
_KEYS: dict[str, type | tuple[type, ...]] = {
    "architecture": str,
    "hyperparameters": dict,
    "species": list,
    "cutoff": float,
    "dtype": str,
    "units": dict,
    "weights": dict,
    "composition": (dict, type(None)),
    "zbl": (dict, type(None)),
    "metadata": dict,
    "self_test": (dict, type(None)),
    "uncertainty": (dict, type(None)),
}


def save(model: Model, path: str | Path) -> None:
    """Write a model to one file, whole or not at all.

    Args:
        model: What to save; its ``path`` and ``sha256`` are those of an earlier file and are
            not written.
        path: The file to create or replace.

    Raises:
        CheckpointError: If the model could not be read back: weights that are not finite,
            metadata that are not plain containers.
        OSError: If the file cannot be written.
    """
    content = to_dict(model)
    where = f"{path} (not written)"
    _check_plain(where, "metadata", content["metadata"])
    from_dict(content, where)
    write_plain(path, content)


def read(path: str | Path) -> Model:
    """Read a model; nothing in the file is executed.

    Raises:
        CheckpointError: If the file is damaged, foreign, incomplete or from a newer version.
    """
    path = Path(path)
    content = read_plain(path)
    return from_dict(content, str(path), sha256_of(path))


def is_native(content: object) -> bool:
    """Whether the content of a torch file is one of ours."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def to_dict(model: Model) -> dict[str, Any]:
    """The content of the file, see the head of this module."""
    total = model.potential
    backbone = total.backbone
    if model.architecture not in ARCHITECTURES or not isinstance(
        backbone, ARCHITECTURES[model.architecture][0]
    ):
        raise CheckpointError(
            f"model: expected a bare backbone of one of {sorted(ARCHITECTURES)}, got "
            f"{type(backbone).__name__} as {model.architecture!r}; save it before symmetrising it"
        )
    zbl, composition = total.zbl, total.composition
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": model.architecture,
        "hyperparameters": asdict(backbone.hypers),
        "species": list(backbone.species),
        "cutoff": float(backbone.cutoff),
        "dtype": model.dtype,
        "units": dict(UNITS),
        "weights": {k: v.detach().cpu().clone() for k, v in backbone.state_dict().items()},
        "composition": None if composition is None else composition.energies,
        "zbl": None if zbl is None else zbl.options,
        "metadata": {**dict.fromkeys(METADATA), **model.metadata},
        "self_test": model.self_test,
        "uncertainty": _fields(model.uncertainty),
    }


def from_dict(content: object, where: str = "checkpoint", sha256: str = "") -> Model:
    """Build a model from the content of a file, checking every part of it.

    Args:
        content: What the file holds.
        where: Path, for messages and for the model.
        sha256: Fingerprint of the file.

    Raises:
        CheckpointError: If anything is missing or wrong.
    """
    content = _check_keys(content, where)
    if content["architecture"] not in ARCHITECTURES:
        raise CheckpointError(
            f"{where}: unknown architecture {content['architecture']!r}; this version of ase_pet "
            f"knows {sorted(ARCHITECTURES)}. Upgrade ase_pet"
        )
    if content["units"] != UNITS:
        raise CheckpointError(f"{where}: units: expected {UNITS}, got {content['units']}")
    if content["dtype"] not in DTYPES:
        raise CheckpointError(
            f"{where}: dtype: expected one of {list(DTYPES)}, got {content['dtype']!r}"
        )
    _check_metadata(content["metadata"], where)
    backbone = _backbone(content, where)
    try:
        composition = content["composition"] and Composition(content["composition"])
        zbl = _repulsion(content["zbl"])
        missing = set(backbone.species) - set(composition.species if composition else ())
        if composition and missing:
            raise ValueError(f"no energy for atomic number(s) {sorted(missing)}")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: composition or zbl: {error}") from error
    uncertainty = _last_layer(content["uncertainty"], backbone, where)
    if content["self_test"] is not None:
        check_self_test(content["self_test"], backbone.species, tensors_of(backbone), where)
    return Model(
        potential=Total(backbone, composition, zbl).eval().requires_grad_(False),
        dtype=content["dtype"],
        metadata=content["metadata"],
        architecture=content["architecture"],
        path=where,
        sha256=sha256,
        self_test=content["self_test"],
        uncertainty=uncertainty,
    )


def _check_keys(content: object, where: str) -> dict[str, Any]:
    """Check format, version, and that every entry is there with the right type."""
    if not isinstance(content, dict) or not is_native(content):
        kind = (
            f"a dictionary with the keys {sorted(map(str, content))[:6]}"
            if isinstance(content, dict)
            else f"a {type(content).__name__}"
        )
        raise CheckpointError(
            f"{where}: not an ase_pet checkpoint: expected a dictionary with "
            f"format={FORMAT!r}, got {kind}"
        )
    version = content.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(f"{where}: format_version: expected 1 or more, got {version!r}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{where}: written by a newer ase_pet (format_version {version}, this one reads up to "
            f"{FORMAT_VERSION}); upgrade ase_pet"
        )
    if version < 3:
        content = {**content, "uncertainty": None}
    if version < 4:
        content = {**content, "self_test": with_old_weights(content.get("self_test"))}
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise CheckpointError(
            f"{where}: incomplete checkpoint, missing {missing}; save or export it again"
        )
    for key, kinds in _KEYS.items():
        if not isinstance(content[key], kinds):
            raise CheckpointError(
                f"{where}: {key}: expected {kinds}, got {type(content[key]).__name__}"
            )
    return content


def _check_metadata(metadata: Mapping[str, Any], where: str) -> None:
    missing = [key for key in METADATA if key not in metadata]
    if missing:
        raise CheckpointError(f"{where}: metadata: missing {missing}; None says unknown")
    if metadata["rotations"] not in ROTATIONS:
        raise CheckpointError(
            f"{where}: metadata rotations: expected one of {ROTATIONS}, got "
            f"{metadata['rotations']!r}"
        )


def _check_plain(where: str, name: str, value: object) -> None:
    """Refuse what ``weights_only`` would not read back."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(where, f"{name}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for k, item in enumerate(value):
            _check_plain(where, f"{name}[{k}]", item)
    elif type(value) not in (type(None), bool, int, float, str, Tensor):
        raise CheckpointError(
            f"{where}: {name}: expected numbers, strings, tensors, lists or dictionaries, got "
            f"{type(value).__name__}; convert it first"
        )


def _repulsion(options: Mapping[str, Any] | None) -> ZBL | CovalentZBL | None:
    if options is None:
        return None
    return CovalentZBL(**options) if "radii" in options else ZBL(**options)


def _fields(uncertainty: LastLayer | None) -> dict[str, Any] | None:
    if uncertainty is None:
        return None
    return {field.name: getattr(uncertainty, field.name) for field in fields(uncertainty)}


def _last_layer(
    values: Mapping[str, Any] | None, backbone: AnyBackbone, where: str
) -> LastLayer | None:
    """What is known of the last layer, which must fit the network."""
    if values is None:
        return None
    try:
        found = LastLayer(**values)
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: uncertainty: {error}") from error
    expected = backbone.n_last_features if isinstance(backbone, HasLastLayer) else 0
    if found.n_features != expected:
        raise CheckpointError(
            f"{where}: uncertainty: {found.n_features} features, but those of the network's last "
            f"layer are {expected}; they do not belong together"
        )
    return found


def _backbone(content: Mapping[str, Any], where: str) -> AnyBackbone:
    """Build the network and fill in its weights."""
    network, hypers_class = ARCHITECTURES[content["architecture"]]
    hypers = check_hypers(hypers_class, _upgraded(content, hypers_class), where)
    dtype = DTYPES[content["dtype"]]
    backbone = build(network, hypers, content["species"], content["weights"], where, dtype)
    if content["cutoff"] != backbone.cutoff:
        raise CheckpointError(
            f"{where}: cutoff: {content['cutoff']} contradicts the hyperparameters' "
            f"{backbone.cutoff}"
        )
    return backbone


def _upgraded(content: Mapping[str, Any], hypers_class: type) -> dict[str, Any]:
    """Hyperparameters of a file as this version writes them."""
    since = [v for version, v in _ADDED.items() if content["format_version"] < version]
    known = {f.name for f in fields(hypers_class)}
    added = {key: v for new in since for key, v in new.items() if key in known}
    return {**added, **content["hyperparameters"]}
