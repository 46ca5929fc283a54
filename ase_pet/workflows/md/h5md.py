"""H5MD, a layout of HDF5 for trajectories, written so that a kill cannot spoil it.

A file of HDF5 that is open for writing is broken if the process is killed. Here the file is made
with room for all frames, closed, and renamed into place; frames then overwrite numbers within it,
and nothing else in the file changes. A frame that is not written yet has the step -1.

Source:
    de Buyl, Colberg & Höfling, Comput. Phys. Commun. 185, 1546 (2014); https://h5md.nongnu.org,
    version 1.1, with the module "units".
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

import ase_pet
from ase_pet.formats.files import remove_leftovers, temporary_name

#: Elements that change, and their units; the edges are [3, 3] in a frame, the others [n_atoms, 3].
#: Forces are per mole, because readers of H5MD, such as MDAnalysis, know no eV.
ELEMENTS = {
    "position": "Angstrom",
    "velocity": "Angstrom fs-1",
    "force": "kJ mol-1 Angstrom-1",
    "box/edges": "Angstrom",
}
ROOT = "particles/all"


class H5MDFrames:
    """A trajectory in H5MD.

    Args:
        path: The file.
        n_frames: How many frames there will be.
        like: The first frame, or one like it.
        n_kept: How many frames to keep of the file that is there.

    Raises:
        ValueError: If the file has not as many.
    """

    def __init__(self, path: Path, n_frames: int, like: Atoms, n_kept: int = 0) -> None:
        self.path, self._n_frames = path, n_kept
        if n_kept == 0 or _capacity(path, n_kept) != n_frames:
            _allocate(path, n_frames, like, n_kept)
        self._places = _places(path)
        self._file = os.open(path, os.O_RDWR)
        forgotten = np.full(n_frames - n_kept, -1, self._places["step"][1]).tobytes()
        os.pwrite(self._file, forgotten, self._places["step"][0] + 8 * n_kept)

    def append(self, atoms: Atoms) -> None:
        """Write a frame; its step, last, makes it count."""
        k = self._n_frames
        self._put("position", k, atoms.positions)
        self._put("velocity", k, atoms.get_velocities() * units.fs)
        self._put("force", k, atoms.get_forces() * units.mol / units.kJ)
        self._put("box/edges", k, atoms.cell.array)
        self._put("time", k, np.array(atoms.info["time_ps"]))
        self._put("step", k, np.array(atoms.info["step"]))
        self._n_frames += 1

    def _put(self, name: str, k: int, values: np.ndarray) -> None:
        start, dtype, size = self._places[name]
        data = np.ascontiguousarray(values, dtype).tobytes()
        assert len(data) == size
        if os.pwrite(self._file, data, start + k * size) != size:
            raise OSError(f"{self.path}: a frame could not be written; is the disk full?")

    def mark(self) -> tuple[int, int, int]:
        """Number of frames; the rest of the file does not change."""
        return self._n_frames, 0, 0

    def sync(self) -> None:
        """Return when all is on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; room that is left, where a run stopped early, is given up."""
        os.close(self._file)
        if 0 < self._n_frames < _capacity(self.path, 0):
            _allocate(self.path, self._n_frames, None, self._n_frames)


def _capacity(path: Path, n_kept: int) -> int:
    """How many frames there is room for; those to keep must be there."""
    import h5py

    if path.is_file():
        with h5py.File(path, "r") as file:
            step = file[f"{ROOT}/position/step"][:]
        if (step[:n_kept] >= 0).sum() == n_kept:
            return len(step)
    raise ValueError(
        f"{path}: shorter than its checkpoint says; begin anew in another folder, or here without "
        "resuming"
    )


def _places(path: Path) -> dict[str, tuple[int, np.dtype, int]]:
    """Where in the file each array begins, its dtype, and bytes of a frame in it."""
    import h5py

    found = {}
    with h5py.File(path, "r") as file:
        arrays = {name: file[f"{ROOT}/{name}/value"] for name in ELEMENTS}
        arrays |= {name: file[f"{ROOT}/position/{name}"] for name in ("step", "time")}
        for name, array in arrays.items():
            size = array.dtype.itemsize * int(np.prod(array.shape[1:]))
            found[name] = (array.id.get_offset(), array.dtype, size)
    return found


def _allocate(path: Path, n_frames: int, like: Atoms | None, n_kept: int) -> None:
    """Make a file with room, with the first frames and, without ``like``, the head of the old."""
    import h5py

    remove_leftovers(path)
    temporary = path.with_name(temporary_name(path.name, secrets.token_hex(4)))
    try:
        with h5py.File(temporary, "w") as file:
            old = h5py.File(path, "r") if n_kept else None
            _write_head(file, like, old)
            n_atoms = len(file[f"{ROOT}/species"])
            group = file[ROOT]
            step = _room(group, "position/step", (n_frames,), np.dtype("i8"), -1)
            time = _room(group, "position/time", (n_frames,), np.dtype("f8"), np.nan)
            time.attrs["unit"] = "ps"
            for name, unit in ELEMENTS.items():
                shape = (n_frames, 3 if name == "box/edges" else n_atoms, 3)
                value = _room(group, f"{name}/value", shape, np.dtype("f8"), np.nan)
                value.attrs["unit"] = unit
                if name != "position":
                    group[f"{name}/step"], group[f"{name}/time"] = step, time
            if old is not None:
                names = ("position/step", "position/time", *(f"{x}/value" for x in ELEMENTS))
                for name in names:
                    group[name][:n_kept] = old[ROOT][name][:n_kept]
                old.close()
        with temporary.open("rb") as whole_file:
            os.fsync(whole_file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _room(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype, fill: float) -> Any:
    """An array that has its place in the file before it has values."""
    import h5py

    wanted = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    wanted.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    return group.create_dataset(name, shape, dtype, fillvalue=fill, dcpl=wanted)


def _write_head(file: Any, like: Atoms | None, old: Any) -> None:
    """What does not change; of a structure, or as in an old file."""
    if like is None:
        numbers, masses = (old[f"{ROOT}/{name}"][:] for name in ("species", "mass"))
        boundary = list(old[f"{ROOT}/box"].attrs["boundary"])
    else:
        numbers, masses = like.numbers, like.get_masses()
        boundary = ["periodic" if periodic else "none" for periodic in like.pbc]
    head = file.create_group("h5md")
    head.attrs["version"] = np.array([1, 1], "i4")
    head.create_group("modules/units").attrs["version"] = np.array([1, 0], "i4")
    head.create_group("author").attrs["name"] = "unknown"
    creator = head.create_group("creator")
    creator.attrs["name"], creator.attrs["version"] = "ase_pet", ase_pet.__version__
    group = file.create_group(ROOT)
    group["species"], group["mass"] = np.asarray(numbers, "i4"), masses
    group["mass"].attrs["unit"] = "u"
    box = group.create_group("box")
    box.attrs["dimension"], box.attrs["boundary"] = 3, boundary
