"""Where a result comes from: command, date and versions."""

from __future__ import annotations

import platform
import shlex
import sys
from contextvars import ContextVar
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import ase_pet

#: The command line that is running, as it was typed; without one, that of the Python program.
COMMAND: ContextVar[str] = ContextVar("COMMAND")

_PACKAGES = ("torch", "ase", "numpy", "phonopy")


def provenance() -> dict[str, Any]:
    """Command, date (UTC) and versions, as plain text."""
    versions = {name: version(name) for name in _PACKAGES}
    return {
        "command": COMMAND.get(shlex.join(sys.argv)),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "ase_pet": ase_pet.__version__,
            **versions,
            "python": platform.python_version(),
        },
    }
