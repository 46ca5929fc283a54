"""Importer of TensorNet checkpoints (``.ckpt``) of TorchMD-NET.

A checkpoint holds ``hyper_parameters`` and ``state_dict``. Its numbers are in the units of the data
that it was trained on, which it does not say: eV and Å are assumed unless the caller knows better,
and the native file records what was assumed.

Source:
    https://github.com/torchmd/torchmd-net; Simeon & De Fabritiis, NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.formats.files import sha256_of
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
from ase_pet.potentials.tensornet import TensorNet, TensorNetHypers
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL
from ase_pet.units import ENERGY_UNITS, LENGTH_UNITS

_NETWORK = "model.representation_model."
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "ssp": "shifted_softplus",
    "sigmoid": "sigmoid",
    "mish": "mish",
}
_NEEDED = {"activation", "cutoff_lower", "cutoff_upper", "embedding_dimension", "num_layers"}
_NEEDED |= {"num_rbf", "rbf_type", "equivariance_invariance_group", "output_model"}
#: Bohr radius in metres and e²/(4πε₀) in J·m, as TorchMD-NET writes them.
_BOHR, _COULOMB = 5.29177210903e-11, 2.30707755e-28
_ZBL_AMPLITUDES = (0.1818, 0.5099, 0.2802, 0.02817)
_ZBL_DECAYS = (3.2, 0.9423, 0.4029, 0.2016)


def is_checkpoint(content: object) -> bool:
    """Whether the content of a torch file is a Lightning checkpoint of TorchMD-NET."""
    if not isinstance(content, dict) or not isinstance(content.get("hyper_parameters"), dict):
        return False
    return "state_dict" in content and "embedding_dimension" in content["hyper_parameters"]


def load(
    path: str | Path, *, length_unit: str | None = None, energy_unit: str | None = None
) -> Model:
    """Read a checkpoint of TorchMD-NET.

    Args:
        path: The ``.ckpt`` file.
        length_unit: Of the training data, one of ``ase_pet.units.LENGTH_UNITS``; Å if not given.
        energy_unit: Likewise, of ``ase_pet.units.ENERGY_UNITS``; eV if not given.

    Raises:
        CheckpointError: If the file is damaged or something in it is unsupported, or a unit is
            unknown; says what and why.
    """
    path = Path(path)
    units = (
        _unit("length_unit", length_unit or "angstrom", LENGTH_UNITS, path),
        _unit("energy_unit", energy_unit or "eV", ENERGY_UNITS, path),
    )
    content = read_plain(path)
    if not isinstance(content, dict) or not is_checkpoint(content):
        raise CheckpointError(f"{path}: not a checkpoint of TorchMD-NET")
    if not isinstance(content["state_dict"], dict):
        raise CheckpointError(f"{path}: state_dict: expected weights by name")
    options, weights = content["hyper_parameters"], Weights(content["state_dict"], str(path))
    _refuse_unsupported(options, path)
    try:
        hypers, found, species = _network(options, weights, units, path)
        composition, zbl = _priors(options, weights, species, units, path)
    except (KeyError, IndexError, TypeError) as error:
        raise CheckpointError(f"{path}: hyper_parameters: {error!r}") from error
    weights.drop(_NETWORK + "distance.")
    weights.finish()
    double = found["readout.linear.weight"].dtype == torch.float64
    dtype = torch.float64 if double else torch.float32
    backbone = build(TensorNet, hypers, species, found, str(path), dtype)
    assumed = {"length": length_unit or "angstrom", "energy": energy_unit or "eV"}
    return Model(
        potential=Total(backbone, composition, zbl).eval().requires_grad_(False),
        dtype="float64" if double else "float32",
        metadata={
            **dict.fromkeys(METADATA),
            "training_data": options.get("dataset"),
            "citation": "Simeon & De Fabritiis, NeurIPS 2023, arXiv:2306.06482",
            "source": {
                "format": "checkpoint of TorchMD-NET",
                "units_assumed": assumed,
                "sha256": {path.name: sha256_of(path)},
            },
        },
        architecture="tensornet",
        path=str(path),
        sha256=sha256_of(path),
    )


def _unit(name: str, unit: str, known: Mapping[str, float], path: Path) -> float:
    if unit not in known:
        raise CheckpointError(f"{path}: {name}: expected one of {list(known)}, got {unit!r}")
    return known[unit]


def _refuse_unsupported(options: Mapping[str, Any], path: Path) -> None:
    kind = options.get("model")
    if kind not in ("tensornet", "tensornet2"):
        raise CheckpointError(
            f"{path}: a TorchMD-NET model of the kind {kind!r}; only 'tensornet' and 'tensornet2' "
            "can be imported"
        )
    missing = sorted(_NEEDED - options.keys())
    if missing:
        raise CheckpointError(f"{path}: hyper_parameters: missing {missing}")
    second = kind == "tensornet2"
    expected: dict[str, tuple[object, ...]] = {
        "output_model": ("Scalar", "ScalarPlusWeightedCoulomb") if second else ("Scalar",),
        "coulomb_cutoff": (None,),
        "reduce_op": ("add", "sum"),
        "activation": tuple(_ACTIVATIONS),
        "rbf_type": ("expnorm", "gauss"),
        "vector_cutoff": (False,),
        "remove_ref_energy": (False, True),
    }
    for name, allowed in expected.items():
        if options.get(name, allowed[0]) not in allowed:
            raise CheckpointError(
                f"{path}: {name}: {options[name]!r} is not supported, only {list(allowed)}"
            )


def _network(
    options: Mapping[str, Any], weights: Weights, units: tuple[float, float], path: Path
) -> tuple[TensorNetHypers, dict[str, Tensor], list[int]]:
    """Hyperparameters and weights of the network, and its elements."""
    length, energy = units
    table = _NETWORK + "tensor_embedding.emb.weight"
    n_rows = weights.peek(table).shape[0]
    # Row z embeds the element z; row 0 stands for nothing.
    species = list(range(1, min(n_rows, 119)))
    found = network_weights(
        weights,
        _NETWORK,
        int(options["num_layers"]),
        species,
        part_fastest="check_errors" in options,
        neighbor_first=False,
        flip_vectors=True,
    )
    basis, radial = _radial(options, weights, length)
    prefix = "model.output_model.output_network."
    prefix += "layers." if weights.names(prefix + "layers.") else ""
    values, depth = perceptron_weights(weights, "readout.values", prefix)
    second = options["model"] == "tensornet2"
    charges = _charges(weights, int(options["num_layers"])) if second else {}
    coulomb = "coulomb.weights" in charges
    if coulomb and length != 1.0:
        raise CheckpointError(
            f"{path}: length_unit: the Coulomb energy of the model is in Å, so that its data were"
        )
    try:
        hypers = TensorNetHypers(
            cutoff=float(options["cutoff_upper"]) * length,
            inner_cutoff=float(options["cutoff_lower"]) * length,
            n_units=int(options["embedding_dimension"]),
            n_layers=int(options["num_layers"]),
            n_functions=int(options["num_rbf"]),
            rbf=basis,
            activation=_ACTIVATIONS[options["activation"]],
            group=options["equivariance_invariance_group"],
            self_loops=True,
            charge=not second,
            n_charges=int(options["q_dim"]) if second else 0,
            coulomb=coulomb,
            readout_width=values["readout.values.0.weight"].shape[0],
            readout_depth=depth,
            energy_scale=weights.number("model.std", 1.0) * energy,
            energy_shift=weights.number("model.mean", 0.0) * energy,
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return hypers, {**found, **radial, **values, **charges}, species


def _charges(weights: Weights, n_layers: int) -> dict[str, Tensor]:
    """Weights of the predictions of charges, one before and one after each layer."""
    found: dict[str, Tensor] = {}
    names = ["charge_predict_0.", *(f"charge_predicts.{k}." for k in range(n_layers))]
    for k, name in enumerate(names):
        prefix, ours = _NETWORK + name, f"charges.{k}"
        for kind in ("weight", "bias"):
            found[f"{ours}.norm.{kind}"] = weights.take(f"{prefix}q_norm.{kind}")
        found |= perceptron_weights(weights, f"{ours}.values", f"{prefix}q_mlp.layers.")[0]
    weighted = "model.output_model.qweights"
    if weights.names(weighted):
        found["coulomb.weights"] = weights.take(weighted)
    return found


def _radial(
    options: Mapping[str, Any], weights: Weights, length: float
) -> tuple[str, dict[str, Tensor]]:
    """Name of the radial basis and its weights, for distances in Å."""
    prefix = _NETWORK + "distance_expansion."
    if options["rbf_type"] == "expnorm":
        found = {f"radial.{n}": weights.take(prefix + n) for n in ("means", "betas")}
        return "exponential", found
    offsets, coefficient = weights.take(prefix + "offset"), weights.take(prefix + "coeff")
    gammas = (-coefficient / length**2).expand_as(offsets).clone()
    return "gaussian", {"radial.means": offsets * length, "radial.gammas": gammas}


def _priors(
    options: Mapping[str, Any],
    weights: Weights,
    species: list[int],
    units: tuple[float, float],
    path: Path,
) -> tuple[Composition | None, ZBL | None]:
    """Terms that were added to the network's energy."""
    composition, zbl = None, None
    named = options.get("prior_model") or []
    named = named if isinstance(named, list) else [named]
    given = options.get("prior_args") or [{}] * len(named)
    given = given if isinstance(given, list) else [given]
    for k, (entry, arguments) in enumerate(zip(named, given, strict=True)):
        name = entry if isinstance(entry, str) else next(iter(entry))
        inline = {} if isinstance(entry, str) else entry[name] or {}
        prefix = f"model.prior_model.{k}."
        prefix = prefix if weights.names(prefix) else "model.prior_model."
        settings = {**inline, **(arguments or {})}
        if name == "Atomref" and composition is None:
            energies = weights.take(prefix + "atomref.weight").double().flatten() * units[1]
            if settings.get("enable", True):
                composition = Composition({z: float(energies[z]) for z in species})
        elif name == "ZBL" and zbl is None:
            zbl = _repulsion(settings, species, units, path)
        else:
            raise CheckpointError(
                f"{path}: prior_model: {name} is not supported, only one Atomref and one ZBL"
            )
        weights.drop(prefix)
    return composition, zbl


def _repulsion(
    settings: Mapping[str, Any], species: list[int], units: tuple[float, float], path: Path
) -> ZBL:
    length, energy = units
    numbers = torch.as_tensor(settings["atomic_number"]).flatten().tolist()
    if any(z < len(numbers) and numbers[z] != z for z in species):
        raise CheckpointError(
            f"{path}: prior_model: ZBL: atom types that are not atomic numbers are not supported"
        )
    meters = float(settings["distance_scale"]) / length  # one Å in metres, by the file
    joules = float(settings["energy_scale"]) / energy  # one eV in joules, by the file
    return ZBL(
        inner=0.0,
        cutoff=float(settings["cutoff_distance"]) * length,
        switch="cosine",
        amplitudes=_ZBL_AMPLITUDES,
        decays=_ZBL_DECAYS,
        length=0.8854 * _BOHR / meters,
        coulomb=_COULOMB / joules / meters,
    )
