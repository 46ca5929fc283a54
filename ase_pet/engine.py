"""System -> Results: neighbour search, device, dtype, symmetrisation, derivatives."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from ase_pet.data import Graph, Results, System
from ase_pet.derivatives import evaluate, results
from ase_pet.ecse import Cost, Mirrored, Settings, Symmetrized, cost
from ase_pet.ecse.choice import Choice, Way
from ase_pet.ecse.settings import AUTO
from ase_pet.ecse.symmetrized import SYMMETRIES
from ase_pet.errors import GeometryError, NeighborError
from ase_pet.neighbors import VerletSkin, is_out_of_memory, make_search
from ase_pet.potentials.base import check_state, takes_charge, takes_spin, with_splines
from ase_pet.potentials.compiled import Compiled
from ase_pet.potentials.direct import Direct, direct_heads, direct_results
from ase_pet.potentials.species import symbols
from ase_pet.potentials.total import Total

#: Atoms closer than this (Å) are the same atom twice, not a structure.
COINCIDENT = 1e-3
#: Atoms of a batch that are evaluated together.
_BATCH_ATOMS = 4096
#: Derivatives of the energy, or what heads of the network say.
FORCES = ("conservative", "direct")
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def resolve_device(name: str) -> torch.device:
    """Device from its name; ``"auto"`` is a GPU where one can be used.

    Raises:
        ValueError: If the name is unknown or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', got {name!r}"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: {name!r} asked for, but {torch.cuda.device_count()} CUDA device(s) are "
            "usable here; use device='cpu' or 'auto', or install a CUDA build of torch"
        )
    return device


def resolve_dtype(name: str) -> torch.dtype:
    """Floating-point type from its name.

    Raises:
        ValueError: If it is neither ``"float32"`` nor ``"float64"``.
    """
    if name not in _DTYPES:
        raise ValueError(f"dtype: expected 'float32' or 'float64', got {name!r}")
    return _DTYPES[name]


class Engine:
    """Evaluates batches of structures with one potential.

    Args:
        potential: The bare potential; it is copied, not changed.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        dtype: In which the network computes; geometry, frames and sums are float64 always.
        symmetry: ``"O(3)"``, ``"SO(3)"`` or ``None`` for the bare backbone. A backbone that is
            invariant by construction is taken as it is, without rotated copies.
        ensemble: ``"local"``, ``"shared"``, ``"global"`` or ``"auto"``, see
            :class:`~ase_pet.ecse.choice.Choice`; without copies there is none.
        weights: ``"smooth"``, ``"lean"``, ``"paper"``, settings or ``"auto"``, likewise.
        neighbors: Neighbour search, see :func:`ase_pet.neighbors.make_search`.
        skin: Å by which the neighbour list is larger than needed, to be reused between steps.
        memory_budget: Bytes for the rotated copies that are evaluated together.
        invariant_atoms: Whether training made the energies of atoms, not only their sum, nearly
            invariant (one random rotation an atom); ``"auto"`` needs to know.
        charge: Total charge of each structure that has none of its own, e; only for models that
            were trained with one.
        spin: Likewise its spin multiplicity, 2S + 1.
        splines: Take functions of distances from splines; only for models that have some.
        forces: ``"conservative"``, the derivatives of the energy, or ``"direct"``, those of heads;
            only for models that have some.
        compile: Let ``torch.compile`` make kernels of the network.

    Raises:
        ValueError: If an option has a value that is not named here, or a charge, spin, splines,
            direct forces or compilation are asked of a model without them.
    """

    def __init__(
        self,
        potential: Total,
        *,
        device: str = "auto",
        dtype: str = "float64",
        symmetry: str | None = "O(3)",
        ensemble: str = "auto",
        weights: str | Settings = AUTO,
        neighbors: str = "auto",
        skin: float = 0.5,
        memory_budget: int = 2_000_000_000,
        invariant_atoms: bool = True,
        charge: float = 0.0,
        spin: float = 1.0,
        splines: bool = False,
        forces: str = "conservative",
        compile: bool = False,  # noqa: A002
    ) -> None:
        _check_options(symmetry, forces, skin)
        self.choice = Choice(ensemble=ensemble, weights=weights, invariant_atoms=invariant_atoms)
        check_state(potential.backbone, charge, spin)
        self.charge, self.spin = float(charge), float(spin)
        self.device = resolve_device(device)
        self.dtype = dtype
        self.symmetry = symmetry
        bare = copy.deepcopy(potential).to(self.device, resolve_dtype(dtype)).eval()
        self.bare = bare.requires_grad_(False)
        if splines:
            self.bare.backbone = with_splines(self.bare.backbone)
        if compile:
            self.bare.backbone = Compiled(self.bare.backbone)
        if neighbors == "auto" and math.isinf(self.bare.cutoff):
            neighbors = "cell_list"  # others become slow where boxes are long and empty
        self.search = make_search(neighbors, device=str(self.device))
        self.skinned = VerletSkin(self.search, skin)
        self.copies = symmetry is not None and self.bare.backbone.symmetry is None
        self.forces = forces
        self.has_stress = forces == "conservative" or "stress" in direct_heads(self.bare.backbone)
        self.memory_budget = memory_budget
        self._totals: dict[Way | None, Total] = {None: self._unaveraged()}
        self.total(self.way(1, periodic=True))  # refuses options that do not go together

    def _unaveraged(self) -> Total:
        """What is evaluated where no rotated copies are made, and in each of them."""
        backbone = self.bare.backbone
        if self.forces == "direct":
            backbone = Direct(backbone, oriented=self.copies)
        if self.symmetry == "O(3)" and backbone.symmetry == "SO(3)":
            backbone = Mirrored(backbone)
        return Total(backbone, self.bare.composition, self.bare.zbl)

    def ensemble(self, n_atoms: int, *, periodic: bool) -> str | None:
        """Name of the ensemble of a structure; ``None`` where no rotated copies are made."""
        way = self.way(n_atoms, periodic=periodic)
        return way and way.ensemble

    def way(self, n_atoms: int, *, periodic: bool) -> Way | None:
        """Ensemble and weights for one structure; ``None`` if no rotated copies are made."""
        return self.choice.way(self.bare, n_atoms, periodic=periodic) if self.copies else None

    def total(self, way: Way | None) -> Total:
        """The potential that is evaluated for a choice of ensemble and weights."""
        if way not in self._totals:
            assert way is not None
            inside = self._totals[None]
            averaged = Symmetrized(
                inside.backbone,
                symmetry=str(self.symmetry),
                ensemble=way.ensemble,
                weights=way.weights,
                memory_budget=self.memory_budget,
            )
            self._totals[way] = Total(averaged, inside.composition, inside.zbl)
        return self._totals[way]

    def costs(self, system: System) -> dict[str | None, Cost]:
        """What each ensemble takes for a structure, ``None`` being the network as it is.

        Coordinate systems are made, but no network is evaluated.
        """
        graph = self.graph(system)
        found: dict[str | None, Cost] = {None: cost(self.bare.backbone, graph)}
        periodic = bool(system.pbc.any())
        names = self.choice.ensembles(self.bare, system.n_atoms, periodic=periodic)
        for name in names if self.copies else ():
            weights = self.choice.weights_of(name, system.n_atoms, periodic=periodic)
            found[name] = cost(self.total(Way(name, weights)).backbone, graph)
        return found

    def graph(self, system: System, names: Sequence[int] | None = None) -> Graph:
        """Neighbour list and edge vectors (Å, float64) of a batch.

        Args:
            system: The structures.
            names: Their numbers in messages, where they are part of a larger batch.

        Raises:
            GeometryError: If two atoms coincide, or the model is not defined for these axes of
                periodicity.
            NeighborError: If the list does not fit in memory.
        """
        if math.isinf(self.bare.cutoff) and bool(system.pbc.any()):
            raise GeometryError(
                "pbc: the model has an energy between all atoms, however distant, and is defined "
                "for finite structures only; set pbc=False or load another model"
            )
        system = self._with_state(system.to(self.device))
        if system.n_systems == 1:
            edges, vectors = self.skinned.measured(system, self._reach(system))
        else:
            edges, vectors = self.search(system, self._reach(system)), None
        graph = Graph.build(system, edges, vectors, whole=self.bare.takes_positions)
        distances = torch.linalg.vector_norm(graph.vectors, dim=1)
        if edges.n_edges and float(distances.amin()) < COINCIDENT:
            e = int(torch.nonzero(distances < COINCIDENT)[0, 0])
            i, j = int(edges.centers[e]), int(edges.others[e])
            k, first = system.structure_of(i)
            where = "" if names is None else f"structure {names[k]}, "
            raise GeometryError(
                f"positions: {where}atoms {i - first} and {j - first} "
                f"({symbols(system.numbers[[i, j]].tolist())}) are "
                f"{float(graph.vectors[e].norm()):.1e} Å apart (periodic image "
                f"{edges.shifts[e].tolist()}); remove one of them or correct the cell"
            )
        return graph

    def _with_state(self, system: System) -> System:
        """The same structures with charges and multiplicities, if these matter.

        Raises:
            ValueError: If the model was trained without them and a structure has one.
        """
        full = system.cell.new_full
        shape, charge, spin = (system.n_systems,), system.charge, system.spin
        if charge is None and self.charge:
            charge = full(shape, self.charge)
        if spin is None and self.spin != 1.0:
            spin = full(shape, self.spin)
        if charge is None and spin is None:
            return system
        for q in [] if charge is None else charge.tolist():
            check_state(self.bare.backbone, q, 1.0)
        for m in [] if spin is None else spin.tolist():
            check_state(self.bare.backbone, 0.0, m)
        return replace(
            system,
            charge=charge if takes_charge(self.bare.backbone) else None,
            spin=spin if takes_spin(self.bare.backbone) else None,
        )

    def _reach(self, system: System) -> float:
        """Cutoff of the neighbour list, Å; if all atoms are neighbours, enough for this batch.

        It is rounded up to a power of two, so that a list serves several steps.
        """
        if math.isfinite(self.bare.cutoff) or not system.n_atoms:
            return self.bare.cutoff
        atoms = torch.bincount(system.system_index, minlength=system.n_systems).tolist()
        parts = [part for part in torch.split(system.positions, atoms) if len(part)]
        extent = max(float((part.amax(0) - part.amin(0)).norm()) for part in parts)
        return float(2.0 ** math.ceil(math.log2(extent + 1.0)))

    def __call__(self, system: System) -> Results:
        """Evaluate a batch of structures.

        Raises:
            GeometryError: If two atoms coincide or the model's answer is not finite.
            NeighborError: If the neighbour list or the network does not fit in memory.
            UnknownSpeciesError: If an element is not among those of the model.
            ValueError: If a charge or multiplicity is none that the model takes.
        """
        counts, periodic = system.counts, [any(axes) for axes in system.pbc.tolist()]
        choices = [self.way(n, periodic=p) for n, p in zip(counts, periodic, strict=True)]
        batches = _batches(counts, choices)
        with torch.inference_mode(False):  # which a caller may be in, and nothing would be derived
            parts = [self._evaluate(system, batch, choices[batch[0]]) for batch in batches]
            return _merge(parts, batches, counts)

    def _evaluate(self, system: System, batch: list[int], choice: Way | None) -> Results:
        names = batch if system.n_systems > 1 else None
        graph = self.graph(system.select(batch), names)
        try:
            total = self.total(choice)
            direct = self.forces == "direct"
            out = direct_results(total, graph) if direct else results(evaluate(total, graph), graph)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise NeighborError(
                f"not enough memory for {graph.n_atoms} atoms with {graph.n_edges} neighbour "
                "pairs; lower memory_budget, use dtype='float32' or a smaller structure"
            ) from error
        bad = out.first_not_finite(graph.system_index, virial=self.has_stress)
        if bad is not None:
            where = f" of structure {names[bad]}" if names else ""
            raise GeometryError(
                f"the model's results{where} are not finite; check it for atoms that "
                "are far too close, or use dtype='float64'"
            )
        return out


def _check_options(symmetry: str | None, forces: str, skin: float) -> None:
    if symmetry is not None and symmetry not in SYMMETRIES:
        raise ValueError(
            f"symmetry: expected one of {SYMMETRIES} or None (bare model), got {symmetry!r}"
        )
    if forces not in FORCES:
        raise ValueError(f"forces: expected one of {FORCES}, got {forces!r}")
    if not 0.0 <= skin < float("inf"):
        raise ValueError(f"skin: expected a finite length in Å, at least 0, got {skin}")


def _batches(counts: Sequence[int], choices: Sequence[Way | None]) -> list[list[int]]:
    """Group structures that share an ensemble, up to a number of atoms each."""
    batches: list[list[int]] = []
    for choice in dict.fromkeys(choices):
        filled = _BATCH_ATOMS + 1
        for k, n_atoms in enumerate(counts):
            if choices[k] != choice:
                continue
            if filled + n_atoms > _BATCH_ATOMS:
                batches.append([])
                filled = 0
            batches[-1].append(k)
            filled += n_atoms
    return batches


def _merge(parts: list[Results], batches: list[list[int]], counts: Sequence[int]) -> Results:
    """Put the results of batches back into the order of the structures."""
    if len(parts) == 1:
        return parts[0]
    order = torch.tensor([k for batch in batches for k in batch])
    sizes = torch.tensor(counts)[order]
    owner = torch.repeat_interleave(order, sizes)
    by_atom = torch.argsort(owner, stable=True).to(parts[0].energies.device)
    by_system = torch.argsort(order).to(parts[0].energy.device)
    return Results(
        torch.cat([p.energies for p in parts])[by_atom],
        torch.cat([p.forces for p in parts])[by_atom],
        torch.cat([p.virials for p in parts])[by_atom],
        torch.cat([p.energy for p in parts])[by_system],
        torch.cat([p.virial for p in parts])[by_system],
        {k: torch.cat([p.tensors[k] for p in parts])[by_system] for k in parts[0].tensors},
    )
