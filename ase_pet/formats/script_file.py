"""TorchScript archives as data: what a module holds, and nothing of what it does.

``torch.jit.save`` writes a zip archive: ``data.pkl`` is a pickle of the module and of all modules,
lists and numbers in it, ``data/<key>`` holds the storages of its tensors, ``code/`` its program.
The program is not read. The pickle is interpreted here, not by ``pickle``: only the instructions
that TorchScript writes are known, objects of its classes become inert records, and the functions
that it may name are the ones below.

Source:
    https://docs.python.org/3/library/pickletools.html for the instructions
"""

from __future__ import annotations

import math
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.formats.torch_file import Record, is_program, open_archive, refuse_code

_CLASS = re.compile(r"__torch__(\.\w+)+", re.ASCII)
_MANGLED = re.compile(r"\.___torch_mangle_\d+")
_STORAGES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32},
    **{"ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8},
    "BoolStorage": torch.bool,
}
#: Longest name of a tensor: modules of a model are not nested deeper.
_LONGEST = 1000


class ScriptRecord(Record):
    """What stands for an object of a TorchScript class.

    Attributes:
        kind: Name of the class, without the numbers that tell its variants apart, such as
            ``"torch.nn.modules.linear.Linear"``.
        state: Attributes by name; for an object of a C++ class, text or a tensor of bytes.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind


def holds_program(path: Path) -> bool:
    """Whether a file is a TorchScript archive, and its directory not damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return is_program(archive)
    except Exception:  # a flipped bit of the directory can raise almost anything
        return False


def read_program(path: Path) -> ScriptRecord:
    """Read the module in a TorchScript archive; nothing in the file is executed.

    All pickles of the archive are first searched for names that are no part of a module, then one
    of them is read: two locks, as for files of ``torch.save``.

    Args:
        path: The file.

    Raises:
        CheckpointError: If the file is missing, damaged, of another kind, or names or does
            anything that a saved module does not.
    """
    with open_archive(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not is_program(archive) or len(names) != 1:
            raise CheckpointError(f"{path}: not an archive of one TorchScript module")
        folder = names[0].removesuffix(".pkl")
        for member in archive.infolist():
            read = member.filename.endswith(".pkl") or member.filename.startswith(f"{folder}/")
            if read and member.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(
                    f"{path}: compressed, which torch.jit.save does to code alone"
                )
        refuse_code(archive, path, lambda name: name in _KNOWN or bool(_CLASS.fullmatch(name)))
        machine = _Machine(archive, folder, path)
        module = machine.run(archive.read(names[0]))
    if not isinstance(module, ScriptRecord) or not isinstance(module.state, dict):
        raise CheckpointError(f"{path}: a TorchScript archive without a module")
    return module


def tensors_of(module: ScriptRecord) -> dict[str, Tensor]:
    """Tensors of a module and of those in it, by the names of a state dictionary.

    Raises:
        ValueError: If modules are nested deeper than in any model.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    waiting = [("", module)]
    while waiting:
        prefix, record = waiting.pop()
        if len(prefix) > _LONGEST:
            raise ValueError("modules are nested too deeply")
        if id(record) in seen or not isinstance(record.state, dict):
            continue
        seen.add(id(record))
        for name, value in record.state.items():
            if isinstance(value, Tensor):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, ScriptRecord):
                waiting.append((f"{prefix}{name}.", value))
    return found


class _Name(str):
    """A name of a class or function, which is not that class or function."""

    __slots__ = ()


class _Machine:
    """Interprets the instructions of one pickle."""

    def __init__(self, archive: zipfile.ZipFile, folder: str, path: Path) -> None:
        self.archive, self.folder, self.path = archive, folder, path
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[tuple[str, torch.dtype], Tensor] = {}

    def run(self, data: bytes) -> Any:
        """What the pickle holds."""
        for instruction, argument, _ in pickletools.genops(data):
            if instruction.name not in _INSTRUCTIONS:
                raise self.refused(f"the instruction {instruction.name} of a pickle")
            _INSTRUCTIONS[instruction.name](self, argument)
        return self.stack.pop()

    def refused(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: refused: {what}, which no TorchScript module holds")

    def top(self, kind: type) -> Any:
        """The object that the next instruction changes."""
        if type(self.stack[-1]) is not kind:
            raise self.refused(f"an instruction for {kind.__name__} on {_said(self.stack[-1])}")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def tuple_of(self, count: int) -> None:
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        self.top(dict).update(zip(values[::2], values[1::2], strict=True))

    def make_object(self) -> None:
        name, arguments = self.stack[-2:]
        if not isinstance(name, _Name) or not _CLASS.fullmatch(name) or arguments != ():
            raise self.refused(f"a new object of {_said(name)}")
        self.stack[-2:] = [ScriptRecord(_MANGLED.sub("", name).removeprefix("__torch__."))]

    def build(self) -> None:
        state = self.stack.pop()
        record = self.top(ScriptRecord)
        if record.state is not None:
            raise self.refused("a second state of one object")
        record.state = state

    def call(self) -> None:
        name, arguments = self.stack[-2:]
        if not isinstance(name, _Name) or name not in _FUNCTIONS or type(arguments) is not tuple:
            raise self.refused(f"a call of {_said(name)}")
        self.stack[-2:] = [_FUNCTIONS[name](*arguments)]

    def load_storage(self) -> None:
        """Replace the description of a storage by all its numbers, as a tensor."""
        kind, name, key, _, count = self.stack.pop()
        dtype = _STORAGES.get(str(name).removeprefix("torch."))
        if kind != "storage" or not isinstance(name, _Name) or dtype is None:
            raise self.refused(f"a storage of {_said(name)}")
        if (key, dtype) not in self.storages:
            data = bytearray(self.archive.read(f"{self.folder}/{key}"))
            self.storages[key, dtype] = (
                torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            )
        if count != len(self.storages[key, dtype]):
            raise ValueError(f"storage {key} holds {len(self.storages[key, dtype])}, not {count}")
        self.stack.append(self.storages[key, dtype])


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: object) -> Tensor:
    """A view of a storage that lies within it and repeats nothing.

    Args:
        storage: All numbers of the storage [n].
        offset: Where the view begins.
        size: Its shape.
        stride: Distance of neighbours along each dimension.
    """
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or any(type(k) is not int or k < 0 for k in numbers):
        raise ValueError("a tensor of impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and not (last < len(storage) and math.prod(size) <= len(storage)):
        raise ValueError(f"a tensor of shape {list(size)} beyond its storage of {len(storage)}")
    return storage.as_strided(size, stride, offset)


def _said(value: object) -> str:
    """An object of the file for a message: a name, or the kind of anything else."""
    return str(value)[:100] if isinstance(value, _Name) else type(value).__name__


def _same(value: Any, *_: object) -> Any:
    return value


def _pushes(make: Callable[[Any], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.stack.append(make(argument))


#: Functions that a module's pickle names, and what is called instead.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"torch.jit._pickle.build_{k}list": _same for k in ("int", "double", "bool", "tensor")},
    "torch.jit._pickle.restore_type_tag": _same,
    "torch.device": _same,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "collections.OrderedDict": dict,
}
_KNOWN = {*_FUNCTIONS, *(f"torch.{name}" for name in _STORAGES)}
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(("PROTO", "STOP"), lambda m, _: None),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), _pushes(_same)
    ),
    "NONE": _pushes(lambda _: None),
    "NEWTRUE": _pushes(lambda _: True),
    "NEWFALSE": _pushes(lambda _: False),
    "EMPTY_TUPLE": _pushes(lambda _: ()),
    "EMPTY_LIST": _pushes(lambda _: []),
    "EMPTY_DICT": _pushes(lambda _: {}),
    "GLOBAL": _pushes(lambda name: _Name(name.replace(" ", "."))),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda m, k: m.memo.update({k: m.stack[-1]})),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, k: m.stack.append(m.memo[k])),
    "NEWOBJ": lambda m, _: m.make_object(),
    "BUILD": lambda m, _: m.build(),
    "REDUCE": lambda m, _: m.call(),
    "BINPERSID": lambda m, _: m.load_storage(),
}
