"""Importer of the folders that the original PET code of 2023 writes.

A folder holds ``hypers_used.yaml``, ``all_species.npy``, ``self_contributions.npy`` and one or
more files ``*_state_dict``. Everything is read as data: the YAML with the safe loader, the arrays
without pickles, the weights by the restricted unpickler.

Source:
    Pozdnyakov & Ceriotti, NeurIPS 2023 (arXiv 2305.19302), https://github.com/spozdn/pet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.formats.files import sha256_of
from ase_pet.formats.model import Model
from ase_pet.formats.native import METADATA
from ase_pet.formats.networks import DTYPES, build
from ase_pet.formats.torch_file import read_plain
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total

HYPERS = "hypers_used.yaml"
SPECIES = "all_species.npy"
CONTRIBUTIONS = "self_contributions.npy"
#: Taken where a folder holds several.
DEFAULT_STATE_DICT = "best_val_rmse_both_model_state_dict"

_PREFIX = re.compile(r"(module\.)?(model\.)*pet_model\.")
_UNUSED = re.compile(r"gnn_layers\.\d+\.trans_layer\.")
_SHARED = re.compile(r"(central_tokens|messages|messages_bonds)_predictors\.(\d+)\.head\.")
_LAYER = r"gnn_layers\.(\d+)\."
_RENAMED = [
    (r"embedding\.", "embedding."),
    (_LAYER + r"trans\.layers\.(\d+)\.attention\.input_linear\.", r"layers.\1.blocks.\2.qkv."),
    (_LAYER + r"trans\.layers\.(\d+)\.attention\.output_linear\.", r"layers.\1.blocks.\2.out."),
    (_LAYER + r"trans\.layers\.(\d+)\.(norm_attention|norm_mlp)\.", r"layers.\1.blocks.\2.\3."),
    (_LAYER + r"trans\.layers\.(\d+)\.mlp\.0\.", r"layers.\1.blocks.\2.mlp.0."),
    (_LAYER + r"trans\.layers\.(\d+)\.mlp\.3\.", r"layers.\1.blocks.\2.mlp.2."),
    (_LAYER + r"trans\.final_norm\.", r"layers.\1.final_norm."),
    (_LAYER + r"r_embedding\.(0\.)?", r"layers.\1.coordinates."),
    (_LAYER + r"compress\.", r"layers.\1.compress."),
    (_LAYER + r"central_embedder\.", r"layers.\1.central_species."),
    (_LAYER + r"neighbor_embedder\.", r"layers.\1.neighbor_species."),
    (r"(bond_)?heads\.(\d+)\.model\.nn\.", r"layers.\2.\1heads.0."),
    (r"(bond_)?heads\.(\d+)\.models\.(\d+)\.nn\.", r"layers.\2.\1heads.\3."),
]
#: Embeddings, which have one row more than there are species.
_TABLES = ("embedding.weight", "central_species.weight", "neighbor_species.weight")

#: Hyperparameters that keep their meaning: ours, theirs, type.
_SAME = (
    ("cutoff", "R_CUT", float),
    ("cutoff_width", "CUTOFF_DELTA", float),
    ("d_model", "TRANSFORMER_D_MODEL", int),
    ("n_heads", "TRANSFORMER_N_HEAD", int),
    ("d_feedforward", "TRANSFORMER_DIM_FEEDFORWARD", int),
    ("n_message_layers", "N_GNN_LAYERS", int),
    ("n_attention_layers", "N_TRANS_LAYERS", int),
    ("head_width", "HEAD_N_NEURONS", int),
    ("activation", "ACTIVATION", str),
    ("transformer", "TRANSFORMER_TYPE", str),
    ("compress", "COMPRESS_MODE", str),
    ("central_token_first", "ADD_TOKEN_FIRST", bool),
    ("central_token_last", "ADD_TOKEN_SECOND", bool),
    ("blend_neighbor_species", "BLEND_NEIGHBOR_SPECIES", bool),
    ("coordinate_activation", "R_EMBEDDING_ACTIVATION", bool),
    ("bond_energies", "USE_BOND_ENERGIES", bool),
    ("average_pooling", "AVERAGE_POOLING", bool),
    ("average_bond_energies", "AVERAGE_BOND_ENERGIES", bool),
    ("residual_factor", "RESIDUAL_FACTOR", float),
    ("n_targets", "N_TARGETS", int),
)
#: Switches whose False is supported, and what their True would need.
_REFUSED = {
    "USE_LONG_RANGE": "long-range features in reciprocal space",
    "HEADS_CENTRAL_SPECIFIC": "energy heads specific to the central element",
    "TRANSFORMERS_CENTRAL_SPECIFIC": "transformers specific to the central element",
    "USE_ADDITIONAL_SCALAR_ATTRIBUTES": "additional scalar attributes of the atoms",
    "USE_ZBL": "the original's own ZBL repulsion",
    "USE_LORA_PEFT": "low-rank adapters",
}
#: Read elsewhere, or without influence once the switches above are off.
_OTHER = {
    *("D_OUTPUT", "TARGET_TYPE", "TARGET_AGGREGATION", "TARGET_INDEX_KEY"),
    *("K_CUT", "K_CUT_DELTA", "SCALAR_ATTRIBUTES_SIZE", "USE_LENGTH", "USE_ONLY_LENGTH"),
}


def matches(path: Path) -> bool:
    """Whether a path is such a folder, or a file in one."""
    return (path if path.is_dir() else path.parent).joinpath(HYPERS).is_file()


def load(path: str | Path, target: int | None = None) -> Model:
    """Read a folder of the original PET.

    Args:
        path: The folder, or one ``*_state_dict`` in it; of several in a folder, that of the best
            validation error of energies and forces together is taken.
        target: Which target's heads to use, from 0, for a model trained on several at once
            (``N_TARGETS`` > 1), in which every structure said which one it belongs to.

    Raises:
        CheckpointError: If anything is missing, damaged or unsupported; says what and why.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    state_file = _state_dict_in(folder) if path.is_dir() else path
    options = _read_yaml(folder / HYPERS)
    hypers = _hypers(options, folder / HYPERS, target)
    species = _read_array(folder / SPECIES, "iu")
    weights = _renamed(_read_weights(state_file), species, state_file)
    # Half precision is kept exactly in float32.
    dtype = "float64" if options["ARCHITECTURAL_HYPERS"]["DTYPE"] == "float64" else "float32"
    backbone = build(PET, hypers, species.tolist(), weights, str(state_file), DTYPES[dtype])
    files = [folder / HYPERS, folder / SPECIES, state_file]
    composition = None
    if options["MLIP_SETTINGS"].get("USE_ENERGIES", True):
        files.append(folder / CONTRIBUTIONS)
        composition = _composition(folder, species)
    return Model(
        potential=Total(backbone, composition).eval().requires_grad_(False),
        dtype=dtype,
        metadata=_metadata(options, files),
        architecture="pet",
        path=str(path),
        sha256=sha256_of(*files),
    )


def _state_dict_in(folder: Path) -> Path:
    found = sorted(p for p in folder.glob("*_state_dict") if p.is_file())
    if len(found) == 1:
        return found[0]
    if folder / DEFAULT_STATE_DICT in found:
        return folder / DEFAULT_STATE_DICT
    raise CheckpointError(
        f"{folder}: expected a file {DEFAULT_STATE_DICT}, got {[p.name for p in found]}; "
        + ("load one of them by its path" if found else "copy the trained weights there")
    )


def _read_yaml(path: Path) -> dict[str, dict[str, Any]]:
    """Read the hyperparameters, section by section, and recognise other generations of them."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: not readable as plain YAML: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected sections of hyperparameters, got {content!r:.60}")
    if "ARCHITECTURAL_HYPERS" not in content and "R_CUT" in content:
        raise CheckpointError(
            f"{path}: flat hyperparameters, as the original wrote them before 2023-12-26; models "
            "of that time define bond energies without the cutoff factor and are not supported. "
            "Train the model again with a later version"
        )
    sections = {name: content.get(name) for name in ("ARCHITECTURAL_HYPERS", "MLIP_SETTINGS")}
    for name in ("FITTING_SCHEME", "UTILITY_FLAGS"):
        sections[name] = content.get(name, {})
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise CheckpointError(
                f"{path}: {name}: expected a section of hyperparameters, got {section!r:.60}"
            )
    return {
        name: {k: None if v in ("None", "none") else v for k, v in section.items()}
        for name, section in sections.items()
        if section is not None
    }


def _hypers(options: Mapping[str, dict[str, Any]], path: Path, target: int | None) -> PETHypers:
    """Translate the hyperparameters, refusing by name what is not supported."""
    architecture = {"RESIDUAL_FACTOR": 0.5, **options["ARCHITECTURAL_HYPERS"]}
    _refuse_unsupported(options, path)
    needed = {"DTYPE", *(theirs for _, theirs, _ in _SAME)}
    missing = sorted(needed - architecture.keys())
    others = architecture.keys() - needed - _OTHER - _REFUSED.keys()
    unknown = sorted(name for name in others if architecture[name] not in (None, False))
    if missing or unknown:
        raise CheckpointError(
            f"{path}: ARCHITECTURAL_HYPERS: missing {missing}, unknown {unknown}; this is not the "
            "file of a supported version of the original PET"
        )
    values = {ours: _typed(architecture, theirs, kind, path) for ours, theirs, kind in _SAME}
    coordinates = "vector_and_length" if architecture.get("USE_LENGTH", True) else "vector"
    values["coordinates"] = "length" if architecture.get("USE_ONLY_LENGTH") else coordinates
    values["target"] = _target(values["n_targets"], target, path)
    try:
        return PETHypers(**values)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _typed(section: Mapping[str, Any], name: str, kind: type, path: Path) -> Any:
    value = section[name]
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is not kind:
        raise CheckpointError(f"{path}: {name}: expected {kind.__name__}, got {value!r}")
    return value


def _target(n_targets: int, target: int | None, path: Path) -> int:
    if target is None and n_targets > 1:
        raise CheckpointError(
            f"{path}: the model was trained on {n_targets} targets at once (N_TARGETS) and has "
            f"one energy for each; choose one: load(path, target=0) to target={n_targets - 1}"
        )
    return target or 0


def _refuse_unsupported(options: Mapping[str, dict[str, Any]], path: Path) -> None:
    architecture = options["ARCHITECTURAL_HYPERS"]
    for name, meaning in _REFUSED.items():
        if architecture.get(name) or options["FITTING_SCHEME"].get(name):
            raise CheckpointError(
                f"{path}: {name}: {meaning} are not supported; only models trained with "
                f"{name}: False can be imported"
            )
    expected = {"TARGET_TYPE": "structural", "TARGET_AGGREGATION": "sum", "D_OUTPUT": 1}
    values = {name: architecture.get(name, value) for name, value in expected.items()}
    expected["CALCULATION_TYPE"] = "mlip"
    values |= {"CALCULATION_TYPE": "mlip", **options["UTILITY_FLAGS"]}
    for name, value in expected.items():
        if values[name] != value:
            raise CheckpointError(
                f"{path}: {name}: expected {value!r}, got {values[name]!r}: the model predicts "
                "another quantity than the energy of a structure, so that it is no potential"
            )


def _read_array(path: Path, kinds: str) -> np.ndarray[Any, Any]:
    """Read a one-dimensional array of integers ("iu") or floats ("f")."""
    try:
        with path.open("rb") as file:
            array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as a plain array: {error}") from error
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise CheckpointError(
            f"{path}: expected a one-dimensional array of numbers, got {array.dtype} "
            f"{list(array.shape)}"
        )
    return array


def _composition(folder: Path, species: np.ndarray[Any, Any]) -> Composition:
    path = folder / CONTRIBUTIONS
    energies = _read_array(path, "fiu")
    if energies.shape != species.shape:
        raise CheckpointError(
            f"{path}: expected one energy for each of {len(species)} species, got {len(energies)}"
        )
    try:
        return Composition(dict(zip(species.tolist(), energies.tolist(), strict=True)))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dictionary and strip the names of the wrappers around the network."""
    content = read_plain(path)
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise CheckpointError(
            f"{path}: expected a state dictionary (*_state_dict of the original PET), got "
            f"a {type(content).__name__} of something else; training checkpoints hold more than "
            "the weights, load the *_state_dict beside them"
        )
    foreign = sorted(name for name in content if not _PREFIX.match(name))
    if foreign or not content:
        raise CheckpointError(f"{path}: not weights of the original PET: {foreign[:6]}")
    weights = {_PREFIX.sub("", name, count=1): value for name, value in content.items()}
    if any(re.match(r"(bond_)?heads\.\d+\.nn\.", name) for name in weights):
        raise CheckpointError(
            f"{path}: heads named heads.*.nn, as the original named them in its first year; until "
            "2024-03-31 such models defined bond energies without the cutoff factor, and nothing "
            "in the file tells which definition it was trained with. Train it again with a later "
            "version"
        )
    return weights


def _renamed(
    weights: Mapping[str, Tensor], species: np.ndarray[Any, Any], path: Path
) -> dict[str, Tensor]:
    """Translate a state dictionary; every entry is used, known to be unused, or refused."""
    renamed, unknown = {}, []
    order = torch.from_numpy(np.argsort(species))
    for name, value in weights.items():
        if _UNUSED.match(name):
            continue
        if shared := _SHARED.match(name):
            kind = "bond_heads" if shared[1] == "messages_bonds" else "heads"
            source = f"{kind}.{shared[2]}.{name[shared.end() :]}"
            if source not in weights or not torch.equal(weights[source], value):
                raise CheckpointError(f"{path}: {name} should repeat {source}, but differs from it")
            continue
        ours = next((re.sub(p, r, name, count=1) for p, r in _RENAMED if re.match(p, name)), None)
        if ours is None:
            unknown.append(name)
            continue
        if ours.endswith(_TABLES):
            value = _without_padding(value, order, f"{path}: {name}")
        renamed[ours] = value
    if unknown:
        raise CheckpointError(f"{path}: unexpected weights {unknown}; an unknown version of PET")
    return renamed


def _without_padding(table: Tensor, order: Tensor, where: str) -> Tensor:
    """Rows of the species, sorted by atomic number; the last row of a table embeds padding."""
    if table.dim() != 2 or table.shape[0] != len(order) + 1:
        raise CheckpointError(
            f"{where}: expected {len(order) + 1} rows for {len(order)} species and padding, got "
            f"shape {list(table.shape)}"
        )
    return table[order]


def _metadata(options: Mapping[str, dict[str, Any]], files: list[Path]) -> dict[str, Any]:
    augmentation: object = options["FITTING_SCHEME"].get("GLOBAL_AUG")
    rotations = "structure" if augmentation is True else "atom" if augmentation is False else None
    return {
        **dict.fromkeys(METADATA),
        "citation": "Pozdnyakov & Ceriotti, NeurIPS 2023, arXiv:2305.19302",
        "rotations": rotations,
        "source": {
            "format": "native folder of the original PET (2023)",
            "dtype": options["ARCHITECTURAL_HYPERS"]["DTYPE"],
            "sha256": {path.name: sha256_of(path) for path in files},
        },
    }
