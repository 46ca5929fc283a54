"""The importer, on a folder written here the way the original writes one."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.errors import CheckpointError
from ase_pet.formats import load
from ase_pet.potentials.pet import PET, PETHypers
from tests.unit.formats.conftest import HYPERS

SECTIONS = {
    "ARCHITECTURAL_HYPERS": {
        "ACTIVATION": "silu",
        "ADD_TOKEN_FIRST": True,
        "ADD_TOKEN_SECOND": True,
        "AVERAGE_BOND_ENERGIES": False,
        "AVERAGE_POOLING": False,
        "BLEND_NEIGHBOR_SPECIES": True,
        "COMPRESS_MODE": "mlp",
        "CUTOFF_DELTA": 0.5,
        "DTYPE": "float32",
        "D_OUTPUT": 1,
        "HEADS_CENTRAL_SPECIFIC": False,
        "HEAD_N_NEURONS": 6,
        "K_CUT": "None",
        "N_GNN_LAYERS": 2,
        "N_TARGETS": 1,
        "N_TRANS_LAYERS": 1,
        "RESIDUAL_FACTOR": 0.5,
        "R_CUT": 3,
        "R_EMBEDDING_ACTIVATION": False,
        "SCALAR_ATTRIBUTES_SIZE": None,
        "TARGET_AGGREGATION": "sum",
        "TARGET_INDEX_KEY": "target_index",
        "TARGET_TYPE": "structural",
        "TRANSFORMERS_CENTRAL_SPECIFIC": False,
        "TRANSFORMER_DIM_FEEDFORWARD": 12,
        "TRANSFORMER_D_MODEL": 8,
        "TRANSFORMER_N_HEAD": 2,
        "TRANSFORMER_TYPE": "PostLN",
        "USE_ADDITIONAL_SCALAR_ATTRIBUTES": False,
        "USE_BOND_ENERGIES": True,
        "USE_LENGTH": True,
        "USE_LONG_RANGE": False,
        "USE_ONLY_LENGTH": False,
    },
    "FITTING_SCHEME": {"GLOBAL_AUG": False},
    "MLIP_SETTINGS": {"USE_ENERGIES": True, "USE_FORCES": True},
    "UTILITY_FLAGS": {"CALCULATION_TYPE": "mlip"},
}
STATE = "best_val_rmse_both_model_state_dict"


def named_as_there(name: str, n_targets: int = 1) -> str:
    """The original's name of one of our weights."""
    parts = name.split(".")
    if parts[0] == "embedding":
        return name
    layer, kind, *rest = parts[1:]
    if kind in ("heads", "bond_heads"):
        inner = f"models.{rest[0]}" if n_targets > 1 else "model"
        return f"{kind}.{layer}.{inner}.nn.{'.'.join(rest[1:])}"
    if kind == "blocks":
        block, part, *rest = rest
        part = {"qkv": "attention.input_linear", "out": "attention.output_linear"}.get(part, part)
        if part == "mlp":
            rest[0] = {"0": "0", "2": "3"}[rest[0]]
        return f"gnn_layers.{layer}.trans.layers.{block}.{part}.{'.'.join(rest)}"
    there = {
        "coordinates": "r_embedding",
        "central_species": "central_embedder",
        "neighbor_species": "neighbor_embedder",
        "compress": "compress",
    }[kind]
    return f"gnn_layers.{layer}.{there}.{'.'.join(rest)}"


def state_dict_of(network: PET, prefix: str = "model.pet_model.") -> dict[str, Tensor]:
    """Our weights as the original saves them: padding rows, templates and repeated heads."""
    state = {}
    for name, value in network.state_dict().items():
        if name.endswith(("embedding.weight", "_species.weight")):
            value = torch.cat([value, torch.full_like(value[:1], 99.0)])
        state[named_as_there(name, network.hypers.n_targets)] = value.float()
    for name in list(state):
        kind, layer, *rest = name.split(".")
        if kind == "heads":
            for predictor in ("central_tokens_predictors", "messages_predictors"):
                state[".".join([predictor, layer, "head", *rest])] = state[name]
        if kind == "bond_heads":
            state[".".join(["messages_bonds_predictors", layer, "head", *rest])] = state[name]
        if ".trans.layers.0." in name:
            state[name.replace(".trans.layers.0.", ".trans_layer.")] = torch.zeros(3)
    return {prefix + name: value for name, value in state.items()}


def network(hypers: PETHypers | None = None) -> PET:
    torch.manual_seed(3)
    return PET(hypers or replace(HYPERS, blend_neighbor_species=True), (1, 6))


def change(folder: Path, name: str, value: object, section: str = "ARCHITECTURAL_HYPERS") -> None:
    path = folder / "hypers_used.yaml"
    content = yaml.safe_load(path.read_text())
    if value is ...:
        del content[section][name]
    else:
        content[section][name] = value
    path.write_text(yaml.safe_dump(content))


def written(path: Path) -> Path:
    """A folder as the original leaves it."""
    path.mkdir()
    (path / "hypers_used.yaml").write_text(yaml.safe_dump(SECTIONS))
    np.save(path / "all_species.npy", np.array([1, 6]))
    np.save(path / "self_contributions.npy", np.array([-13.6, -1030.5]))
    torch.save(state_dict_of(network()), path / STATE)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "trained")


def triangle() -> Graph:
    positions = torch.tensor([[0.0, 0, 0], [1.0, 0.1, 0.2], [0.3, 1.2, 0.1]], dtype=torch.float64)
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    centers, others = (torch.tensor(v) for v in zip(*pairs, strict=True))
    reverse = torch.tensor([pairs.index((j, i)) for i, j in pairs])
    vectors = positions[others] - positions[centers]
    index = torch.zeros(3, dtype=torch.int64)
    return Graph(torch.tensor([6, 1, 1]), index, 1, centers, others, reverse, vectors)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Equal but for the rounding of float32 sums, whose order may depend on memory."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_weights_and_settings_arrive(folder: Path) -> None:
    model = load(folder)
    assert model.potential.backbone.hypers == replace(HYPERS, blend_neighbor_species=True)
    assert model.dtype == "float32"
    assert model.potential.composition.energies == {1: -13.6, 6: -1030.5}
    assert model.metadata["rotations"] == "atom"
    assert len(model.sha256) == 64
    assert_same(model.potential.backbone(triangle()), network()(triangle()))


def test_a_string_with_a_slash_will_do(folder: Path) -> None:
    assert load(f"{folder}/").sha256 == load(folder).sha256


@pytest.mark.parametrize(
    "prefix",
    ["model.pet_model.", "module.model.pet_model.", "module.model.model.pet_model.", "pet_model."],
)
def test_wrappers_in_the_names_do_not_matter(folder: Path, prefix: str) -> None:
    torch.save(state_dict_of(network(), prefix), folder / STATE)
    assert_same(load(folder).potential.backbone(triangle()), network()(triangle()))


def test_species_in_any_order(folder: Path) -> None:
    reference = load(folder).potential(triangle())
    swapped = state_dict_of(network())
    for name, value in swapped.items():
        if value.shape == (3, 8):
            swapped[name] = value[[1, 0, 2]]
    torch.save(swapped, folder / STATE)
    np.save(folder / "all_species.npy", np.array([6, 1]))
    np.save(folder / "self_contributions.npy", np.array([-1030.5, -13.6]))
    assert_same(load(folder).potential(triangle()), reference)


def test_float64_and_half_precision(folder: Path) -> None:
    change(folder, "DTYPE", "float64")
    assert load(folder).potential.backbone.dtype == torch.float64
    change(folder, "DTYPE", "bfloat16")
    half = {name: value.bfloat16() for name, value in state_dict_of(network()).items()}
    torch.save(half, folder / STATE)
    model = load(folder)
    assert model.dtype == "float32"
    embedding = half["model.pet_model.embedding.weight"][:2].float()
    assert torch.equal(model.potential.backbone.embedding.weight, embedding)


def test_residual_factor_of_before_it_was_an_option(folder: Path) -> None:
    change(folder, "RESIDUAL_FACTOR", ...)
    assert load(folder).potential.backbone.hypers.residual_factor == 0.5


def test_several_targets(folder: Path) -> None:
    hypers = replace(HYPERS, blend_neighbor_species=True, n_targets=2)
    change(folder, "N_TARGETS", 2)
    torch.save(state_dict_of(network(hypers)), folder / STATE)
    with pytest.raises(CheckpointError, match=r"2 targets.*target=0.*target=1"):
        load(folder)
    for target in (0, 1):
        expected = network(replace(hypers, target=target))(triangle())
        assert_same(load(folder, target=target).potential.backbone(triangle()), expected)


def test_forces_only_models_need_no_self_contributions(folder: Path) -> None:
    (folder / "self_contributions.npy").unlink()
    with pytest.raises(CheckpointError, match=r"self_contributions\.npy: not readable"):
        load(folder)
    change(folder, "USE_ENERGIES", False, "MLIP_SETTINGS")
    assert load(folder).potential.composition is None


def test_the_best_of_several_weights_or_the_one_asked_for(folder: Path) -> None:
    torch.manual_seed(4)
    other = PET(replace(HYPERS, blend_neighbor_species=True), (1, 6))
    torch.save(state_dict_of(other), folder / "best_val_mae_energies_model_state_dict")
    assert_same(load(folder).potential.backbone(triangle()), network()(triangle()))
    chosen = load(folder / "best_val_mae_energies_model_state_dict")
    assert_same(chosen.potential.backbone(triangle()), other(triangle()))
    (folder / STATE).rename(folder / "best_val_mae_forces_model_state_dict")
    with pytest.raises(CheckpointError, match=r"best_val_mae_energies.*load one of them"):
        load(folder)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / STATE).unlink()
    with pytest.raises(CheckpointError, match=f"expected a file {STATE}, got \\[\\]"):
        load(folder)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("", "USE_LONG_RANGE", True, "USE_LONG_RANGE: long-range.*not supported"),
        ("", "HEADS_CENTRAL_SPECIFIC", True, "HEADS_CENTRAL_SPECIFIC.*not supported"),
        ("", "TRANSFORMERS_CENTRAL_SPECIFIC", True, "TRANSFORMERS_CENTRAL_SPECIFIC.*not supp"),
        ("", "USE_ADDITIONAL_SCALAR_ATTRIBUTES", True, "SCALAR_ATTRIBUTES.*not supported"),
        ("FITTING_SCHEME", "USE_LORA_PEFT", True, "USE_LORA_PEFT.*not supported"),
        ("", "TARGET_TYPE", "atomic", "TARGET_TYPE: expected 'structural', got 'atomic'"),
        ("", "TARGET_AGGREGATION", "mean", "TARGET_AGGREGATION: expected 'sum', got 'mean'"),
        ("", "D_OUTPUT", 3, "D_OUTPUT: expected 1, got 3.*no potential"),
        ("UTILITY_FLAGS", "CALCULATION_TYPE", "general_target", "CALCULATION_TYPE: expected 'ml"),
        ("", "R_CUT", ..., r"missing \['R_CUT'\]"),
        ("", "DTYPE", ..., r"missing \['DTYPE'\]"),
        ("", "USE_MAGIC", True, r"unknown \['USE_MAGIC'\]"),
        ("", "R_CUT", "five", "R_CUT: expected float, got 'five'"),
        ("", "USE_BOND_ENERGIES", "yes", "USE_BOND_ENERGIES: expected bool, got 'yes'"),
        ("", "ACTIVATION", "relu", "activation: expected one of"),
        ("", "TRANSFORMER_TYPE", "PreLN", r"missing \['layers.0.final_norm.bias'"),
        ("", "N_GNN_LAYERS", 3, "missing.*layers.2"),
        ("", "USE_LENGTH", False, r"coordinates.weight: expected shape \[8, 3\], got \[8, 4\]"),
    ],
)
def test_unsupported_hyperparameters_are_named(
    folder: Path, section: str, name: str, value: object, message: str
) -> None:
    change(folder, name, value, section or "ARCHITECTURAL_HYPERS")
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_an_unknown_switch_that_is_off_does_not_matter(folder: Path) -> None:
    species = load(folder).species
    change(folder, "USE_MAGIC", False)
    assert load(folder).species == species


def test_flat_hyperparameters_are_recognised(folder: Path) -> None:
    flat = yaml.safe_dump(SECTIONS["ARCHITECTURAL_HYPERS"])
    (folder / "hypers_used.yaml").write_text(flat)
    with pytest.raises(CheckpointError, match=r"flat hyperparameters.*2023-12-26.*not supported"):
        load(folder)


def test_old_names_of_heads_are_recognised(folder: Path) -> None:
    old = {
        name.replace(".model.nn.", ".nn."): value
        for name, value in state_dict_of(network()).items()
    }
    torch.save(old, folder / STATE)
    with pytest.raises(CheckpointError, match=r"heads\.\*\.nn.*2024-03-31.*cutoff factor"):
        load(folder)


@pytest.mark.parametrize("content", ["- 1\n", "", "x: {", "ARCHITECTURAL_HYPERS: 3\n", "\x00"])
def test_other_yaml_is_refused(folder: Path, content: str) -> None:
    (folder / "hypers_used.yaml").write_text(content)
    with pytest.raises(CheckpointError, match=r"hypers_used\.yaml"):
        load(folder)


def test_unexpected_and_missing_weights_are_listed(folder: Path) -> None:
    state = state_dict_of(network())
    torch.save({**state, "model.pet_model.adapter.weight": torch.zeros(2)}, folder / STATE)
    with pytest.raises(CheckpointError, match=r"unexpected weights \['adapter.weight'\]"):
        load(folder)
    del state["model.pet_model.gnn_layers.1.compress.2.bias"]
    torch.save(state, folder / STATE)
    with pytest.raises(CheckpointError, match=r"missing \['layers.1.compress.2.bias'\]"):
        load(folder)


def test_wrong_weights_are_refused(folder: Path) -> None:
    state = state_dict_of(network())
    name = "model.pet_model.messages_predictors.0.head.model.nn.0.bias"
    torch.save({**state, name: state[name] + 1.0}, folder / STATE)
    with pytest.raises(CheckpointError, match=r"messages_predictors\.0.*should repeat heads\.0"):
        load(folder)
    name = "model.pet_model.embedding.weight"
    torch.save({**state, name: state[name][:2]}, folder / STATE)
    with pytest.raises(CheckpointError, match="expected 3 rows for 2 species and padding"):
        load(folder)
    torch.save({**state, name: state[name] * torch.nan}, folder / STATE)
    with pytest.raises(CheckpointError, match=r"embedding.weight.*NaN"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_state_dict": {}, "optim_state_dict": {}}, "expected a state dictionary"),
        ([torch.zeros(2)], "expected a state dictionary"),
        ({"weight": torch.zeros(2)}, r"not weights of the original PET: \['weight'\]"),
        ({}, "not weights of the original PET"),
    ],
)
def test_other_torch_files_are_refused(folder: Path, content: object, message: str) -> None:
    torch.save(content, folder / STATE)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("all_species.npy", np.array([1.0, 6.0]), "one-dimensional array of numbers, got float64"),
        ("all_species.npy", np.array([[1, 6]]), "one-dimensional"),
        ("all_species.npy", np.array([1, 6, 8]), "expected 4 rows for 3 species"),
        ("all_species.npy", np.array([1, 600]), "atomic numbers"),
        ("all_species.npy", np.array([6, 6]), "distinct"),
        ("self_contributions.npy", np.array([1.0]), "one energy for each of 2 species, got 1"),
        ("self_contributions.npy", np.array([1.0, np.nan]), "expected finite values"),
    ],
)
def test_wrong_arrays_are_refused(folder: Path, name: str, array: object, message: str) -> None:
    np.save(folder / name, array)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize("name", ["all_species.npy", "self_contributions.npy", STATE])
@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"PK\x03\x04", b"some text"])
def test_damaged_files_are_refused(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=name):
        load(folder)


class Attack:
    """Unpickling makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.marker,)


def test_code_in_arrays_is_not_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "attacked"
    attack = np.array([Attack(marker), 1], dtype=object)
    for name in ("all_species.npy", "self_contributions.npy"):
        good = (folder / name).read_bytes()
        np.save(folder / name, attack)
        with pytest.raises(CheckpointError, match=f"{name}.*Object arrays cannot be loaded"):
            load(folder)
        (folder / name).write_bytes(pickle.dumps(Attack(marker)))
        with pytest.raises(CheckpointError, match=f"{name}: not readable as a plain array"):
            load(folder)
        (folder / name).write_bytes(good)
    assert not marker.exists()
    np.save(folder / "attack.npy", attack)
    np.load(folder / "attack.npy", allow_pickle=True)
    assert marker.exists(), "the attack does nothing, so that this test says nothing"


def test_code_in_weights_is_not_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "attacked"
    torch.save({**state_dict_of(network()), "extra": Attack(marker)}, folder / STATE)
    with pytest.raises(CheckpointError, match=r"refused.*\.mkdir"):
        load(folder)
    assert not marker.exists()


def test_code_in_yaml_is_not_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "attacked"
    attack = f"R_CUT: !!python/object/apply:os.mkdir ['{marker}']\n"
    (folder / "hypers_used.yaml").write_text(attack)
    with pytest.raises(CheckpointError, match=r"python/object/apply:os\.mkdir"):
        load(folder)
    assert not marker.exists()
    yaml.unsafe_load(attack)
    assert marker.exists(), "the attack does nothing, so that this test says nothing"
