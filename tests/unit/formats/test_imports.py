"""Loading stays light: no compiler, no symbolic algebra, and none of the codes that it replaces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["pet-si", "tensornet-si"])
def test_what_loading_imports(name: str) -> None:
    script = (
        f"import sys; from ase_pet import load; load({name!r}); "
        "heavy = {'torch._dynamo', 'sympy', 'matgl', 'torchmdnet', 'metatrain'}; "
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
