"""Labelled structures: read, checked, and split by purpose."""

from __future__ import annotations

import hashlib
import io
import lzma
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read
from torch import Tensor

from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.potentials.species import symbols
from ase_pet.potentials.tensors import RANKS
from ase_pet.training.config import DataConfig, SourceConfig

#: Entry of ``info`` that says which file a frame is from, and its number in it.
ORIGIN = "ase_pet_origin"


@dataclass(frozen=True, slots=True)
class Split:
    """Frames by purpose, and what was left out."""

    train: list[ase.Atoms]
    validation: list[ase.Atoms]
    test: list[ase.Atoms]
    n_dropped: int


def read_frames(source: SourceConfig) -> list[ase.Atoms]:
    """Read the labelled frames of a source.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file cannot be read, a frame is not sound (see :func:`check_frame`), or
            nothing is left after ``where``.
    """
    frames: list[ase.Atoms] = []
    for path in source.path:
        frames += read_extxyz(path)
    chosen = select(frames, source.where)
    if not chosen:
        raise ValueError(
            f"data: none of {len(frames)} frames of {[str(p) for p in source.path]} matches "
            f"{source.where}; look at the info entries of the file"
        )
    return chosen


def read_extxyz(path: Path) -> list[ase.Atoms]:
    """Read and check all frames of a plain or xz-compressed extended-XYZ file."""
    if not path.is_file():
        raise FileNotFoundError(f"data: no file {path}; check the path")
    try:
        # Whole in memory: the reader seeks back and forth, which an xz stream answers slowly.
        with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as handle:
            frames = list(read(io.StringIO(handle.read()), index=":", format="extxyz"))
    except (lzma.LZMAError, EOFError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not readable as extended XYZ: {error}") from error
    for k, atoms in enumerate(frames):
        atoms.info[ORIGIN] = f"{path}: frame {k}"
        atoms.set_constraint()  # which would zero forces of atoms that were fixed when labelled
        check_frame(atoms, name_of(atoms, k))
    return frames


def name_of(atoms: ase.Atoms, k: int) -> str:
    """What messages call the frame of number ``k``: its place in a file, if it is from one."""
    return str(atoms.info.get(ORIGIN, f"frame {k}"))


def check_frame(atoms: ase.Atoms, name: str) -> None:
    """Check that a frame is a structure with labels, and that all its numbers are finite.

    Args:
        atoms: The frame.
        name: What messages call it.

    Raises:
        ValueError: If it is not.
    """
    try:
        system_from_atoms([atoms])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    try:
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    except (RuntimeError, PropertyNotImplementedError):
        raise ValueError(
            f"{name} has no energy or no forces; label it with ASE's keys energy and forces"
        ) from None
    labels["stress"] = atoms.calc.results.get("stress", 0.0)
    for label, values in labels.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {label} not finite; correct the label or remove the frame")


def tensor_labels(atoms: ase.Atoms, wanted: Collection[str], name: str) -> dict[str, Tensor]:
    """Dipole [3], e·Å, and polarizability [3, 3], e²Å²/eV, of a frame, as far as it has them.

    ASE's calculators know a dipole; a polarizability is an entry of ``info`` with 9 numbers.

    Args:
        atoms: A labelled frame.
        wanted: Which of them a model predicts; others are not looked at.
        name: What messages call it.

    Raises:
        ValueError: If a label has the wrong number of entries, is not finite or not symmetric, or
            if the frame is periodic, where a dipole depends on the choice of the cell.
    """
    found = {
        "dipole": atoms.calc.results.get("dipole"),
        "polarizability": atoms.info.get("polarizability"),
    }
    labels = {}
    for label, given in found.items():
        if given is None or label not in wanted:
            continue
        shape = [3] * RANKS[label]
        try:
            values = np.asarray(given, float)
        except (TypeError, ValueError):
            values = np.array([])
        if values.size != np.prod(shape) or not np.isfinite(values).all():
            raise ValueError(
                f"{name}: {label}: expected {np.prod(shape)} finite numbers, got {given!r}; "
                "correct the label or remove it"
            )
        values = values.reshape(shape)
        if not np.allclose(values, values.T, atol=1e-3 * np.abs(values).max()):
            raise ValueError(f"{name}: {label}: not a symmetric matrix; correct the label")
        if atoms.pbc.any():
            raise ValueError(
                f"{name}: {label}: not defined for a periodic structure; remove the label, or set "
                "pbc to F if this is a molecule in a box"
            )
        labels[label] = torch.tensor(values)
    return labels


def select(frames: Iterable[ase.Atoms], where: dict[str, Any]) -> list[ase.Atoms]:
    """The frames whose ``info[key]`` equals the value, or one of a list of values."""

    def matches(info: dict[str, Any], key: str, value: Any) -> bool:
        wanted = value if isinstance(value, list) else [value]
        found: Any = info.get(key)  # possibly an array
        return any(np.array_equal(found, one) for one in wanted)

    return [a for a in frames if all(matches(a.info, *item) for item in where.items())]


def fingerprint(atoms: ase.Atoms) -> str:
    """Hash of elements, cell and geometry, to find the same frame in two sets."""
    digest = hashlib.sha256(atoms.numbers.astype("<i8").tobytes())
    for values in (atoms.positions, atoms.cell.array, atoms.pbc.astype(float)):
        # Adding zero turns -0.0 into 0.0.
        digest.update((np.round(values, 6) + 0.0).astype("<f8").tobytes())
    return digest.hexdigest()


def split_frames(config: DataConfig, seed: int) -> Split:
    """Read all sources, keep purposes apart and drop what the recipe excludes.

    Raises:
        ValueError: If a frame would be used for two purposes, or too few frames are left.
    """
    train = read_frames(config.train)
    test = read_frames(config.test) if config.test else []
    if isinstance(config.validation, SourceConfig):
        validation = read_frames(config.validation)
    else:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
        n_validation = max(1, round(config.validation * len(train)))
        validation = [train[k] for k in sorted(order[:n_validation])]
        train = [train[k] for k in sorted(order[n_validation:])]
    n_read = len(train)
    train = _without_extremes(train, config)
    if not train or not validation:
        raise ValueError(
            f"data: {len(train)} training and {len(validation)} validation frames are left; "
            "both sets need at least one"
        )
    _check_disjoint({"train": train, "validation": validation, "test": test})
    known = {z for atoms in train for z in atoms.numbers.tolist()}
    unseen = {z for atoms in [*validation, *test] for z in atoms.numbers.tolist()} - known
    if unseen:
        raise ValueError(
            f"data: validation or test frames hold {symbols(sorted(unseen))}, the training frames "
            "do not; add such frames for training or leave these out with `where`"
        )
    return Split(train, validation, test, n_read - len(train))


def _without_extremes(frames: list[ase.Atoms], config: DataConfig) -> list[ase.Atoms]:
    if config.max_force is not None:
        frames = [a for a in frames if np.abs(a.get_forces()).max() <= config.max_force]
    if config.max_energy is not None and frames:
        offsets = fit_composition(frames)
        residuals = [
            (a.get_potential_energy() - sum(offsets[z] for z in a.numbers.tolist())) / len(a)
            for a in frames
        ]
        highest = min(residuals) + config.max_energy
        frames = [a for a, r in zip(frames, residuals, strict=True) if r <= highest]
    return frames


def _check_disjoint(sets: dict[str, list[ase.Atoms]]) -> None:
    owner: dict[str, str] = {}
    for name, frames in sets.items():
        for atoms in frames:
            first = owner.setdefault(fingerprint(atoms), name)
            if first != name:
                raise ValueError(
                    f"data: a {atoms.get_chemical_formula()} frame is in both {first} and {name}; "
                    "training on held-out frames makes their errors meaningless: use `where` or "
                    "other files to keep the sets apart"
                )


def fit_composition(frames: Sequence[ase.Atoms]) -> dict[int, float]:
    r"""Fit energies of elements by least squares, :math:`E \approx \sum_Z n_Z e_Z`.

    Returns:
        Energy of each atomic number, eV; the smallest set of numbers where the frames leave a
        choice.
    """
    species = sorted({int(z) for atoms in frames for z in atoms.numbers})
    counts = np.array([[np.sum(atoms.numbers == z) for z in species] for atoms in frames], float)
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    # Per-atom rows, so that large structures do not dominate.
    sizes = counts.sum(1, keepdims=True)
    solution = np.linalg.lstsq(counts / sizes, energies / sizes[:, 0], rcond=1e-10)[0]
    return dict(zip(species, solution.tolist(), strict=True))
