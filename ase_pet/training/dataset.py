"""Labelled structures: read, split, neighbour-listed once, and grouped into batches."""

from __future__ import annotations

import hashlib
import io
import lzma
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.engine import COINCIDENT
from ase_pet.errors import GeometryError
from ase_pet.interfaces.ase_structures import has_volume, system_from_atoms
from ase_pet.neighbors import make_search
from ase_pet.potentials.species import symbols
from ase_pet.potentials.tensors import RANKS
from ase_pet.training.config import DataConfig, SourceConfig

#: Entry of ``info`` that says which file a frame is from, and its number in it.
ORIGIN = "ase_pet_origin"
#: What stands for a label that a frame does not have.
_MISSING = {
    name: torch.full([3] * rank, torch.nan, dtype=torch.float64) for name, rank in RANKS.items()
}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One labelled structure with its neighbour list.

    Attributes:
        graph: Its graph, vectors in float64, Å.
        energy: eV.
        forces: [n_atoms, 3], eV/Å, float64.
        stress: [3, 3], eV/Å³, ASE's sign, or None.
        tensors: Dipole [3], e·Å, and polarizability [3, 3], e²Å²/eV, as far as there are labels.
        volume: Å³; 1 where the cell has no volume.
        group: Name under which errors are also listed.
        most_neighbors: Largest number of neighbours of an atom.
    """

    graph: Graph
    energy: float
    forces: Tensor
    stress: Tensor | None
    tensors: dict[str, Tensor]
    volume: float
    group: str
    most_neighbors: int


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Labelled structures as one graph.

    Attributes:
        graph: All structures.
        energy: [n_systems], eV.
        forces: [n_atoms, 3], eV/Å.
        stress: [n_systems, 3, 3], eV/Å³; zero where there is none.
        tensors: [n_systems, 3] or [n_systems, 3, 3] by name; NaN where there is none.
        has_stress: [n_systems], bool.
        volumes: [n_systems], Å³.
        n_atoms: [n_systems], atoms of each structure.
    """

    graph: Graph
    energy: Tensor
    forces: Tensor
    stress: Tensor
    tensors: dict[str, Tensor]
    has_stress: Tensor
    volumes: Tensor
    n_atoms: Tensor


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
    tensor_labels(atoms, name)
    for label, values in labels.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {label} not finite; correct the label or remove the frame")


def tensor_labels(atoms: ase.Atoms, name: str) -> dict[str, Tensor]:
    """Dipole [3], e·Å, and polarizability [3, 3], e²Å²/eV, of a frame, as far as it has them.

    ASE's calculators know a dipole; a polarizability is an entry of ``info`` with 9 numbers.

    Args:
        atoms: A labelled frame.
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
        if given is None:
            continue
        values, shape = np.asarray(given, float), [3] * RANKS[label]
        if values.size != np.prod(shape) or not np.isfinite(values).all():
            raise ValueError(
                f"{name}: {label}: expected {np.prod(shape)} finite numbers, got {given}; correct "
                "the label or remove it"
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


def make_samples(frames: Iterable[ase.Atoms], cutoff: float) -> list[Sample]:
    """Search the neighbours within ``cutoff`` (Å) of every frame once.

    Raises:
        GeometryError: If two atoms of a frame coincide.
    """
    search = make_search("auto")
    samples = []
    for k, atoms in enumerate(frames):
        system = system_from_atoms([atoms])
        graph = Graph.build(system, search(system, cutoff))
        close = torch.nonzero(graph.vectors.norm(dim=1) < COINCIDENT)[:, 0].tolist()
        if close:
            i, j = int(graph.centers[close[0]]), int(graph.others[close[0]])
            raise GeometryError(
                f"{name_of(atoms, k)}: atoms {i} and {j} are at the same place or images of one "
                "another; remove one of them, correct the cell, or remove the frame"
            )
        has_stress = "stress" in atoms.calc.results and has_volume(atoms)
        samples.append(
            Sample(
                graph=graph,
                energy=float(atoms.get_potential_energy()),
                forces=torch.tensor(atoms.get_forces(), dtype=torch.float64),
                stress=torch.tensor(atoms.get_stress(voigt=False)) if has_stress else None,
                tensors=tensor_labels(atoms, name_of(atoms, k)),
                volume=float(atoms.get_volume()) if has_volume(atoms) else 1.0,
                group=str(atoms.info.get("group", "all")),
                most_neighbors=int(torch.bincount(graph.centers, minlength=1).max()),
            )
        )
    return samples


def require_labels(samples: Sequence[Sample], tensors: Iterable[str]) -> None:
    """Check that there is something to learn each tensor from.

    Raises:
        ValueError: If no frame is labelled with one of them.
    """
    for name in tensors:
        if not any(name in sample.tensors for sample in samples):
            where = "ASE's key dipole" if name == "dipole" else f"an entry {name} of info"
            raise ValueError(
                f"data: model.{name} is on, but no training frame has a {name}; label frames with "
                f"{where} or switch it off"
            )


def group_batches(
    samples: Sequence[Sample], *, structures: int, slots: int, generator: torch.Generator | None
) -> list[list[int]]:
    """Group samples of similar neighbour counts, so that padding is small.

    Args:
        samples: All samples.
        structures: Most structures in a batch.
        slots: Most atoms x (most neighbours + 1) in a batch; a larger structure goes alone.
        generator: Shuffles first, sorts within pools of 16 batches, and shuffles the batches;
            None sorts everything.

    Returns:
        Indices of the samples of each batch; each sample occurs once.
    """
    n = len(samples)
    pool = n
    order = list(range(n))
    if generator is not None:
        order = torch.randperm(n, generator=generator).tolist()
        pool = 16 * structures
    batches: list[list[int]] = []
    for start in range(0, n, pool):
        chosen = sorted(order[start : start + pool], key=lambda k: samples[k].most_neighbors)
        batch: list[int] = []
        n_atoms = 0
        for k in chosen:
            width = samples[k].most_neighbors + 1
            n_atoms += samples[k].graph.n_atoms
            if batch and (len(batch) == structures or n_atoms * width > slots):
                batches.append(batch)
                batch, n_atoms = [], samples[k].graph.n_atoms
            batch.append(k)
        batches.append(batch)
    if generator is not None:
        batches = [batches[k] for k in torch.randperm(len(batches), generator=generator).tolist()]
    return batches


def collate(samples: Sequence[Sample], device: torch.device | str = "cpu") -> Batch:
    """Join samples into one batch on a device."""
    graphs = [sample.graph for sample in samples]
    n_atoms = torch.tensor([graph.n_atoms for graph in graphs])
    n_edges = torch.tensor([graph.n_edges for graph in graphs])
    first_atom = torch.repeat_interleave(n_atoms.cumsum(0) - n_atoms, n_edges)
    first_edge = torch.repeat_interleave(n_edges.cumsum(0) - n_edges, n_edges)
    none = torch.zeros(3, 3, dtype=torch.float64)
    graph = Graph(
        torch.cat([g.numbers for g in graphs]).to(device),
        torch.repeat_interleave(torch.arange(len(graphs)), n_atoms).to(device),
        len(graphs),
        (torch.cat([g.centers for g in graphs]) + first_atom).to(device),
        (torch.cat([g.others for g in graphs]) + first_atom).to(device),
        (torch.cat([g.reverse for g in graphs]) + first_edge).to(device),
        torch.cat([g.vectors for g in graphs]).to(device),
    )
    stresses = [none if s.stress is None else s.stress for s in samples]
    return Batch(
        graph=graph,
        energy=torch.tensor([s.energy for s in samples], dtype=torch.float64, device=device),
        forces=torch.cat([s.forces for s in samples]).to(device),
        stress=torch.stack(stresses).to(device),
        tensors={
            name: torch.stack([s.tensors.get(name, missing) for s in samples]).to(device)
            for name, missing in _MISSING.items()
        },
        has_stress=torch.tensor([s.stress is not None for s in samples], device=device),
        volumes=torch.tensor([s.volume for s in samples], dtype=torch.float64, device=device),
        n_atoms=n_atoms.to(device),
    )
