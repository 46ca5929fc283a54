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
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ase_pet.errors import CheckpointError
from ase_pet.formats.files import sha256_of, write_atomically
from ase_pet.formats.model import Model
from ase_pet.formats.self_test import check_self_test
from ase_pet.formats.torch_file import read_plain
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, ModernPET, ModernPETHypers, PETHypers
from ase_pet.potentials.tensornet import TensorNet, TensorNetHypers
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL
from ase_pet.potentials.zbl_covalent import CovalentZBL

_Backbone = PET | ModernPET | TensorNet
_Network = TypeVar("_Network", bound=_Backbone)

FORMAT = "ase_pet"
FORMAT_VERSION = 2
#: Hyperparameters that a format version brought, with what older files mean.
_ADDED = {2: {"dipole": False, "polarizability": False}}
UNITS = {"length": "angstrom", "energy": "eV"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
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
#: Backbone and hyperparameters by the name in a file.
ARCHITECTURES: dict[str, tuple[type[_Backbone], type]] = {
    "pet": (PET, PETHypers),
    "pet-metatrain": (ModernPET, ModernPETHypers),
    "tensornet": (TensorNet, TensorNetHypers),
}
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
    write_atomically(path, lambda file: torch.save(content, file))


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
    if content["self_test"] is not None:
        check_self_test(content["self_test"], backbone.species, where)
    return Model(
        potential=Total(backbone, composition, zbl).eval().requires_grad_(False),
        dtype=content["dtype"],
        metadata=content["metadata"],
        architecture=content["architecture"],
        path=where,
        sha256=sha256,
        self_test=content["self_test"],
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


def _backbone(content: Mapping[str, Any], where: str) -> _Backbone:
    """Build the network and fill in its weights."""
    network, hypers_class = ARCHITECTURES[content["architecture"]]
    hypers = check_hypers(hypers_class, _upgraded(content), where)
    dtype = DTYPES[content["dtype"]]
    backbone = build(network, hypers, content["species"], content["weights"], where, dtype)
    if content["cutoff"] != backbone.cutoff:
        raise CheckpointError(
            f"{where}: cutoff: {content['cutoff']} contradicts the hyperparameters' "
            f"{backbone.cutoff}"
        )
    return backbone


def _upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters of a file as this version writes them."""
    since = [v for version, v in _ADDED.items() if content["format_version"] < version]
    return {**{key: v for added in since for key, v in added.items()}, **content["hyperparameters"]}


def check_hypers(hypers_class: type, values: Mapping[str, Any], where: str) -> Any:
    """Build hyperparameters from a dictionary that must name all of them, correctly typed.

    Raises:
        CheckpointError: If one is missing, unknown, of a wrong type or out of range.
    """
    known = {f.name: f.default for f in fields(hypers_class) if f.default is not MISSING}
    missing, unknown = sorted(known.keys() - values.keys()), sorted(values.keys() - known.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{where}: hyperparameters: missing {missing}, unknown {unknown}; the file was "
            "changed by hand or written by another version of ase_pet"
        )
    for name, default in known.items():
        kinds = (int, float) if type(default) is float else (type(default),)
        value = values[name]
        if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
            raise CheckpointError(
                f"{where}: hyperparameters: {name}: expected a finite "
                f"{type(default).__name__}, got {value!r}"
            )
    try:
        return hypers_class(**values)
    except ValueError as error:
        raise CheckpointError(f"{where}: hyperparameters: {error}") from error


class _Uninitialised(TorchFunctionMode):
    """Skips the initialisation of weights, which are replaced or have no memory.

    On the meta device it would import a compiler, which takes longer than all else in loading.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Return the tensor as it is from functions of ``torch.nn.init``."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build(
    network: type[_Network],
    hypers: Any,
    species: Sequence[int],
    weights: Mapping[str, Any],
    where: str,
    dtype: torch.dtype,
) -> _Network:
    """Build a network and fill it with weights that must fit it exactly.

    Nothing is allocated before they are known to fit: sizes are only what a file claims.

    Raises:
        CheckpointError: If species or sizes are impossible, or a weight is missing, unexpected, of
            another shape or not finite.
    """
    if hypers.n_blocks > len(weights):
        raise CheckpointError(
            f"{where}: weights: {len(weights)} cannot fill the {hypers.n_blocks} blocks that the "
            "hyperparameters ask for; they do not belong together"
        )
    try:
        with torch.device("meta"), _Uninitialised():  # shapes without memory
            expected = network(hypers, species).state_dict()
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{where}: species or hyperparameters: {reason}") from error
    _check_weights(weights, expected, where)
    with torch.random.fork_rng(devices=[]), _Uninitialised():  # others' random numbers stay
        built = network(hypers, species)
    built.to(dtype)
    built.load_state_dict(dict(weights))
    return built


def _check_weights(weights: Mapping[str, Any], expected: Mapping[str, Tensor], where: str) -> None:
    missing, unexpected = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    if missing or unexpected:
        raise CheckpointError(
            f"{where}: weights: missing {sorted(missing)}, unexpected {sorted(unexpected)}; "
            "weights and hyperparameters do not belong together"
        )
    for name, value in weights.items():
        if not isinstance(value, Tensor) or value.shape != expected[name].shape:
            got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(
                f"{where}: weights: {name}: expected shape {list(expected[name].shape)}, got {got}"
            )
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{where}: weights: {name}: expected finite floating-point numbers, got NaN, "
                "infinity or another type; the training diverged or the file is damaged"
            )
