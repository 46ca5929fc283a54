"""What pages say works: links lead somewhere, Python runs, commands and options are there."""

from __future__ import annotations

import pydoc
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from ase.build import bulk

from ase_pet.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GENERATED = (DOCS / "gallery", DOCS / "_build", DOCS / "reference" / "commands.md")
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if not any(made in (page, *page.parents) for made in GENERATED)
]
TEXTS = [ROOT / "README.md", *PAGES]
#: Pages whose Python needs nothing but the package.
PROGRAMS = [
    page
    for page in TEXTS
    if (page.name in ("README.md", "quickstart.md", "uncertainty.md") or "workflows" in page.parts)
    and "```python" in page.read_text()
]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        target = (page.parent / link).resolve()
        made = any(part in (target, *target.parents) for part in GENERATED)
        assert "://" in link or made or target.exists(), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names(page: Path) -> None:
    for name in re.findall(r"{(?:class|func|meth)}`~?([^`]+)`", page.read_text()):
        assert pydoc.locate(name) is not None, name


def test_every_page_is_in_a_contents() -> None:
    listed = {DOCS / "index.md"}
    for page in PAGES:
        for block in re.findall(r"```{toctree}\n(.*?)```", page.read_text(), re.DOTALL):
            entries = (line for line in block.splitlines() if line and line[0] != ":")
            listed |= {DOCS / f"{entry}.md" for entry in entries}
    assert set(PAGES) <= listed


@pytest.mark.parametrize("page", PROGRAMS, ids=name_of)
def test_python(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {"atoms": bulk("Si")}
    for block in blocks:
        exec(compile(block, page, "exec"), known)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_commands(page: Path) -> None:
    text = page.read_text()
    lines = re.findall(r"^ase-pet (.*)$", text, re.MULTILINE)
    for line in [*lines, *re.findall(r"`ase-pet ([^`]+)`", text)]:
        name, *given = [w for w in shlex.split(line, comments=True) if w != "--debug"]
        if name.startswith("-") or name == "COMMAND":
            continue
        command = COMMANDS[name]
        known = {"--help", *(o for p in command.params for o in (*p.opts, *p.secondary_opts))}
        assert {word for word in given if word.startswith("-")} <= known, line


def test_page_of_commands() -> None:
    text = runpy.run_path(str(DOCS / "extensions" / "commands.py"))["page"]()
    for name, command in COMMANDS.items():
        part = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        options = {p.opts[0] for p in command.params if p.param_type_name == "option"}
        missing = {o for o in options if f"`{o}`" not in part}
        arguments = {f"--{p.name}" for p in command.params if p.param_type_name == "argument"}
        assert missing <= arguments, name


def test_pages_of_the_gallery() -> None:
    page = runpy.run_path(str(DOCS / "extensions" / "gallery.py"))["page"]
    drawn = sorted((DOCS / "pictures").iterdir())
    assert drawn
    for folder in drawn:
        text = page(ROOT / "examples" / f"{folder.name}.py")
        assert f"literalinclude}} ../../examples/{folder.name}.py" in text
        for picture in folder.iterdir():
            assert f"](../pictures/{folder.name}/{picture.name})" in text
            assert picture.stat().st_size < 150_000
