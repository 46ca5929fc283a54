"""Where a result comes from: command, date and versions."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import ase_pet

#: The command line that is running, as it was typed; without one, that of the Python program.
COMMAND: ContextVar[str] = ContextVar("COMMAND")
#: Its arguments by name, those of a --config file among them; options are among a run's settings.
ARGUMENTS: ContextVar[Mapping[str, str]] = ContextVar("ARGUMENTS")

_PACKAGES = ("torch", "ase", "numpy", "phonopy")


def provenance() -> dict[str, Any]:
    """Command with its arguments, date (UTC) and versions, as plain text."""
    versions = {name: version(name) for name in _PACKAGES}
    return {
        "command": COMMAND.get(shlex.join(sys.argv)),
        "arguments": dict(ARGUMENTS.get({})),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "ase_pet": ase_pet.__version__,
            **versions,
            "python": platform.python_version(),
        },
    }
