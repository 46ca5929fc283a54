"""Sphinx: pages in Markdown, the API from docstrings, commands and gallery from the code itself."""

import sys
from pathlib import Path
from typing import Any

from ase_pet import __version__

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "ase_pet"
author = "ase_pet developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "commands", "gallery"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "exclude-members": "model_config",
}
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"ase_pet {release}"
html_copy_source = False


def keep_first_line(app: Any, what: str, name: str, it: object, how: Any, lines: list[str]) -> None:
    """Napoleon takes what is before a colon in a property's first line for its type."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]


def setup(app: Any) -> None:
    """Register with Sphinx, before Napoleon."""
    app.connect("autodoc-process-docstring", keep_first_line, priority=400)
