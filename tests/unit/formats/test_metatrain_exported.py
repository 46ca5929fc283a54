"""Exported models of metatrain: what they hold is read, and their program never."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_pet import PETCalculator, load
from ase_pet.errors import CheckpointError
from ase_pet.formats import Model, native
from ase_pet.formats.importers import metatrain_exported
from ase_pet.formats.script_file import ScriptRecord, read_program
from tests.foreign_metatrain import DATA, exported_sample

NUMBERS = json.loads((DATA / "exported.json").read_text())
POSITIONS = [[0, 0, 0], [1.2, 0.1, 0], [-0.5, 1.0, 0.2], [-0.4, -0.7, 0.8], [1.5, -0.6, 0.8]]
#: eV and eV/Å. Repulsion: metatrain's prefactors are float32. Old: the whole model is float32, and
#: its energy of -3e3 eV is rounded to 2.4e-4 eV.
TOLERANCES = {
    "pet_exported": (2e-7, 2e-6),
    "pet_exported_llpr": (1e-10, 1e-10),
    "pet_exported_old": (6e-4, 2e-5),
}


def changed(
    pet: dict[str, Any],
    name: str,
    folder: Path,
    patch: pytest.MonkeyPatch,
    program: dict[str, Any] | None = None,
) -> Path:
    """A sample whose PET has other attributes; those that are ``...`` are missing."""
    path = exported_sample(name, folder)
    found = read_program(path)
    state = found.state["module"].state
    for key, value in pet.items():
        state[key] = value
        if value is ...:
            del state[key]
    found.state |= program or {}
    patch.setattr(metatrain_exported, "read_program", lambda _: found)
    return path


def record(kind: str, state: Any) -> ScriptRecord:
    found = ScriptRecord(kind)
    found.state = state
    return found


def energy_of(model: Model) -> tuple[float, np.ndarray]:
    atoms = Atoms("COH3", POSITIONS)
    options = {"charge": -1, "spin": 2} if model.potential.backbone.hypers.conditioning else {}
    atoms.calc = PETCalculator(model, dtype=model.dtype, device="cpu", symmetry=None, **options)
    return atoms.get_potential_energy(), atoms.get_forces()


@pytest.mark.parametrize("name", TOLERANCES)
def test_energies_and_forces_are_those_of_metatrain(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in ("torch.load", "torch.jit.load", "pickle.Unpickler"):
        monkeypatch.setattr(reader, None)
    model = load(exported_sample(name, tmp_path))
    monkeypatch.undo()
    energy, forces = energy_of(model)
    in_energy, in_forces = TOLERANCES[name]
    assert energy == pytest.approx(NUMBERS[name]["energy"], rel=0, abs=in_energy)
    np.testing.assert_allclose(forces, NUMBERS[name]["forces"], rtol=0, atol=in_forces)


@pytest.mark.parametrize("name", TOLERANCES)
def test_a_native_file_of_it_is_the_same_model(name: str, tmp_path: Path) -> None:
    model = load(exported_sample(name, tmp_path))
    native.save(model, tmp_path / "native.pt")
    again = load(tmp_path / "native.pt")
    assert again.potential.backbone.hypers == model.potential.backbone.hypers
    assert again.metadata == model.metadata
    (energy, forces), (expected, expected_forces) = energy_of(again), energy_of(model)
    assert energy == expected
    assert np.array_equal(forces, expected_forces)


def test_hyperparameters_and_additions_arrive(tmp_path: Path) -> None:
    model = load(exported_sample("pet_exported", tmp_path))
    hypers = model.potential.backbone.hypers
    expected = {
        **{"d_model": 4, "d_node": 8, "d_feedforward": 10, "head_width": 6, "n_heads": 2},
        **{"n_message_layers": 2, "n_attention_layers": 1, "transformer": "PreLN"},
        **{"cutoff": 4.5, "n_neighbors": 3.0, "adaptive_width": 0.8, "adaptive_method": "solver"},
        **{"conditioning": True, "max_charge": 2, "max_spin": 3, "temperature": 1.5},
        **{"energy_scale": 1.5, "messages": "feedforward", "normalization": "RMSNorm"},
    }
    assert {name: getattr(hypers, name) for name in expected} == expected
    assert (model.dtype, model.species, model.architecture) == (
        "float64",
        (1, 6, 8),
        "pet-metatrain",
    )
    assert model.potential.zbl.options == {"radii": {1: 0.31, 6: 0.76, 8: 0.66}}
    assert model.metadata["citation"] == "https://arxiv.org/abs/2305.19302v3"
    source = model.metadata["source"]
    assert source["format"] == "exported model of metatrain"
    assert (source["wrapper"], source["unused_targets"]) == (None, ["energy/other"])


def test_widths_of_the_oldest_come_from_its_modules(tmp_path: Path) -> None:
    hypers = load(exported_sample("pet_exported_old", tmp_path)).potential.backbone.hypers
    expected = {
        **{"d_model": 4, "d_node": 4, "d_feedforward": 10, "head_width": 6, "n_heads": 2},
        **{"n_message_layers": 2, "n_attention_layers": 2, "cutoff_width": 0.2},
        **{"normalization": "LayerNorm", "activation": "SiLU", "transformer": "PostLN"},
        **{"messages": "residual", "cutoff_function": "Cosine", "n_neighbors": 0.0},
    }
    assert {name: getattr(hypers, name) for name in expected} == expected


def test_another_target(tmp_path: Path) -> None:
    path = exported_sample("pet_exported", tmp_path)
    one, other = load(path).potential, load(path, target="energy/other").potential
    name = "energies.0.nodes.4.weight"
    assert not torch.equal(one.backbone.state_dict()[name], other.backbone.state_dict()[name])
    assert other.composition.energies[6] == one.composition.energies[6] + 1.0
    with pytest.raises(CheckpointError, match=r"choose one of \['energy', 'energy/other'\]"):
        load(path, target="energy/third")
    with pytest.raises(CheckpointError, match=r"expected the name of an energy.*got 0"):
        load(path, target=0)


def test_the_model_inside_a_wrapper_is_read(tmp_path: Path) -> None:
    model = load(exported_sample("pet_exported_llpr", tmp_path))
    assert model.metadata["source"]["wrapper"] == "llpr"
    assert model.uncertainties == ("llpr", "ensemble")
    assert model.uncertainty.multiplier == 0.5
    assert model.uncertainty.members.shape == (3, 12)


def test_what_the_wrapper_holds_is_handed_on_as_a_checkpoint(tmp_path: Path) -> None:
    path = exported_sample("pet_exported_llpr", tmp_path)
    content = metatrain_exported._as_wrapper(read_program(path), path)
    assert content["architecture_name"] == "llpr"
    state = content["model_state_dict"]
    assert state["multiplier_energy_uncertainty"].tolist() == [0.5]
    assert state["llpr_ensemble_layers.energy.weight"].shape == (3, 12)
    assert not any(name.startswith("model.") for name in state)
    assert content["wrapped_model_checkpoint"]["architecture_name"] == "pet"


def test_modules_that_do_not_know_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the first versions, known from their outputs and the elements alone."""
    expected = energy_of(load(exported_sample("pet_exported_old", tmp_path)))
    missing = {"dataset_info": ..., "metadata": ...}
    model = load(changed(missing, "pet_exported_old", tmp_path, monkeypatch))
    assert energy_of(model)[0] == expected[0]
    outputs = {"mtt::u": record("x", '{"quantity": "energy", "unit": "hartree"}')}
    other = {**missing, "target_names": ["mtt::u"], "outputs": outputs}
    path = changed(other, "pet_exported_old", tmp_path, monkeypatch)
    with pytest.raises(CheckpointError, match=r"weights: missing .*energies"):
        load(path)  # it has no weights for this target
    outputs["mtt::u"].state = '{"quantity": "dipole"}'
    with pytest.raises(CheckpointError, match=r"predicts no energy, only \['mtt::u'\]"):
        load(path)


def test_settings_of_electrostatics_are_those_of_a_checkpoint(tmp_path: Path) -> None:
    pet = dict(read_program(exported_sample("pet_exported_old", tmp_path)).state["module"].state)
    potential = record("CoulombPotential", {"smearing": torch.tensor(1.4)})
    mesh = {"mesh_spacing": 1.33, "interpolation_nodes": 5, "potential": potential}
    featurizer = {"use_ewald": True, "p3m_calculator": record("P3MCalculator", mesh)}
    pet |= {"long_range": True, "long_range_featurizer": record("LongRange", featurizer)}
    assert metatrain_exported._additions(pet) == {
        "zbl": True,
        "long_range": {
            "enable": True,
            "use_ewald": True,
            "smearing": 1.4,
            "kspace_resolution": 1.33,
            "interpolation_nodes": 5,
        },
    }


def test_other_programs_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, program = tmp_path / "model.pt", record("torch.nn.modules.linear.Linear", {})
    exported_sample("pet_exported_old", tmp_path).rename(path)
    monkeypatch.setattr(metatrain_exported, "read_program", lambda _: program)
    with pytest.raises(CheckpointError, match=r"program of torch\.nn\.modules\.linear\.Linear; "):
        load(path)


NESTED = record("NeighborListOptions", "[" * 100_000)


def test_text_nested_without_end_describes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = changed({"metadata": NESTED}, "pet_exported_old", tmp_path, monkeypatch)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)  # symfc does that
    try:
        assert load(path).metadata["training_data"] is None
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("module", "program", "message"),
    [
        ({}, {"module": record("metatrain.soap_bpnn.model.SoapBpnn", {})}, "got .*soap_bpnn"),
        ({}, {"module": 3}, "damaged or not a PET of a supported version"),
        ({"species_to_species_index": ...}, {}, "species_to_species_index"),
        ({"gnn_layers": ...}, {}, "damaged or not a PET of a supported version: KeyError"),
        ({"additive_models": record("x", [1])}, {}, "damaged or not a PET of a supported version"),
        ({"dataset_info": ..., "requested_nl": NESTED}, {}, "version: ValueError.*100 brackets"),
        ({"cutoff": "far"}, {}, "cutoff: expected float, got 'far'"),
        ({"cutoff": [1.0]}, {}, r"missing \['cutoff'\]"),
    ],
)
def test_what_is_wrong_is_named(
    module: dict[str, Any],
    program: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = changed(module, "pet_exported_old", tmp_path, monkeypatch, program)
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_a_file_name_does_not_matter_and_units_are_not_asked_for(tmp_path: Path) -> None:
    path = exported_sample("pet_exported_old", tmp_path).rename(tmp_path / "anything.ckpt")
    assert load(path).species == (1, 6, 8)
    with pytest.raises(CheckpointError, match="energy_unit: only those of TorchMD-NET"):
        load(path, energy_unit="eV")
