"""The page of commands, from what ``ase-pet --help`` knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from ase_pet.cli import app as ase_pet

HEAD = """# Commands

`ase-pet COMMAND --help` prints the same. Arguments may be given by name, as in `--model pet-si`,
and everything by a YAML file, [](../workflows/shell.md).
"""
#: Options of at least so many commands are listed once.
COMMON = 4


def table(options: Iterable[Any]) -> str:
    """Options as a table in Markdown."""
    rows = ["| option | default | |", "|---|---|---|"]
    for option in options:
        names = " / ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        rows.append(f"| {names} | {default(option)} | {option.help or ''} |")
    return "\n".join(rows)


def default(option: Any) -> str:
    """The default of an option as it would be typed; nothing where there is none."""
    value = option.opts[0] if option.default is True else option.default
    if value is None or value is False or callable(value):
        return ""
    return f"`{' '.join(map(str, value)) if isinstance(value, tuple | list) else value}`"


def page() -> str:
    """All commands with their arguments and options."""
    commands = typer.main.get_command(ase_pet).commands
    options = {
        name: [
            p
            for p in command.params
            if p.param_type_name == "option" and not p.name.endswith("_by_name")
        ]
        for name, command in commands.items()
    }
    seen = Counter((*o.opts, o.help) for each in options.values() for o in each)
    shared = {k for k, number in seen.items() if number >= COMMON}
    common: dict[str, Any] = {}
    parts = []
    for name, command in commands.items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(["ase-pet", name, *(a.metavar or a.name.upper() for a in arguments)])
        own = [o for o in options[name] if (*o.opts, o.help) not in shared]
        others = [o for o in options[name] if (*o.opts, o.help) in shared]
        common |= {o.opts[0]: o for o in others}
        parts += [f"## {name}", command.help, f"```\n{usage} [OPTIONS]\n```"]
        parts += [f"- `{a.metavar or a.name.upper()}`: {a.help}" for a in arguments if a.help]
        parts += [table(own)] if own else []
        if others:
            parts.append("Common: " + ", ".join(f"`{o.opts[0]}`" for o in others) + ".")
    return "\n\n".join([HEAD, *parts, "## Common options", table(common.values()), ""])


def write(app: Any) -> None:
    """Write the page before Sphinx looks for pages; left alone if nothing changed."""
    path = Path(app.srcdir, "reference", "commands.md")
    text = page()
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
