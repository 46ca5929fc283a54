"""Labelled structures with their neighbours, grouped into batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import ase
import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.engine import COINCIDENT
from ase_pet.errors import GeometryError
from ase_pet.interfaces.ase_structures import has_volume, system_from_atoms
from ase_pet.neighbors import make_search
from ase_pet.potentials.tensors import RANKS
from ase_pet.training.dataset import name_of, tensor_labels

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


def make_samples(
    frames: Iterable[ase.Atoms], cutoff: float, tensors: Collection[str] = ()
) -> list[Sample]:
    """Search the neighbours within ``cutoff`` (Å) of every frame once, and read its labels.

    Labels of dipoles and polarizabilities are read as far as ``tensors`` names them.

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
                tensors=tensor_labels(atoms, tensors, name_of(atoms, k)),
                volume=float(atoms.get_volume()) if has_volume(atoms) else 1.0,
                group=str(atoms.info.get("group", "all")),
                most_neighbors=int(torch.bincount(graph.centers, minlength=1).max()),
            )
        )
    return samples


def require_labels(samples: Sequence[Sample], tensors: Iterable[str], purpose: str) -> None:
    """Check that there is something to learn each tensor from, or to choose an epoch by.

    Raises:
        ValueError: If no frame is labelled with one of them.
    """
    for name in tensors:
        if not any(name in sample.tensors for sample in samples):
            where = "ASE's key dipole" if name == "dipole" else f"an entry {name} of info"
            raise ValueError(
                f"data: model.{name} is on, but no {purpose} frame has a {name}; label frames with "
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
