"""No file of any format runs a command when it is loaded, however its pickle asks for it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ase_pet import load
from ase_pet.errors import CheckpointError
from ase_pet.formats import Model, native, script_file, torch_file
from tests.foreign_metatrain import checkpoint, exported_sample, serialised
from tests.foreign_metatrain import write as write_metatrain
from tests.foreign_pickles import (
    ATTACKS,
    COMMAND,
    at_end,
    forget_extension,
    in_state,
    register_extension,
    rewrite,
)
from tests.foreign_tensornet import write_matgl, write_torchmd
from tests.tiny import tiny_modern_pet, tiny_tensornet
from tests.unit.formats.test_pet_original import STATE, written

GATED: dict[str, Any] = {"readout": "gated", "readout_depth": 2, "energy_scale": 2.5}


def original_pet(folder: Path) -> Path:
    return written(folder / "trained")


def matgl(folder: Path) -> Path:
    return write_matgl(tiny_tensornet(1, rbf="smooth_bessel", **GATED), folder / "matgl")


def torchmd_net(folder: Path) -> Path:
    return write_torchmd(tiny_tensornet(1, self_loops=True), folder / "torchmd.ckpt")


def metatrain(folder: Path) -> Path:
    return write_metatrain(checkpoint(tiny_modern_pet()), folder / "metatrain.ckpt")


def metatrain_llpr(folder: Path) -> Path:
    content = {"architecture_name": "llpr", "model_ckpt_version": 4}
    content["wrapped_model_checkpoint"] = checkpoint(tiny_modern_pet())
    return write_metatrain(content, folder / "llpr.ckpt")


def exported(folder: Path) -> Path:
    return exported_sample("pet_exported_old", folder)


#: A file or folder of each foreign format, the file in it, the pickle in that, and where.
Format = tuple[Callable[[Path], Path], str, str, Callable[[bytes, bytes], bytes]]
FORMATS: dict[str, Format] = {
    "original PET": (original_pet, STATE, "data.pkl", at_end),
    "MatGL": (matgl, "state.pt", "data.pkl", at_end),
    "TorchMD-NET": (torchmd_net, "", "data.pkl", at_end),
    "metatrain": (metatrain, "", "data.pkl", at_end),
    "metatrain, llpr": (metatrain_llpr, "", "data.pkl", at_end),
    "exported": (exported, "", "data.pkl", at_end),
    "exported, state": (exported, "", "data.pkl", in_state),
    "exported, constants": (exported, "", "constants.pkl", at_end),
}


@pytest.fixture(autouse=True)
def _extension() -> Iterator[None]:
    register_extension()
    yield
    forget_extension()


def assert_refused(path: Path, marker: Path, named: str) -> None:
    with pytest.raises(CheckpointError, match=f"refused.*{named}"):
        load(path)
    assert not marker.exists()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_command_in_a_foreign_file_is_not_run_but_named(
    kind: str, attack: str, tmp_path: Path
) -> None:
    make, inside, member, put = FORMATS[kind]
    marker, path = tmp_path / "attacked", make(tmp_path)
    instructions, named = ATTACKS[attack]
    command = instructions(f"{COMMAND}{marker}")
    load(path)
    rewrite(path / inside if inside else path, member, lambda data: put(data, command))
    assert_refused(path, marker, named)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_command_in_a_file_of_ours_is_not_run_but_named(
    attack: str, model: Model, tmp_path: Path
) -> None:
    marker, path = tmp_path / "attacked", tmp_path / "model.pt"
    native.save(model, path)
    instructions, named = ATTACKS[attack]
    command = instructions(f"{COMMAND}{marker}")
    rewrite(path, "data.pkl", lambda data: at_end(data, command))
    assert_refused(path, marker, named)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "exported, constants"])
def test_the_second_lock_holds_without_the_first(
    kind: str, attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Constants of a program have none: that pickle is searched but never read."""
    make, inside, member, put = FORMATS[kind]
    marker, path = tmp_path / "attacked", make(tmp_path)
    command = ATTACKS[attack][0](f"{COMMAND}{marker}")
    rewrite(path / inside if inside else path, member, lambda data: put(data, command))
    for module in (torch_file, script_file):
        monkeypatch.setattr(module, "refuse_code", lambda *_: None)
    with pytest.raises(CheckpointError, match=r"not readable as tensors|refused: .* which no"):
        load(path)
    assert not marker.exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attacks_work_where_they_are_let_in(attack: str, tmp_path: Path) -> None:
    class Careless(pickle.Unpickler):
        def persistent_load(self, pid: object) -> object:
            return pid

    marker, file = tmp_path / "attacked", tmp_path / "file"
    command = ATTACKS[attack][0](f"{COMMAND}{marker}")
    file.write_bytes(at_end(pickle.dumps({"a": 1}, 4), command))
    with file.open("rb") as stream:
        assert Careless(stream).load() == {"a": 1}
    assert marker.exists()


def test_a_command_in_an_array_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    """Composition energies are an archive of arrays, of which NumPy could read pickles."""
    marker = tmp_path / "attacked"

    class Attack:
        def __reduce__(self) -> tuple:
            return Path.touch, (marker,)

    content = checkpoint(tiny_modern_pet())
    name = "additive_models.0.energy_composition_buffer"
    content["model_state_dict"][name] = serialised("center_type", [1], [0.0])
    whole = write_metatrain(content, tmp_path / "whole.ckpt")
    with pytest.raises(CheckpointError, match="no composition energy"):
        load(whole)
    buffer = serialised("center_type", [1], [Attack()], dtype=object)
    content["model_state_dict"][name] = buffer
    with pytest.raises(CheckpointError, match=r"composition_buffer: damaged.*Object arrays"):
        load(write_metatrain(content, tmp_path / "model.ckpt"))
    assert not marker.exists()
