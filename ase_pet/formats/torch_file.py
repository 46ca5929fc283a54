"""Files of ``torch.save`` as data: nothing in them is ever executed."""

from __future__ import annotations

import pickletools
import zipfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.formats.files import write_atomically

_BUILTIN = ("builtins.", "__builtin__.")
_TENSOR_PARTS = {
    "collections.OrderedDict",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
    "torch.Size",
    *(f"torch.{kind}Storage" for kind in ("Double", "Float", "Half", "BFloat16")),
    *(f"torch.{kind}Storage" for kind in ("Long", "Int", "Bool", "Byte", "Char", "Short")),
    *(f"torch.{kind}" for kind in ("float64", "float32", "float16", "bfloat16")),
}
_TRUNCATED = "truncated (the end of the archive is missing); copy the file again"


class Record:
    """What stands for an object of a foreign class: its state, and nothing that could run."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def write_plain(path: str | Path, content: object) -> None:
    """Write tensors and plain containers, whole or not at all.

    Raises:
        OSError: If the file cannot be written; ``torch.save`` itself would not say why.
    """
    made = BytesIO()
    torch.save(content, made)
    write_atomically(path, lambda file: file.write(made.getbuffer()))


def read_plain(path: Path, records: Collection[str] = ()) -> object:
    """Read tensors and plain containers from a file of ``torch.save``.

    The pickle inside is first searched for anything that is not a tensor or a container, then
    read by torch's restricted unpickler: two locks, neither of which runs code of the file.

    Args:
        path: The file.
        records: Names ``module.class`` of foreign classes whose objects are read as
            :class:`Record`; builtin containers are read as they are.

    Returns:
        What was saved, on the CPU.

    Raises:
        CheckpointError: If the file is missing, empty, damaged, of another kind, or names
            anything that would have to be executed.
    """
    with open_archive(path) as archive:
        names = archive.namelist()
        if is_program(archive):
            raise CheckpointError(
                f"{path}: a TorchScript program, not a checkpoint; load the checkpoint that it was "
                "exported from"
            )
        if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
            raise CheckpointError(
                f"{path}: a zip archive, but not one of torch.save (it holds {names[:4]})"
            )
        refuse_code(archive, path, lambda name: name in _TENSOR_PARTS or name in records)
    inert: list[Any] = [(Record, name) for name in records if not name.startswith(_BUILTIN)]
    try:
        with torch.serialization.safe_globals(inert):
            content: object = torch.load(path, map_location="cpu", weights_only=True)
        _refuse_repetition(content)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{path}: not readable as tensors and plain containers ({reason[0]}); "
            "copy or export the model again"
        ) from error
    return content


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose checksums are right.

    Raises:
        CheckpointError: If the file is missing, damaged or no archive, or if what is done with the
            archive fails in a way that only a damaged one can.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the path")
    try:
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: {_describe(path)}")
        with zipfile.ZipFile(path) as archive:
            if min((member.header_offset for member in archive.infolist()), default=0) > 0:
                raise CheckpointError(f"{path}: {_TRUNCATED}")  # this archive is a part of it
            damaged = archive.testzip()
            if damaged is not None:
                raise CheckpointError(
                    f"{path}: damaged (checksum of {damaged} is wrong); copy the file again"
                )
            yield archive
    except CheckpointError:
        raise
    except Exception as error:  # a flipped bit of an archive can raise almost anything
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{path}: damaged or not readable ({told}); copy the file again"
        ) from error


def is_program(archive: zipfile.ZipFile) -> bool:
    """Whether an archive was written by ``torch.jit.save``, not by ``torch.save``."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def refuse_code(archive: zipfile.ZipFile, path: Path, allowed: Callable[[str], bool]) -> None:
    """Refuse an archive if a pickle in it would import a name that is not allowed.

    Raises:
        CheckpointError: If there is such a name, which it tells.
    """
    names = {
        name
        for member in archive.namelist()
        if member.endswith(".pkl")
        for name in _names_in_pickle(BytesIO(archive.read(member)))
    }
    if refused := _listed(name for name in names if not allowed(name)):
        raise CheckpointError(f"{path}: refused, because loading it would run {refused}")


def _refuse_repetition(content: object) -> None:
    """Refuse tensors that claim more numbers than the file holds, by repeating some.

    Raises:
        ValueError: If there is one.
    """
    waiting, seen = [content], set[int]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {list(value.shape)} repeats its numbers")
        elif id(value) in seen:
            continue
        elif isinstance(value, Record):
            waiting.append(value.state)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
        seen.add(id(value))


def _names_in_pickle(file: BinaryIO) -> Iterator[str]:
    """Every ``module.name`` that a pickle would import, found without unpickling it.

    Raises:
        ValueError: If the data are not a pickle.
    """
    pushed: deque[str] = deque(maxlen=2)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(pushed) if all(pushed) else "an object whose name is hidden"
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            yield f"extension code {argument}"
        if not opcode.name.endswith(("PUT", "MEMOIZE", "FRAME")):
            pushed.append(argument if isinstance(argument, str) else "")


def _listed(names: Iterable[str]) -> str:
    """Names for a message; empty if there are none."""
    listed = sorted({name[:80] for name in names})
    more = f" and {len(listed) - 6} more" if len(listed) > 6 else ""
    return ", ".join(listed[:6]) + more


def _describe(path: Path) -> str:
    """Say what a file is that is not a torch archive, and what to do about it."""
    with path.open("rb") as stream:
        data = stream.read(1 << 24)
    if not data:
        return "the file is empty; copy or export the model again"
    if data.startswith(b"PK\x03\x04"):
        return _TRUNCATED
    if data.startswith(b"\x93NUMPY"):
        return "an array of NumPy, not a checkpoint; give the file that holds the model"
    names: list[str] = []
    with suppress(ValueError), BytesIO(data) as file:
        while file.tell() < len(data):  # the old format of torch.save is several pickles in a row
            names.extend(_names_in_pickle(file))
    if refused := _listed(set(names) - _TENSOR_PARTS):
        return f"refused, because loading it would run {refused}"
    if data[:1] == b"\x80":
        return "a bare pickle; save the model with torch.save of PyTorch 1.6 or later"
    try:
        start = data[:200].decode("ascii")[:24]
    except UnicodeDecodeError:
        return "not a file of torch.save"
    if start.startswith("version https://git-lfs"):
        return "a pointer of Git LFS in place of the file; fetch the file with `git lfs pull`"
    return f"a text file ({start!r}...), not a model; give the file that holds one"
