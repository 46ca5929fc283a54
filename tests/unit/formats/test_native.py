"""The native checkpoint: what is written comes back, and nothing wrong gets in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from ase_pet.data import Graph
from ase_pet.errors import CheckpointError
from ase_pet.formats import Model, load, native
from ase_pet.formats.files import sha256_of
from ase_pet.potentials.last_layer import LastLayer
from ase_pet.potentials.total import Total
from tests.tiny import TENSORS, tiny_modern_pet, tiny_pet, tiny_tensornet


def dimer() -> Graph:
    vectors = torch.tensor([[1.0, 0.2, 0.3], [-1.0, -0.2, -0.3]], dtype=torch.float64)
    first, second = torch.tensor([0, 1]), torch.tensor([1, 0])
    return Graph(torch.tensor([6, 1]), torch.tensor([0, 0]), 1, first, second, second, vectors)


def spoil(model: Model, path: Path, *keys: str, value: object) -> Path:
    """Write a checkpoint in which one entry is replaced (or removed, by an Ellipsis)."""
    content = inner = native.to_dict(model)
    for key in keys[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    torch.save(content, path)
    return path


def test_round_trip_is_exact(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    native.save(model, path)
    again = load(path)
    assert again.potential.backbone.hypers == model.potential.backbone.hypers
    assert again.species == (1, 6)
    assert again.cutoff == 3.0
    assert again.n_layers == 2
    assert again.dtype == "float64"
    assert again.metadata == model.metadata
    assert again.potential.composition.energies == {1: -13.6, 6: -1030.5}
    assert (again.potential.zbl.inner, again.potential.zbl.cutoff) == (0.4, 1.1)
    assert again.path == str(path)
    assert again.sha256 == sha256_of(path)
    energies = again.potential(dimer()), model.potential(dimer())
    torch.testing.assert_close(*energies, rtol=1e-14, atol=0)
    assert again.self_test["symmetrized"]["weights"] == "smooth"
    for part in ("structure", "bare"):
        torch.testing.assert_close(again.self_test[part], model.self_test[part], rtol=0, atol=0)


@pytest.mark.parametrize("network", [tiny_pet, tiny_tensornet])
def test_heads_for_tensors_and_files_from_before_them(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    name = "tensornet" if network is tiny_tensornet else "pet"
    native.save(Model(Total(network(**TENSORS)), "float64", architecture=name), path)
    again = load(path)
    assert again.tensors == ("dipole", "polarizability")
    bare = native.to_dict(Model(Total(network()), "float64", architecture=name))
    for added in TENSORS:
        del bare["hyperparameters"][added]
    torch.save(bare, path)
    with pytest.raises(CheckpointError, match=r"missing \['dipole', 'polarizability'\]"):
        load(path)
    torch.save({**bare, "format_version": 1}, path)
    assert load(path).tensors == ()


def test_files_from_before_long_range(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    net = tiny_modern_pet()
    content = native.to_dict(Model(Total(net), "float64", architecture="pet-metatrain"))
    for added in ("long_range", "smearing", "mesh_spacing", "mesh_nodes"):
        del content["hyperparameters"][added]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"missing \['long_range', 'mesh_nodes', "):
        load(path)
    torch.save({**content, "format_version": 2}, path)
    assert load(path).potential.backbone.hypers == net.hypers


def test_uncertainties_and_files_from_before_them(tmp_path: Path) -> None:
    path, net = tmp_path / "model.pt", tiny_modern_pet()
    eye, members = torch.eye(net.n_last_features), torch.randn(3, net.n_last_features)
    layer = LastLayer(2.0 * eye, 0.3, members)
    model = Model(Total(net), "float64", architecture="pet-metatrain", uncertainty=layer)
    native.save(model, path)
    found = load(path)
    assert found.uncertainties == ("llpr", "ensemble")
    assert torch.equal(found.uncertainty.cholesky, 2.0 * eye)
    assert torch.equal(found.uncertainty.members, members)
    assert found.uncertainty.multiplier == 0.3
    content = native.to_dict(model)
    for values, message in (
        ({"cholesky": -eye}, "uncertainty: cholesky: expected a lower triangle"),
        ({"cholesky": 3.0}, "uncertainty: "),
        ({"weights": eye}, "uncertainty: .*'weights'"),
        ({"cholesky": eye[:5, :5]}, "uncertainty: 5 features, but .* are 16"),
    ):
        torch.save({**content, "uncertainty": values}, path)
        with pytest.raises(CheckpointError, match=message):
            load(path)
    del content["uncertainty"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"missing \['uncertainty'\]"):
        load(path)
    torch.save({**content, "format_version": 2}, path)
    assert load(path).uncertainties == ()
    pet = native.to_dict(Model(Total(tiny_pet()), "float64"))
    torch.save({**pet, "uncertainty": {"members": members}}, path)
    with pytest.raises(CheckpointError, match=r"uncertainty: 16 features, but .* are 0"):
        load(path)


def test_without_baselines_and_self_test(model: Model, tmp_path: Path) -> None:
    bare = dataclasses.replace(
        model, potential=type(model.potential)(model.potential.backbone), self_test=None
    )
    native.save(bare, tmp_path / "model.pt")
    again = native.read(tmp_path / "model.pt")
    assert again.potential.composition is None
    assert again.potential.zbl is None
    assert again.self_test is None


def test_float32_weights_stay_float32(model: Model, tmp_path: Path) -> None:
    single = dataclasses.replace(model, potential=model.potential.float(), dtype="float32")
    native.save(single, tmp_path / "model.pt")
    again = native.read(tmp_path / "model.pt")
    assert again.potential.backbone.dtype == torch.float32
    assert again.potential.composition.energies == {1: -13.6, 6: -1030.5}


def test_loaded_weights_need_no_gradient(model: Model, tmp_path: Path) -> None:
    native.save(model, tmp_path / "model.pt")
    again = native.read(tmp_path / "model.pt")
    assert not any(p.requires_grad for p in again.potential.parameters())
    assert not again.potential.training


def test_same_model_same_bytes(model: Model, tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        native.save(model, tmp_path / name)
    assert sha256_of(tmp_path / "a.pt") == sha256_of(tmp_path / "b.pt")


def test_missing_metadata_are_unknown(model: Model, tmp_path: Path) -> None:
    native.save(dataclasses.replace(model, metadata={}), tmp_path / "model.pt")
    assert native.read(tmp_path / "model.pt").metadata == dict.fromkeys(native.METADATA)


@pytest.mark.parametrize("key", sorted(native._KEYS))
def test_missing_entry_is_named(model: Model, tmp_path: Path, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"missing.*{key}"):
        load(spoil(model, tmp_path / "m.pt", key, value=...))


@pytest.mark.parametrize("key", sorted(native._KEYS))
def test_entry_of_another_type_is_named(model: Model, tmp_path: Path, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"{key}: expected"):
        load(spoil(model, tmp_path / "m.pt", key, value=(1, 2)))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["format"], "other", "not an ase_pet checkpoint"),
        (["format"], ..., "not an ase_pet checkpoint"),
        (["format_version"], 5, r"newer ase_pet \(format_version 5.*upgrade"),
        (["format_version"], "1", "format_version: expected 1 or more, got '1'"),
        (["format_version"], ..., "format_version: expected"),
        (["architecture"], "gpt", r"unknown architecture 'gpt'.*\['pet', 'pet-metatrain', "),
        (["units"], {"length": "bohr", "energy": "eV"}, "units: expected .*angstrom.*got.*bohr"),
        (["dtype"], "float16", "dtype: expected one of .*got 'float16'"),
        (["cutoff"], 4.0, "cutoff: 4.0 contradicts"),
        (["species"], [1, 1], "species: expected distinct"),
        (["species"], [1, 6, 8], "embedding.weight: expected shape"),
        (["species"], ["H", "C"], "species"),
        (["hyperparameters", "d_model"], ..., r"missing \['d_model'\]"),
        (["hyperparameters", "depth"], 3, r"unknown \['depth'\]"),
        (["hyperparameters", "d_model"], 8.0, "d_model: expected a finite int, got 8.0"),
        (["hyperparameters", "cutoff_width"], float("nan"), "cutoff_width: expected a finite"),
        (["hyperparameters", "bond_energies"], 1, "bond_energies: expected a finite bool"),
        (["hyperparameters", "n_heads"], 3, "n_heads: expected a divisor"),
        (["hyperparameters", "activation"], "relu", "activation: expected one of"),
        (["hyperparameters", "d_model"], 16, "expected shape"),
        (["hyperparameters", "d_model"], 10**8, "expected shape"),
        (["hyperparameters", "d_model"], 10**30, "species or hyperparameters"),
        (["hyperparameters", "n_attention_layers"], 10**9, "do not belong together"),
        (["weights", "embedding.weight"], ..., r"missing \['embedding.weight'\]"),
        (["weights", "extra"], torch.zeros(1), r"unexpected \['extra'\]"),
        (["weights", "embedding.weight"], torch.zeros(2, 9), r"shape \[2, 8\], got \[2, 9\]"),
        (["weights", "embedding.weight"], [1.0], r"shape \[2, 8\], got list"),
        (["weights", "embedding.weight"], torch.full((2, 8), torch.nan), "finite.*got NaN"),
        (["weights", "embedding.weight"], torch.full((2, 8), torch.inf), "infinity"),
        (["weights", "embedding.weight"], torch.zeros(2, 8, dtype=torch.int64), "another type"),
        (["composition"], {1: 0.0}, r"no energy for atomic number\(s\) \[6\]"),
        (["composition"], {1: float("nan"), 6: 0.0}, "composition.*expected finite"),
        (["zbl"], {"inner": 2.0, "cutoff": 1.0}, "zbl.*inner"),
        (["zbl"], {"radius": 2.0}, "zbl"),
        (["metadata", "licence"], ..., r"metadata: missing \['licence'\]"),
        (["metadata", "rotations"], "some", "rotations: expected one of.*got 'some'"),
        (["self_test", "bare"], ..., "self_test: missing 'bare'"),
        (["self_test", "structure"], {}, "self_test: missing 'positions'"),
        (["self_test", "symmetrized", "ensemble"], ..., "missing 'ensemble'"),
        (["self_test", "symmetrized", "ensemble"], "auto", "ensemble: expected one of .*'auto'"),
        (["self_test", "symmetrized", "symmetry"], None, "symmetry: expected one of .*None"),
        (["self_test", "symmetrized", "weights"], [], r"weights: expected .*got \[\]"),
        (["self_test", "bare", "energy"], float("nan"), "bare energy: not finite"),
        (["self_test", "bare", "forces"], torch.zeros(2, 2), "bare forces: expected float64"),
        (["self_test", "bare", "stress"], "none", "self_test"),
        (["self_test", "structure", "numbers"], torch.tensor([6, 8]), "not among the species"),
        (["self_test", "structure", "pbc"], torch.tensor([1, 1, 1]), "pbc: expected dtype"),
    ],
)
def test_wrong_content_is_refused_and_named(
    model: Model, tmp_path: Path, keys: list[str], value: object, message: str
) -> None:
    path = spoil(model, tmp_path / "m.pt", *keys, value=value)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"state": torch.zeros(3)}, {}])
def test_foreign_content_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="not an ase_pet checkpoint: expected a dictionary"):
        load(tmp_path / "foreign.pt")


def test_what_cannot_be_read_back_is_not_written(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    strange = dataclasses.replace(model, metadata={"accuracy": {"path": Path("x")}})
    with pytest.raises(CheckpointError, match=r"metadata\['accuracy'\]\['path'\].*PosixPath"):
        native.save(strange, path)
    with torch.no_grad():
        model.potential.backbone.embedding.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"not written.*embedding.weight.*NaN"):
        native.save(model, path)
    assert list(tmp_path.iterdir()) == []


def test_only_a_bare_backbone_is_written(model: Model, tmp_path: Path) -> None:
    wrapped = dataclasses.replace(model, potential=type(model.potential)(model.potential))
    with pytest.raises(CheckpointError, match=r"expected a bare backbone.*got Total"):
        native.save(wrapped, tmp_path / "model.pt")


def test_interrupted_writing_leaves_the_old_file(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    native.save(model, path)
    before = path.read_bytes()

    def stop_halfway(content: object, file: object) -> None:
        file.write(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", stop_halfway)
    with pytest.raises(KeyboardInterrupt):
        native.save(model, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("rotations", "invariant"),
    [("atom", True), ("structure", False), ("none", False), (None, True)],
)
def test_atoms_count_as_invariant_where_nothing_is_known(
    model: Model, rotations: str | None, invariant: bool
) -> None:
    known = dataclasses.replace(model, metadata={"rotations": rotations})
    assert known.invariant_atoms is invariant
    assert dataclasses.replace(model, metadata={}).invariant_atoms


def test_loading_leaves_the_random_numbers_of_others_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    native.save(Model(Total(tiny_pet()), "float64", {"rotations": "atom"}), path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(path)
    assert torch.equal(torch.rand(3), expected)


def test_numbers_that_many_weights_share_are_refused(model: Model) -> None:
    """A small file could fill any memory."""
    content = native.to_dict(model)
    weights = content["weights"]
    shared = torch.zeros(max(value.numel() for value in weights.values()), dtype=torch.float64)
    content["weights"] = {k: shared[: v.numel()].view(v.shape) for k, v in weights.items()}
    with pytest.raises(CheckpointError, match="the same numbers are used more than 4 times"):
        native.from_dict(content)
