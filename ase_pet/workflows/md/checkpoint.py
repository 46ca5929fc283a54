"""Checkpoints: all that a run needs to continue bit for bit, in one file, whole or absent.

The file is NumPy's ``.npz``, plain arrays and text; reading it runs no code.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ase_pet.formats.files import parse_json, write_atomically
from ase_pet.workflows.md.settings import MDSettings

NAME = "md.checkpoint.npz"
#: Of the file's content.
_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a run.

    Attributes:
        identity: What a run that continues must agree with, see :func:`identity_of`.
        state: Arrays of :meth:`~ase_pet.workflows.md.integrator.Integrator.state`.
        csv: Bytes of ``md.csv`` then.
        mark: Of the trajectory then.
    """

    identity: dict[str, Any]
    state: dict[str, np.ndarray]
    csv: int
    mark: tuple[int, int, int]

    @property
    def step(self) -> int:
        """How many steps were done."""
        return int(self.state["step"])

    def write(self, folder: Path) -> None:
        """Write it in place of the one before.

        Raises:
            OSError: If it cannot be written; the one before is then untouched.
        """
        arrays: dict[str, Any] = {f"state.{name}": x for name, x in self.state.items()}
        arrays |= {"identity": json.dumps(self.identity), "version": _VERSION}
        arrays |= {"csv": self.csv, "mark": self.mark}
        write_atomically(folder / NAME, lambda file: np.savez(file, **arrays))

    @classmethod
    def read(cls, folder: Path) -> Checkpoint | None:
        """The checkpoint in a folder, if there is one.

        Raises:
            ValueError: If the file is no checkpoint.
        """
        path = folder / NAME
        if not path.exists():
            return None
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                if int(file["version"]) != _VERSION:
                    raise ValueError(f"version {int(file['version'])}, expected {_VERSION}")
                state = {
                    name.removeprefix("state."): file[name]
                    for name in file.files
                    if name.startswith("state.")
                }
                frames, size, table = (int(x) for x in file["mark"])
                identity = parse_json(str(file["identity"]))
                return cls(identity, state, int(file["csv"]), (frames, size, table))
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path}: cannot be read as a checkpoint ({error}); begin anew in another folder, "
                "or here without resuming"
            ) from error


def find(
    folder: Path, identity: dict[str, Any], settings: MDSettings, resume: bool | None
) -> Checkpoint | None:
    """The checkpoint from which to continue; ``None`` if the run begins anew.

    Raises:
        ValueError: If the folder holds an unfinished run that nobody said what to do with, or one
            of other settings, another structure or another model.
    """
    if resume is False:
        return None
    found = Checkpoint.read(folder)
    if found is None:
        return None
    if resume is None:
        if found.step >= found.identity["total"]:
            return None
        raise ValueError(
            f"{folder}: holds a run that stopped after step {found.step} of "
            f"{found.identity['total']}; continue it with resume=True (--resume), or replace it "
            "with resume=False (--no-resume)"
        )
    other = _differences(found.identity, identity)
    other.pop("total", None)
    if other:
        raise ValueError(
            f"{folder}: holds another run: {'; '.join(other.values())}; continue it as it was, or "
            "choose another folder"
        )
    if settings.total < found.step:
        raise ValueError(
            f"{folder}: the run there is at step {found.step} already, {settings.total} were asked "
            "for; ask for more or choose another folder"
        )
    return found


def identity_of(atoms: Atoms, settings: MDSettings) -> dict[str, Any]:
    """What a run is: its settings, the structure at its start, the calculator.

    Where the model is, and how often checkpoints are written, is of no consequence.
    """
    calculator = dict(atoms.calc.todict())
    if calculator.get("sha256"):
        calculator.pop("checkpoint", None)
    arrays = {"positions": atoms.positions, "velocities": atoms.get_momenta()}
    arrays |= {"cell": atoms.cell.array, "masses": atoms.get_masses()}
    structure: dict[str, Any] = {
        name: hashlib.sha256(x.tobytes()).hexdigest() for name, x in arrays.items()
    }
    structure |= {"elements": str(atoms.symbols), "pbc": atoms.pbc.tolist()}
    structure |= {key: atoms.info.get(key) for key in ("charge", "spin", "spin_multiplicity")}
    structure["constraints"] = [constraint.todict() for constraint in atoms.constraints]
    parts = {"settings": settings.identity(), "structure": structure, "calculator": calculator}
    return json.loads(json.dumps({**parts, "total": settings.total}, default=_plain))


def _differences(there: Any, here: Any, name: str = "") -> dict[str, str]:
    """Sentences on what is not the same, by name; fingerprints are not shown."""
    if isinstance(there, dict) and isinstance(here, dict):
        found: dict[str, str] = {}
        for key in sorted(there.keys() | here.keys()):
            inner = f"{name} {key}".strip()
            found |= _differences(there.get(key), here.get(key), inner)
        return found
    if there == here:
        return {}
    if len(str(there)) > 40 or len(str(here)) > 40:
        return {name: f"{name} differs"}
    return {name: f"{name} is {there} there and {here} here"}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
