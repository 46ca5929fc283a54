"""The gallery: a page for each program in ``examples/``, with its description and pictures.

Pictures are those of ``docs/pictures/NAME/``. ``python docs/extensions/gallery.py`` runs the
programs and draws them anew.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

DOCS = Path(__file__).parents[1]
EXAMPLES = DOCS.parent / "examples"
PICTURES = DOCS / "pictures"


def page(program: Path) -> str:
    """Description, pictures and source of a program."""
    summary, _, rest = (ast.get_docstring(ast.parse(program.read_text())) or "").partition("\n")
    name = program.relative_to(EXAMPLES)
    pictures = sorted((PICTURES / program.stem).glob("*.png"))
    return "\n\n".join(
        [
            f"# {summary.rstrip('.')}",
            rest.strip("\n"),
            *(f"![{p.stem}](../pictures/{program.stem}/{p.name})" for p in pictures),
            f"`examples/{name}`:",
            f"```{{literalinclude}} ../../examples/{name}\n:language: python\n```",
            "",
        ]
    )


def write(app: Any) -> None:
    """Write the pages before Sphinx looks for them; those that did not change are left alone."""
    folder = Path(app.srcdir, "gallery")
    folder.mkdir(exist_ok=True)
    pages = {f"{program.stem}.md": page(program) for program in sorted(EXAMPLES.rglob("*.py"))}
    for old in {p.name for p in folder.glob("*.md")} - pages.keys():
        (folder / old).unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}


def draw(program: Path) -> None:
    """Run a program and keep the pictures that it leaves at the top of its folder."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, program, "--out", folder], check=True)
        kept = PICTURES / program.stem
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for picture in Path(folder).glob("*.png"):
            with Image.open(picture) as drawn:  # few colours: half the size
                drawn.convert("RGB").quantize(64).save(kept / picture.name, optimize=True)


if __name__ == "__main__":
    for each in sorted(EXAMPLES.glob("*.py")):
        draw(each)
