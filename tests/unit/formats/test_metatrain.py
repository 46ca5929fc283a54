from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ase_pet import load
from ase_pet.errors import CheckpointError
from ase_pet.formats import native
from ase_pet.formats.importers.metatrain_targets import direct_unit
from ase_pet.potentials import electrostatics
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.foreign_metatrain import checkpoint, serialised, write
from tests.tiny import NEEDS_TORCH_PME, SPECIES, tiny_modern_pet

EVERY = structures(SPECIES)
ENERGIES = {1: -13.5, 6: -1030.25, 8: -2041.125}


FAR = {"long_range": True, "smearing": 0.9, "mesh_spacing": 0.8, "mesh_nodes": 4}


def graph():
    return graph_of([EVERY[name] for name in ("molecule", "triclinic")], 2.6, whole=True)


def changed(where: str, value: object, **options: Any) -> dict[str, Any]:
    """A checkpoint with one hyperparameter or entry changed."""
    content = checkpoint(tiny_modern_pet(), **options)
    inside = content["model_data"]["model_hypers"]
    (inside if where in inside else content)[where] = value
    return content


@pytest.mark.parametrize(
    "option",
    [
        {},
        {"messages": "residual", "transformer": "PostLN", "normalization": "LayerNorm"},
        {"d_node": 8, "activation": "SiLU", "cutoff_function": "Cosine"},
        {"n_neighbors": 3.0, "adaptive_method": "grid", "temperature": 1.5},
        {"conditioning": True, "max_charge": 2, "max_spin": 3},
        pytest.param({**FAR, "messages": "residual"}, marks=NEEDS_TORCH_PME),
        pytest.param({**FAR, "d_node": 8}, marks=NEEDS_TORCH_PME),
    ],
    ids=str,
)
def test_energies_are_those_of_the_network_that_was_written(
    option: dict[str, Any], tmp_path: Path
) -> None:
    net = tiny_modern_pet(2, **option)
    path = write(checkpoint(net, energies=ENERGIES, scale=0.37), tmp_path / "model.ckpt")
    model = load(path)
    base = torch.tensor([ENERGIES[z] for z in graph().numbers.tolist()], dtype=torch.float64)
    expected = 0.37 * net(graph()) + base
    torch.testing.assert_close(model.potential(graph()), expected, rtol=1e-14, atol=1e-12)
    assert (model.dtype, model.architecture) == ("float64", "pet-metatrain")
    native.save(model, tmp_path / "native.pt")
    again = load(tmp_path / "native.pt")
    assert torch.equal(again.potential(graph()), model.potential(graph()))
    assert again.potential.backbone.hypers == model.potential.backbone.hypers


def test_units_of_energy_are_converted(tmp_path: Path) -> None:
    net = tiny_modern_pet()
    targets = {"energy": {"quantity": "energy", "unit": "hartree"}}
    content = checkpoint(net, targets=targets, energies=dict.fromkeys(SPECIES, 1.0))
    model = load(write(content, tmp_path / "model.ckpt"))
    expected = 27.211386024367243 * (net(graph()) + 1.0)
    torch.testing.assert_close(model.potential(graph()), expected, rtol=1e-14, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "unit", "expected"),
    [
        ("forces", "", 27.211386024367243),  # that of the energy
        ("forces", "eV/Angstrom", 1.0),
        ("forces", "meV/A", 1e-3),
        ("forces", "kcal/mol/A", 0.04336410390059322),
        ("stress", "eV/A^3", 1.0),
        ("stress", "kJ/mol/Angstrom^3", 0.010364269574711572),
    ],
)
def test_units_of_direct_heads(kind: str, unit: str, expected: float) -> None:
    assert direct_unit(kind, unit, 27.211386024367243, Path("model.ckpt")) == expected
    with pytest.raises(CheckpointError, match="unit: expected one of"):
        direct_unit(kind, "eV/bohr", 1.0, Path("model.ckpt"))


def test_scales_are_a_product_since_version_13(tmp_path: Path) -> None:
    net = tiny_modern_pet()
    content = checkpoint(net, scale=99.0)
    for kind, value in (("per_target", 0.5), ("per_property", 3.0)):
        name = f"scaler.energy_{kind}_scaler_buffer"
        content["model_state_dict"][name] = serialised("atomic_type", [-1], [value])
    model = load(write(content, tmp_path / "model.ckpt"))
    torch.testing.assert_close(model.potential(graph()), 1.5 * net(graph()), rtol=1e-14, atol=1e-13)


def test_the_best_weights_are_taken(tmp_path: Path) -> None:
    first, best = tiny_modern_pet(seed=0), tiny_modern_pet(seed=1)
    content = checkpoint(first)
    content["best_model_state_dict"] = checkpoint(best)["model_state_dict"]
    model = load(write(content, tmp_path / "model.ckpt"))
    assert torch.equal(model.potential.backbone(graph()), best(graph()))


def test_large_models_of_version_7(tmp_path: Path) -> None:
    """By the rules alone: no file of them was at hand."""
    net = tiny_modern_pet(2, d_node=32, d_feedforward=16, cutoff_function="Cosine")
    content = checkpoint(net, scale=0.5)
    renamed = {
        "node_embedders.0.weight": "node_embedding.weight",
        "edge_embedder.weight": "embedding.weight",
    }
    content["model_state_dict"] = {
        renamed.get(k, k).replace("combination_norms", "combination_rmsnorms"): v
        for k, v in (
            (k.removeprefix("backend."), v) for k, v in content["model_state_dict"].items()
        )
    }
    content["best_model_state_dict"] = {"left": torch.ones(1)}
    content["model_ckpt_version"] = 7
    options = content["model_data"]["model_hypers"]
    kept = ("cutoff", "cutoff_width", "d_pet", "d_head", "num_heads", "num_attention_layers")
    kept = (*kept, "num_gnn_layers", "zbl", "long_range")
    content["model_data"]["model_hypers"] = {k: options[k] for k in kept} | {"d_feedforward": 3}
    model = load(write(content, tmp_path / "model.ckpt"))
    expected = 0.5 * net(graph())
    torch.testing.assert_close(model.potential(graph()), expected, rtol=1e-14, atol=1e-13)


def test_the_model_inside_a_wrapper_is_read(tmp_path: Path) -> None:
    net, path = tiny_modern_pet(), tmp_path / "model.ckpt"
    content: dict[str, Any] = {"architecture_name": "llpr", "model_ckpt_version": 4}
    model = load(write({**content, "wrapped_model_checkpoint": checkpoint(net)}, path))
    assert torch.equal(model.potential.backbone(graph()), net(graph()))
    assert model.metadata["source"]["wrapper"] == "llpr"
    with pytest.raises(CheckpointError, match="expected 'pet', got None"):
        load(write(content, path))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, "energy"), ("energy", "energy"), ("energy/other", "energy/other")],
)
def test_an_energy_among_several(asked: str | None, expected: str, tmp_path: Path) -> None:
    targets = {
        name: {"quantity": quantity, "unit": "eV"}
        for name, quantity in (("energy/other", "energy"), ("energy", "energy"), ("mu", "dipole"))
    }
    nets = {name: tiny_modern_pet(seed=k) for k, name in enumerate(("energy", "energy/other"))}
    content = checkpoint(nets["energy"], targets=targets)
    other = checkpoint(nets["energy/other"], target="energy/other")["model_state_dict"]
    heads = {k: v for k, v in other.items() if "_heads." in k or "_last_layers." in k}
    content["model_state_dict"] |= heads
    model = load(write(content, tmp_path / "model.ckpt"), target=asked)
    ours = model.potential.backbone.state_dict()["energies.0.nodes.4.weight"]
    theirs = nets[expected].state_dict()["energies.0.nodes.4.weight"]
    assert torch.equal(ours, theirs)
    assert model.metadata["source"]["target"] == expected
    unused = {"energy", "energy/other", "mu"} - {expected}
    assert model.metadata["source"]["unused_targets"] == sorted(unused)


TWO = {name: {"quantity": "energy", "unit": "eV"} for name in ("mtt::a", "mtt::b")}
NONE = {"mu": {"quantity": "dipole", "unit": ""}}


@pytest.mark.parametrize(
    ("targets", "asked", "message"),
    [
        (TWO, None, r"several energies; choose one: target= one of \['mtt::a', 'mtt::b'\]"),
        (TWO, "mtt::c", r"'mtt::c' is not among the targets; choose one of \['mtt::a'"),
        ({**TWO, **NONE}, "mu", "'mu' is no energy; choose one of"),
        (NONE, None, r"predicts no energy, only \['mu'\]"),
        (TWO, 0, "expected the name of an energy.*got 0"),
    ],
)
def test_a_target_that_is_missing_lists_the_others(
    targets: dict, asked: Any, message: str, tmp_path: Path
) -> None:
    path = write(checkpoint(tiny_modern_pet(), targets=targets), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load(path, target=asked)


THEIRS = {"enable": True, "smearing": 1, "kspace_resolution": 1.3, "interpolation_nodes": 5}


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("model_ckpt_version", 17, "expected 1 to 16, got 17; written by a newer metatrain"),
        ("model_ckpt_version", "new", "expected 1 to 16, got 'new'"),
        ("architecture_name", "soap_bpnn", "expected 'pet', got 'soap_bpnn'"),
        ("model_state_dict", None, "no hyperparameters or no weights"),
        ("long_range", {"enable": True}, "damaged or not a PET of metatrain: KeyError"),
        ("long_range", {**THEIRS, "smearing": "wide"}, "smearing: expected float, got 'wide'"),
        ("long_range", {**THEIRS, "interpolation_nodes": 6}, "mesh_nodes: expected at most 5"),
        ("long_range", {**THEIRS, "kspace_resolution": 0}, "mesh_spacing: expected more than 0"),
        pytest.param("long_range", THEIRS, "missing.*long_range.charges", marks=NEEDS_TORCH_PME),
        ("zbl", True, "zbl: the covalent radii are missing"),
        ("d_pet", 2.5, "d_pet: expected int, got 2.5"),
        ("num_heads", 3, "n_heads: expected a divisor"),
        ("cutoff_function", "Step", "cutoff_function: expected one of"),
        ("num_gnn_layers", 900, "weights: .*cannot fill"),
        ("d_head", 7, "expected shape"),
    ],
)
def test_what_is_wrong_is_named(where: str, value: object, message: str, tmp_path: Path) -> None:
    path = write(changed(where, value), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load(path)


@NEEDS_TORCH_PME
def test_long_range_with_adaptive_cutoffs_is_refused(tmp_path: Path) -> None:
    """Where metatrain itself fails."""
    content = checkpoint(tiny_modern_pet(**FAR))
    content["model_data"]["model_hypers"]["num_neighbors_adaptive"] = 8
    with pytest.raises(CheckpointError, match="n_neighbors: expected 0 with long_range, got 8"):
        load(write(content, tmp_path / "model.ckpt"))


@NEEDS_TORCH_PME
def test_without_torch_pme_loading_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(checkpoint(tiny_modern_pet(**FAR)), tmp_path / "model.ckpt")
    monkeypatch.setattr(electrostatics, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"torch-pme; install it with pip install 'ase_pet\["):
        load(path)


def test_unknown_and_missing_parts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    content = checkpoint(tiny_modern_pet(), energies=ENERGIES)
    weights, options = content["model_state_dict"], content["model_data"]["model_hypers"]
    options["new_switch"] = True
    with pytest.raises(CheckpointError, match=r"missing \[\], unknown \['new_switch'\]"):
        load(write(content, path))
    del options["new_switch"]
    weights["backend.gnn_layers.0.lora.weight"] = torch.ones(2)
    with pytest.raises(CheckpointError, match=r"unexpected weights \['gnn_layers.0.lora.weight'\]"):
        load(write(content, path))
    del weights["backend.gnn_layers.0.lora.weight"]
    name = "additive_models.0.energy_composition_buffer"
    weights[name] = serialised("center_type", [1, 6], [0.0, 0.0])
    with pytest.raises(
        CheckpointError, match=r"no composition energy for atomic number\(s\) \[8\]"
    ):
        load(write(content, path))
    weights[name] = torch.zeros(5, dtype=torch.uint8)
    with pytest.raises(CheckpointError, match="composition_buffer: damaged or not a map"):
        load(write(content, path))
    del weights[name]
    weights["scaler.energy_scaler_buffer"] = serialised("atomic_type", [0, 1, 2], [1.0] * 3)
    with pytest.raises(CheckpointError, match="energy: an energy of single atoms"):
        load(write(content, path))
    weights["scaler.energy_scaler_buffer"] = serialised("atomic_type", [-1], [1.0])
    del weights["backend.species_to_species_index"]
    with pytest.raises(CheckpointError, match="species_to_species_index"):
        load(write(content, path))
    content["model_data"]["dataset_info"]["length_unit"] = "bohr"
    with pytest.raises(CheckpointError, match="length_unit: only models in Å"):
        load(write(content, path))


def test_a_unit_is_not_asked_for(tmp_path: Path) -> None:
    path = write(checkpoint(tiny_modern_pet()), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match="energy_unit: only those of TorchMD-NET"):
        load(path, energy_unit="eV")


class Attack:
    """Unpickling makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.marker,)


def test_code_among_the_records_is_not_run_but_named(tmp_path: Path) -> None:
    marker, path = tmp_path / "attacked", tmp_path / "model.ckpt"
    content = checkpoint(tiny_modern_pet())
    content["train_hypers"] = Attack(marker)
    with pytest.raises(CheckpointError, match=f"refused.*would run {os.mkdir.__module__}.mkdir"):
        load(write(content, path))
    assert not marker.exists()


def test_records_are_inert_and_called_with_nothing(tmp_path: Path) -> None:
    # A call of an allowed name with arguments of the file's choice.
    path, name = tmp_path / "model.ckpt", b"cmetatrain.utils.data.dataset\nDatasetInfo\n"
    for data in (b"\x80\x02" + name + b"X\x02\x00\x00\x00hi\x85R.", pickle.dumps({1: 2}, 2)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", data)
            archive.writestr("model/version", "3\n")
        with pytest.raises(CheckpointError):
            load(path)


def test_other_readers_refuse_records(tmp_path: Path) -> None:
    path = write(checkpoint(tiny_modern_pet()), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"refused.*data\.dataset\.DatasetInfo"):
        native.read(path)
