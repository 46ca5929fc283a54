"""TorchScript archives: what they hold arrives, and nothing else is done."""

from __future__ import annotations

import pickle
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from ase_pet.errors import CheckpointError
from ase_pet.formats import load
from ase_pet.formats.script_file import ScriptRecord, holds_program, read_program, tensors_of
from tests.foreign_metatrain import exported_sample
from tests.foreign_pickles import rewrite, text

MODULE = b"c__torch__.a.___torch_mangle_3\nModule\n)\x81"
STORAGE = struct.pack("<6f", *range(6))


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(
    size: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int = 0,
    *,
    kind: str = "torch\nFloatStorage",
    key: str = "0",
    count: int = 6,
) -> bytes:
    """Instructions that push a tensor."""
    storage = b"(" + text("storage") + b"c" + kind.encode() + b"\n" + text(key) + text("cuda:3")
    storage += number(count) + b"tQ"
    view = storage + number(offset) + numbers(*size) + numbers(*stride)
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"\x89" + hooks + b"tR"


def attributes(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


def archive(
    path: Path, state: bytes, *, compression: int = zipfile.ZIP_STORED, before: bytes = MODULE
) -> Path:
    """An archive of a module with a state."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("m/data/0", STORAGE)
        file.writestr("m/data.pkl", b"\x80\x02" + before + state + b"b.")
        file.writestr("m/constants.pkl", b"\x80\x02).")
    return path


def state_of(path: Path) -> dict:
    return read_program(path).state


def test_attributes_of_every_kind(tmp_path: Path) -> None:
    state = attributes(
        yes=b"\x88",
        nothing=b"N",
        number=b"G" + struct.pack(">d", 0.1),
        large=number(-(2**60)),
        shape=b"ctorch.jit._pickle\nbuild_intlist\n(](K\x01K\x02etR",
        names=b"ctorch.jit._pickle\nrestore_type_tag\n](" + text("a") + b"e" + text("L") + b"\x86R",
        device=b"ctorch\ndevice\n" + text("cpu") + b"\x85R",
        inner=b"c__torch__.torch.classes.b\nLabels\n)\x81" + text("all") + b"b",
    )
    path = archive(tmp_path / "m.pt", state)
    assert holds_program(path)
    module = read_program(path)
    inner = module.state.pop("inner")
    assert (module.kind, inner.kind, inner.state) == ("a.Module", "torch.classes.b.Labels", "all")
    assert module.state == {
        **{"yes": True, "nothing": None, "number": 0.1, "large": -(2**60)},
        **{"shape": [1, 2], "names": ["a"], "device": "cpu"},
    }


def test_tensors_are_views_of_their_storage(tmp_path: Path) -> None:
    state = attributes(
        rows=tensor((2, 3), (3, 1)),
        columns=tensor((3, 2), (1, 3)),
        last=tensor((), (), 5),
        none=tensor((0, 7), (7, 1), 6),
        bits=tensor((3,), (1,), kind="torch\nLongStorage", count=3),
    )
    found = tensors_of(read_program(archive(tmp_path / "m.pt", state)))
    rows = torch.arange(6.0).view(2, 3)
    assert torch.equal(found["rows"], rows)
    assert torch.equal(found["columns"], rows.T)
    assert (found["last"].item(), found["none"].shape) == (5.0, (0, 7))
    assert found["bits"].tolist() == list(struct.unpack("<3q", STORAGE))
    assert found["rows"].data_ptr() == found["columns"].data_ptr()


def test_names_of_tensors_are_those_of_a_state_dictionary(tmp_path: Path) -> None:
    """A module that is there twice, or within itself, is met once."""
    layer = (
        b"c__torch__.L\nLayer\n)\x81q\x01"
        + attributes(weight=tensor((6,), (1,)), again=b"h\x01")
        + b"b"
    )
    path = archive(tmp_path / "m.pt", attributes(a=layer, b=b"h\x01", scale=tensor((1,), (1,))))
    names = set(tensors_of(read_program(path)))
    assert len(names) == 2
    assert names & {"a.weight", "b.weight"}
    assert "scale" in names


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (attributes(x=b"K\x01\x82\x05"), "refused, because loading it would run extension code 5"),
        (attributes(x=b"cos\nsystem\n"), r"refused, because loading it would run os\.system"),
        (attributes(x=b"c__torch__.a;b\nc\n"), r"would run __torch__\.a;b\.c"),
        (attributes(x=b"K\x012"), "refused: the instruction DUP of a pickle"),
        (attributes(x=b"N0N"), "refused: the instruction POP of a pickle"),
        (attributes(x=b"(c__torch__.a\nB\no"), "refused: the instruction OBJ of a pickle"),
        (attributes(x=b"c__torch__.a\nB\n)R"), r"refused: a call of __torch__\.a\.B"),
        (attributes(x=text("a") + b")R"), "refused: a call of str"),
        (attributes(x=b"ctorch\ndevice\n]R"), r"refused: a call of torch\.device"),
        (attributes(x=b"ctorch\ndevice\n)\x81"), r"refused: a new object of torch\.device"),
        (attributes(x=b"c__torch__.a\nB\nK\x01\x85\x81"), r"refused: a new object of __torch__"),
        (b"}}b", "an instruction for ScriptRecord on dict"),
        (b"}b}", "refused: a second state of one object"),
        (b"c__torch__.a\nB\n(K\x01e", "an instruction for list on __torch__.a.B"),
        (attributes(x=tensor((6,), (1,), kind="__torch__.a\nB")), r"a storage of __torch__\.a\.B"),
        (attributes(x=tensor((6,), (1,), key="1")), "There is no item named 'm/data/1'"),
        (attributes(x=tensor((6,), (1,), key="../data.pkl")), "There is no item named"),
        (
            attributes(x=tensor((6,), (1,), count=2**62)),
            "storage 0 holds 6, not 4611686018427387904",
        ),
        (attributes(x=tensor((7,), (1,))), r"shape \[7\] beyond its storage of 6"),
        (attributes(x=tensor((6,), (1,), 1)), r"shape \[6\] beyond its storage of 6"),
        (attributes(x=tensor((2**60,), (0,))), r"shape \[1152921504606846976\] beyond its storage"),
        (attributes(x=tensor((2**200,), (1,))), "beyond its storage of 6"),
        (attributes(x=tensor((-1,), (1,))), "a tensor of impossible shape"),
        (attributes(x=tensor((2,), (-1,), 2)), "a tensor of impossible shape"),
        (attributes(x=tensor((2, 2), (1,))), "a tensor of impossible shape"),
        (attributes(x=b"r\xff\xff\xff\xff"), "damaged or not readable"),
        (attributes(x=b"hz"), "damaged or not readable"),
        (b"t", "damaged or not readable"),
        (b"}(]Nu", "damaged or not readable"),
        (b"N", "without a module"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_module_does_not_hold_is_refused(state: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_program(archive(tmp_path / "m.pt", state))


CLAIMS = {
    "text": attributes(x=b"X" + b"\xff" * 4),
    "place in the memo": attributes(x=b"Nr" + b"\xff" * 4),
    "integer": attributes(x=b"\x8b" + b"\xff\xff\xff\x7f"),
    "shape": attributes(x=tensor((2**31, 2**31), (0, 0))),
    "storage": attributes(x=tensor((2**40,), (1,), count=2**40)),
}


@pytest.mark.parametrize("claim", [*CLAIMS, "member"])
def test_what_is_only_claimed_takes_no_memory(claim: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "m.pt", CLAIMS.get(claim, b"}"))
    if claim == "member":
        data = bytearray(path.read_bytes())
        sizes = data.index(b"PK\x01\x02") + 20  # of the first member, stored and unpacked
        data[sizes : sizes + 8] = b"\xf0\xff\xff\xff" * 2
        path.write_bytes(data)
    tracemalloc.start()
    try:
        if claim == "place in the memo":
            assert state_of(path) == {"x": None}
        else:
            with pytest.raises(CheckpointError):
                read_program(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_modules_in_modules_without_end(tmp_path: Path) -> None:
    """Twice as many paths with every level, and a chain deeper than any model."""
    twice = b"]q\x00"
    for _ in range(60):
        inside = attributes(a=twice, b=b"h\x00")
        twice = b"c__torch__.a\nB\n)\x81" + inside + b"bq\x00"
    tensors_of(read_program(archive(tmp_path / "m.pt", attributes(x=twice))))
    chain, last = ScriptRecord("a"), ScriptRecord("a")
    last.state = {"w": torch.zeros(1)}
    for _ in range(1000):
        chain.state = {"a": last}
        chain, last = ScriptRecord("a"), chain
    with pytest.raises(ValueError, match="nested too deeply"):
        tensors_of(last)


def test_compressed_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="compressed"):
        read_program(archive(tmp_path / "m.pt", b"}", compression=zipfile.ZIP_DEFLATED))


def test_an_archive_of_two_modules_or_none_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.pt", b"}")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("n/data.pkl", pickle.dumps({}, 2))
    with pytest.raises(CheckpointError, match="not an archive of one TorchScript module"):
        read_program(path)
    torch.save({}, tmp_path / "other.pt")
    assert not holds_program(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not an archive of one TorchScript module"):
        read_program(tmp_path / "other.pt")


def loads_or_tells(path: Path, expected: dict[str, torch.Tensor] | None) -> bool:
    """Whether a file loads; if given, with these weights."""
    message = ""
    try:
        model = load(path)
    except CheckpointError as error:
        message = str(error)
    if message:
        assert message.startswith(str(path))
        return False
    weights = dict(model.potential.backbone.state_dict())
    if expected is not None:
        torch.testing.assert_close(weights, expected, rtol=0, atol=0)
    return True


def test_a_file_with_any_byte_changed_is_the_same_or_refused(tmp_path: Path) -> None:
    path = exported_sample("pet_exported_old", tmp_path)
    data, rng = path.read_bytes(), random.Random(0)
    expected = dict(load(path).potential.backbone.state_dict())
    loaded = 0
    for _ in range(200):
        place, flip = rng.randrange(len(data)), 1 << rng.randrange(8)
        path.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
        loaded += loads_or_tells(path, expected)
        path.write_bytes(data[: rng.randrange(len(data))])
        assert not loads_or_tells(path, None)
    assert loaded < 100


def test_a_file_cut_behind_an_archive_in_it_is_truncated(tmp_path: Path) -> None:
    """Tensors hold archives, the last of which could be taken for the whole."""
    path = exported_sample("pet_exported_old", tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"PK\x05\x06", 0, len(data) - 100) + 22])
    assert zipfile.is_zipfile(path)
    with pytest.raises(CheckpointError, match="truncated"):
        load(path)


def test_a_pickle_with_any_bytes_changed_is_read_or_refused(tmp_path: Path) -> None:
    """The checksums are right, so that it is interpreted."""
    path, rng = exported_sample("pet_exported_old", tmp_path), random.Random(1)
    whole = path.read_bytes()

    def damage(data: bytes) -> bytes:
        changed = bytearray(data)
        place = rng.randrange(len(data))
        if rng.random() < 0.5:
            changed[place] = rng.randrange(256)
        else:
            other = rng.randrange(len(data))
            changed[place : place + 20] = data[other : other + 20]
        return bytes(changed)

    loaded = 0
    for _ in range(200):
        path.write_bytes(whole)
        rewrite(path, "data.pkl", damage)
        loaded += loads_or_tells(path, None)
    assert 0 < loaded < 150
