"""Loading never executes code, and says of any file what is wrong with it."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_pet.errors import CheckpointError
from ase_pet.formats import Model, load, native
from ase_pet.formats.shipped import shipped_models
from ase_pet.formats.torch_file import read_plain


def array_file() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


class Attack:
    """Unpickling makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.marker,)


NAME = f"{os.mkdir.__module__}.mkdir"


def bare_pickle(attack: Attack, protocol: int) -> bytes:
    return pickle.dumps({"weights": attack}, protocol)


def torch_zip(attack: Attack) -> bytes:
    file = io.BytesIO()
    torch.save({"format": "ase_pet", "weights": attack}, file)
    return file.getvalue()


def old_torch(attack: Attack) -> bytes:
    file = io.BytesIO()
    torch.save([torch.zeros(2), attack], file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def torch_zip_of_protocol_4(attack: Attack) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(attack, 4))
        archive.writestr("model/version", "3\n")
    return file.getvalue()


ATTACKS: dict[str, Callable[[Attack], bytes]] = {
    **{f"pickle-{p}": lambda attack, p=p: bare_pickle(attack, p) for p in range(6)},
    "torch-zip": torch_zip,
    "torch-zip-protocol-4": torch_zip_of_protocol_4,
    "old-torch": old_torch,
}


@pytest.mark.parametrize("kind", ATTACKS)
def test_code_in_a_file_is_not_run_but_named(kind: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "attacked", tmp_path / "model.pt"
    path.write_bytes(ATTACKS[kind](Attack(marker)))
    with pytest.raises(CheckpointError, match=f"refused.*would run {NAME}"):
        load(path)
    assert not marker.exists()


def test_the_attack_works_where_it_is_let_in(tmp_path: Path) -> None:
    marker = tmp_path / "attacked"
    pickle.loads(bare_pickle(Attack(marker), 2))
    assert marker.exists()


def test_an_attack_that_hides_its_name_meets_the_second_lock(tmp_path: Path) -> None:
    # The name is fetched from the memo, where the search does not look.
    marker, path = tmp_path / "attacked", tmp_path / "model.pt"
    hidden = pickle.PROTO + b"\x04" + b"\x8c\x05posix\x94\x8c\x05mkdir\x94\x30\x30h\x00h\x01\x93"
    hidden += b"\x8c" + bytes([len(str(marker))]) + str(marker).encode() + b"\x85R."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", hidden)
        archive.writestr("model/version", "3\n")
    with pytest.raises(CheckpointError):
        load(path)
    assert not marker.exists()


def test_tensors_and_plain_containers_are_read(tmp_path: Path) -> None:
    content = {"a": [torch.arange(3), (1.5, None, True)], "b": {"c": torch.ones(2).bfloat16()}}
    torch.save(content, tmp_path / "file")
    torch.testing.assert_close(read_plain(tmp_path / "file"), content, rtol=0, atol=0)


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_says_so(model: Model, tmp_path: Path, fraction: float) -> None:
    path = tmp_path / "model.pt"
    native.save(model, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(fraction * len(data))])
    with pytest.raises(CheckpointError, match=r"truncated.*copy the file again"):
        load(path)


def test_any_flipped_byte_is_noticed_or_harmless(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    native.save(model, path)
    data = path.read_bytes()
    weights = {k: v.clone() for k, v in model.potential.backbone.state_dict().items()}
    damaged = 0
    for place in range(5, len(data), len(data) // 60):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            again = load(path)
        except CheckpointError:
            damaged += 1
        else:  # padding between the members of the archive
            torch.testing.assert_close(
                dict(again.potential.backbone.state_dict()), weights, rtol=0, atol=0
            )
    assert damaged > 20


@pytest.mark.parametrize("seed", range(2))
def test_any_flipped_bit_of_a_shipped_model_is_told_with_its_name(
    tmp_path: Path, seed: int
) -> None:
    # The directory of the archive, at its end, and its first header are read before any checksum.
    data = shipped_models()["pet-si"].read_bytes()
    path, rng = tmp_path / "model.pt", random.Random(seed)
    directory = data.index(b"PK\x01\x02", len(data) - 20_000)
    places = [
        *(rng.randrange(100) for _ in range(20)),
        *(rng.randrange(directory, len(data)) for _ in range(40)),
        *(rng.randrange(len(data) - 120, len(data)) for _ in range(40)),
    ]
    messages = []
    for place in places:
        flipped = data[place] ^ 1 << rng.randrange(8)
        path.write_bytes(data[:place] + bytes([flipped]) + data[place + 1 :])
        try:
            load(path)
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(str(path) in message for message in messages)


def test_a_damaged_compressed_archive_is_told(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole", tmp_path / "model.pt"
    torch.save({"weights": torch.arange(5000)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    data, messages = path.read_bytes(), []
    for place in range(40, len(data), len(data) // 100):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            read_plain(path)
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(str(path) in message for message in messages)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"PK\x03\x04 and no more", "truncated"),
        (b"cutoff: 5.0\n", r"a text file \('cutoff: 5.0.*give the file that holds one"),
        (b"version https://git-lfs.github.com/spec/v1\n", "fetch the file with `git lfs pull`"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not a file of torch.save"),
        (pickle.dumps([1, 2]), "a bare pickle"),
        (array_file(), "an array of NumPy, not a checkpoint"),
    ],
)
def test_other_files_are_described(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["readme.txt"], "not one of torch.save.*readme.txt"),
        (["m/data.pkl"], "damaged|not readable"),
    ],
)
def test_other_archives_are_described(tmp_path: Path, members: list[str], message: str) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, "not a pickle")
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_a_program_in_the_place_of_a_checkpoint_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("m/constants.pkl", pickle.dumps((), 2))
    with pytest.raises(CheckpointError, match="a TorchScript program, not a checkpoint"):
        read_plain(tmp_path / "model.pt")


def test_a_tensor_that_repeats_its_numbers_is_refused(tmp_path: Path) -> None:
    content = {"weights": [(torch.zeros(1).expand(1 << 40),)]}
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"shape \[1099511627776\] repeats its numbers"):
        read_plain(tmp_path / "model.pt")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_plain(tmp_path / "model.pt")
