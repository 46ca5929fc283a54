"""Importer of the folders in which MatGL keeps a TensorNet potential.

A folder holds ``state.pt`` (weights) and ``model.json`` or ``model.pt`` (class and arguments).
Conventions depend on the module and version that wrote the folder, and an unknown one is refused:
the names of the weights are always the same, so that a wrong guess gives wrong energies.

Source:
    https://github.com/materialsvirtuallab/matgl; Simeon & De Fabritiis, NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.formats.files import parse_json, sha256_of
from ase_pet.formats.importers.tensornet_weights import (
    Weights,
    network_weights,
    perceptron_weights,
)
from ase_pet.formats.model import Model
from ase_pet.formats.native import METADATA
from ase_pet.formats.networks import build
from ase_pet.formats.torch_file import read_plain
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.species import atomic_number
from ase_pet.potentials.tensornet import TensorNet, TensorNetHypers
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL

STATE, JSON, ARGUMENTS = "state.pt", "model.json", "model.pt"

#: (module, version): elements of an edge with the neighbour first and vectors to the centre;
#: whose tensors a message carries.
_CONVENTIONS = {
    ("matgl.models._tensornet_dgl", 1): (True, "center"),
    ("matgl.models._tensornet_pyg", 1): (True, "neighbor"),
    ("matgl.models._tensornet_pyg", 2): (False, "neighbor"),
    ("matgl.models._tensornet", 2): (False, "neighbor"),
}
_ACTIVATIONS = {
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "softplus2": "shifted_softplus",
}
#: Arguments whose other values mean something that is no potential, or is not supported.
_EXPECTED = {
    "is_intensive": (False, "the model predicts an average over atoms, not an energy"),
    "task_type": ("regression", "the model sorts structures into classes"),
    "ntargets": (1, "the model predicts several quantities"),
    "include_state": (False, "a state of the structure as another input is not supported"),
}


def is_description(path: Path) -> bool:
    """Whether a path is the ``model.json`` of such a folder, the one file that is no torch file."""
    return path.is_file() and path.suffix == ".json" and _is_described(_read_json(path))


def matches(path: Path) -> bool:
    """Whether a path is such a folder or its ``model.json``, complete or not."""
    if path.is_file():
        return is_description(path)
    names = [name for name in (STATE, JSON) if path.joinpath(name).is_file()]
    return bool(names) or (
        path.joinpath(ARGUMENTS).is_file() and is_part(read_plain(path / ARGUMENTS))
    )


def is_part(content: object) -> bool:
    """Whether the content of a torch file is one of the two of such a folder."""
    if not isinstance(content, dict):
        return False
    return _is_described(content) or any(
        str(name).startswith(("model.tensor_embedding.", "model.bond_expansion."))
        for name in content
    )


def load(path: str | Path) -> Model:
    """Read a folder of MatGL.

    Args:
        path: The folder, or one of its files.

    Raises:
        CheckpointError: If anything is missing, damaged or unsupported; says what and why.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    try:
        return _load(path, folder)
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: damaged or not a TensorNet of MatGL: {error}") from error


def _load(path: Path, folder: Path) -> Model:
    described, source = _describe(folder)
    arguments, (reverses, messages) = _arguments(described, source)
    if not (folder / STATE).is_file():
        raise CheckpointError(
            f"{folder}: {STATE} is missing; it holds the weights, copy it there from the original"
        )
    content = read_plain(folder / STATE)
    if not isinstance(content, dict):
        raise CheckpointError(f"{folder / STATE}: expected weights by name")
    weights = Weights(content, str(folder / STATE))
    numbers = [atomic_number(symbol) for symbol in arguments["element_types"]]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    hypers, found = _network(arguments, weights, order, messages, source, reverses=reverses)
    composition = _composition(weights, numbers)
    zbl = _repulsion(weights, hypers.cutoff)
    weights.finish()
    dtype = found["readout.linear.weight"].dtype
    name = "float64" if dtype == torch.float64 else "float32"
    where = str(folder / STATE)
    backbone = build(TensorNet, hypers, numbers, found, where, getattr(torch, name))
    files = [folder / STATE, source]
    return Model(
        potential=Total(backbone, composition, zbl).eval().requires_grad_(False),
        dtype=name,
        metadata=_metadata(described, files, folder),
        architecture="tensornet",
        path=str(path),
        sha256=sha256_of(*files),
    )


def _read_json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error


def _is_described(content: object) -> bool:
    if not isinstance(content, dict):
        return False
    inner = content.get("model")
    return "@class" in content or (isinstance(inner, dict) and "@class" in inner)


def _describe(folder: Path) -> tuple[dict[str, Any], Path]:
    """Class and arguments, and the file that holds them."""
    if (folder / JSON).is_file():
        content = _read_json(folder / JSON)
        if isinstance(content, dict) and content.get("@class") == "Potential":
            content = content.get("kwargs")
        source = folder / JSON
    elif (folder / ARGUMENTS).is_file():
        content, source = read_plain(folder / ARGUMENTS), folder / ARGUMENTS
    else:
        raise CheckpointError(
            f"{folder}: {JSON} (or {ARGUMENTS}) is missing; it says what the weights in {STATE} "
            "mean, copy it there from the original"
        )
    if isinstance(content, dict) and "@class" in content:
        raise CheckpointError(
            f"{source}: a model of the class {content['@class']} that is not inside a Potential; "
            "it predicts a property of structures, not energies and forces"
        )
    if not isinstance(content, dict) or not _is_described(content):
        raise CheckpointError(f"{source}: not the description of a potential of MatGL")
    return content, source


def _arguments(
    described: Mapping[str, Any], source: Path
) -> tuple[dict[str, Any], tuple[bool, str]]:
    """Arguments of the network and its conventions, refusing by name what is not supported."""
    inner = described["model"]
    name, arguments = inner.get("@class"), inner.get("init_args")
    if name != "TensorNet":
        raise CheckpointError(
            f"{source}: a potential of the class {name}; of MatGL only TensorNet can be imported"
        )
    wrote = (inner.get("@module"), inner.get("@model_version"))
    if wrote not in _CONVENTIONS:
        known = ", ".join(f"{module} {version}" for module, version in _CONVENTIONS)
        raise CheckpointError(
            f"{source}: written by {wrote[0]}, model version {wrote[1]}, whose conventions are "
            f"not known here (known are {known}); a guess would give wrong energies"
        )
    needed = {"element_types", "units", "nblocks", "rbf_type", "cutoff", "activation_type"}
    needed |= {"equivariance_invariance_group", "is_intensive"}
    if not isinstance(arguments, dict) or needed - arguments.keys():
        missing = sorted(needed - set(arguments or ()))
        raise CheckpointError(f"{source}: init_args: missing {missing}; the file is incomplete")
    for key, (expected, why) in _EXPECTED.items():
        if arguments.get(key, expected) != expected:
            raise CheckpointError(
                f"{source}: {key}: expected {expected!r}, got {arguments[key]!r}: {why}"
            )
    return arguments, _CONVENTIONS[wrote]


def _network(
    arguments: Mapping[str, Any],
    weights: Weights,
    order: list[int],
    messages: str,
    source: Path,
    *,
    reverses: bool,
) -> tuple[TensorNetHypers, dict[str, Tensor]]:
    """Hyperparameters and weights of the network."""
    activation = arguments["activation_type"]
    if activation not in _ACTIVATIONS:
        raise CheckpointError(
            f"{source}: activation_type: {activation!r} is not supported, only {list(_ACTIVATIONS)}"
        )
    found = network_weights(
        weights,
        "model.",
        int(arguments["nblocks"]),
        order,
        part_fastest=True,
        neighbor_first=reverses,
        flip_vectors=reverses,
    )
    basis, radial = _radial(arguments, weights, source)
    gated = "model.final_layer.gated."
    values, depth = perceptron_weights(weights, "readout.values", gated + "layers.")
    gates, _ = perceptron_weights(weights, "readout.gates", gated + "gates.")
    # A state of the structure, refused above, is all that the third embedding serves.
    weights.drop("model.tensor_embedding.emb3.")
    hypers = TensorNetHypers(
        cutoff=float(arguments["cutoff"]),
        n_units=int(arguments["units"]),
        n_layers=int(arguments["nblocks"]),
        n_functions=found["embedding.filters.weight"].shape[1],
        rbf=basis,
        activation=_ACTIVATIONS[activation],
        group=arguments["equivariance_invariance_group"],
        messages="center" if messages == "center" else "neighbor",
        readout="gated",
        readout_width=values["readout.values.0.weight"].shape[0],
        readout_depth=depth,
        energy_scale=weights.number("data_std", 1.0),
        energy_shift=weights.number("data_mean", 0.0),
    )
    return hypers, {**found, **radial, **values, **gates}


def _radial(
    arguments: Mapping[str, Any], weights: Weights, source: Path
) -> tuple[str, dict[str, Tensor]]:
    """Name of the radial basis and its weights."""
    kind, prefix = str(arguments["rbf_type"]).lower(), "model.bond_expansion.rbf."
    if kind == "sphericalbessel":
        weights.drop(prefix + "cutoff")
        smooth = bool(arguments.get("use_smooth", False))
        if not smooth and arguments.get("max_l", 1) != 1:
            raise CheckpointError(
                f"{source}: max_l: spherical Bessel functions that are not smooth are supported "
                f"for max_l=1 only, got {arguments['max_l']}"
            )
        return ("smooth_bessel" if smooth else "bessel"), {}
    if kind == "gaussian":
        centers = weights.take(prefix + "centers")
        gammas = torch.full_like(centers, float(arguments.get("width", 0.5)))
        return "gaussian", {"radial.means": centers, "radial.gammas": gammas}
    if kind == "expnorm":
        names = ("means", "betas")
        return "exponential", {f"radial.{n}": weights.take(prefix + n) for n in names}
    raise CheckpointError(f"{source}: rbf_type: {arguments['rbf_type']!r} is not supported")


def _composition(weights: Weights, numbers: list[int]) -> Composition | None:
    """Reference energies of the elements."""
    prefix = "element_refs."
    if not weights.names(prefix):
        return None
    offsets = weights.take(prefix + "property_offset").double().flatten().tolist()
    weights.drop(prefix + "onehot")
    if len(offsets) != len(numbers):
        raise CheckpointError(
            f"{weights.where}: {prefix}property_offset: expected one energy for each of "
            f"{len(numbers)} elements, got {len(offsets)}"
        )
    return Composition(dict(zip(numbers, offsets, strict=True)))


def _repulsion(weights: Weights, cutoff: float) -> ZBL | None:
    """Repulsion of nuclei, whose parameters are stored such that softplus gives them."""
    if not weights.names("repuls."):
        return None
    names = ("a_pow", "a_div", "coefficients", "exponents")
    power, inverse_length, amplitudes, decays = (
        torch.nn.functional.softplus(weights.take(f"repuls.{n}").double()) for n in names
    )
    return ZBL(
        inner=0.0,
        cutoff=cutoff,
        amplitudes=tuple((amplitudes / amplitudes.sum()).tolist()),
        decays=tuple(decays.tolist()),
        power=float(power),
        length=1.0 / float(inverse_length),
        coulomb=float(weights.take("repuls.ke")),
    )


def _metadata(described: Mapping[str, Any], files: list[Path], folder: Path) -> dict[str, Any]:
    inner = described["model"]
    return {
        **dict.fromkeys(METADATA),
        "citation": "Simeon & De Fabritiis, NeurIPS 2023, arXiv:2306.06482",
        "source": {
            "format": "folder of MatGL",
            "name": folder.resolve().name,
            "module": inner["@module"],
            "model_version": inner["@model_version"],
            "sha256": {path.name: sha256_of(path) for path in files},
        },
    }
