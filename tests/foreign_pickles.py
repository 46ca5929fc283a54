"""Pickles that would run a command, put into archives that are otherwise whole."""

from __future__ import annotations

import copyreg
import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

#: What an attack runs; makes the file of this name.
COMMAND = "echo attacked > "
CODE = 240


def text(value: str) -> bytes:
    """The instruction that pushes a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def called(function: bytes) -> Callable[[str], bytes]:
    """Instructions that call a function, which others push, with the command."""
    return lambda command: function + text(command) + b"\x85R"


def through_state(command: str) -> bytes:
    """An object of a harmless class is given a method that takes its next state."""
    state = b"}" + text("__setstate__") + b"cposix\nsystem\nsb"
    return b"ccollections\nOrderedDict\n)R" + state + text(command) + b"b"


def through_storage(command: str) -> bytes:
    """A tensor's storage is described by a call."""
    call = called(b"cposix\nsystem\n")(command)
    return b"(" + text("storage") + call + text("0") + text("cpu") + b"K\x01tQ"


def hidden(command: str) -> bytes:
    """The name is fetched from the memo, far from where it was written."""
    kept = b"r\xf0\x00\x00\x01"  # a place of the memo that nobody else uses
    other = b"r\xf1\x00\x00\x01"
    written = text("posix") + kept + b"0" + text("system") + other + b"0"
    fetched = kept.replace(b"r", b"j") + other.replace(b"r", b"j")
    return called(written + fetched + b"\x93")(command)


#: Each with the name that a refusal tells.
ATTACKS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "GLOBAL, REDUCE": (called(b"cposix\nsystem\n"), r"posix\.system"),
    "STACK_GLOBAL": (called(short("posix") + short("system") + b"\x93"), r"posix\.system"),
    "STACK_GLOBAL, hidden": (hidden, "name is hidden"),
    "INST": (lambda command: b"(" + text(command) + b"iposix\nsystem\n", r"posix\.system"),
    "OBJ": (lambda command: b"(cposix\nsystem\n" + text(command) + b"o", r"posix\.system"),
    "BUILD": (through_state, r"posix\.system"),
    "extension code": (called(b"\x82" + bytes([CODE])), f"extension code {CODE}"),
    "persistent id": (through_storage, r"posix\.system"),
    "nested name": (
        called(short("torch.serialization") + short("os.system") + b"\x93"),
        r"torch\.serialization\.os\.system",
    ),
    "eval": (
        lambda command: (
            b"cbuiltins\neval\n" + text(f"__import__('os').system({command!r})") + b"\x85R"
        ),
        r"builtins\.eval",
    ),
}


def register_extension() -> None:
    copyreg.add_extension("posix", "system", CODE)


def forget_extension() -> None:
    copyreg.remove_extension("posix", "system", CODE)


def at_end(data: bytes, attack: bytes) -> bytes:
    """A pickle that runs an attack and still gives what it gave."""
    return data[:-1] + attack + b"0" + data[-1:]


def in_state(data: bytes, attack: bytes) -> bytes:
    """The same, within the state of the first object that a BUILD gives one as text."""
    steps = list(pickletools.genops(data))
    before = ("BINUNICODE", "BINPUT")
    place = next(
        steps[k][2]
        for k in range(2, len(steps))
        if steps[k][0].name == "BUILD" and (steps[k - 2][0].name, steps[k - 1][0].name) == before
    )
    return data[:place] + attack + b"0" + data[place:]


def rewrite(path: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    """Change one member of an archive, whose checksums stay right."""
    content = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name.split("/", 1)[-1] == member else data)
    path.write_bytes(content.getvalue())
