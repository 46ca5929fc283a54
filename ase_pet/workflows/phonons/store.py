"""Arrays kept on disk, found again by all that they depend on."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator

import ase_pet
from ase_pet.formats.files import remove_leftovers, write_atomically
from ase_pet.interfaces.calculator_options import STATE


class Store:
    """What a calculator found, so that a run that was killed goes on where it stopped.

    A file's name is a fingerprint of the structures to the last bit, of the calculator's options,
    of the model's file and of the versions of this package and torch: whatever differs is
    computed anew. Files are numpy's ``.npz``, whole or absent, and hold no pickles.

    Args:
        folder: Where the files are; made when the first is written.
        calculator: Only those that tell the ``sha256`` of their model are known well enough;
            with others nothing is kept.
    """

    def __init__(self, folder: Path, calculator: Calculator) -> None:
        self.folder = folder
        self.calculator = _describe(calculator)

    def load(self, structures: Iterable[Atoms], **settings: Any) -> dict[str, np.ndarray] | None:
        """Arrays by name that were saved for the same structures and settings, if any were."""
        if self.calculator is None:
            return None
        path = self._path(structures, settings)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(f"{path}: damaged, computed anew ({error})", stacklevel=2)
            return None

    def save(
        self, arrays: Mapping[str, np.ndarray], structures: Iterable[Atoms], **settings: Any
    ) -> None:
        """Write arrays to a file of their own."""
        if self.calculator is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(structures, settings)
        remove_leftovers(path)
        write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **dict(arrays)))

    def _path(self, structures: Iterable[Atoms], settings: Mapping[str, Any]) -> Path:
        text = json.dumps([self.calculator, settings], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode())
        for atoms in structures:
            state = [atoms.info.get(name) for places in STATE.values() for name in places]
            digest.update(f"{len(atoms)} {atoms.pbc.tolist()} {state}".encode())
            for array, kind in ((atoms.numbers, "<i8"), (atoms.positions, "<f8")):
                digest.update(array.astype(kind).tobytes())
            digest.update(atoms.cell.array.astype("<f8").tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.npz"


def _describe(calculator: Calculator) -> dict[str, Any] | None:
    """All that results depend on beside structures, or ``None`` where it is not known."""
    options = calculator.todict()
    options.pop("checkpoint", None)  # a model may lie elsewhere now
    fingerprints = str(options.get("sha256") or "").split(", ")  # of each member of a committee
    if not all(fingerprints):
        return None
    model: Any = getattr(calculator, "model", None)
    models = getattr(model, "members", [model])
    return {
        "options": options,
        "metadata": [
            getattr(one, "metadata", None) for one in models
        ],  # units that were chosen when reading
        "versions": {"ase_pet": ase_pet.__version__, "torch": torch.__version__},
    }
