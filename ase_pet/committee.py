"""Several models that answer together: means, and their spread as the uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from ase_pet.data import Results, System
from ase_pet.engine import Engine
from ase_pet.formats import Model
from ase_pet.uncertainty import Uncertainty


@dataclass(frozen=True, slots=True, eq=False)
class Committee:
    """Models of one energy, of any architectures.

    They answer for the elements, and with the tensors, that all of them know.

    Attributes:
        members: At least two.

    Raises:
        ValueError: If there are fewer, they share no element, or say that they were trained on
            different levels of theory.
    """

    members: tuple[Model, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ValueError(
                f"committee: expected at least 2 models, got {len(self.members)}; a model alone "
                "is given without a list"
            )
        if not self.species:
            raise ValueError(
                "committee: the models have no element in common; give models of the same elements"
            )
        stated = (model.metadata.get("level_of_theory") for model in self.members)
        theories = sorted({str(theory) for theory in stated if theory is not None})
        if len(theories) > 1:
            raise ValueError(
                f"committee: the models were trained on different levels of theory, {theories}, "
                "whose energies cannot be averaged; if these are the same, write it alike in all "
                "with `ase-pet convert --note level_of_theory=...`"
            )

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that all know, sorted."""
        return tuple(sorted(set.intersection(*(set(m.species) for m in self.members))))

    @property
    def tensors(self) -> tuple[str, ...]:
        """What all predict beside energies."""
        first, *others = self.members
        return tuple(name for name in first.tensors if all(name in m.tensors for m in others))

    @property
    def direct(self) -> tuple[str, ...]:
        """What all have heads for: "forces", "stress" or nothing."""
        first, *others = self.members
        return tuple(name for name in first.direct if all(name in m.direct for m in others))

    @property
    def uncertainties(self) -> tuple[str, ...]:
        """Kinds of uncertainty that it has: "committee"."""
        return ("committee",)

    @property
    def path(self) -> str:
        """Where they were read from."""
        return ", ".join(model.path for model in self.members)

    @property
    def sha256(self) -> str:
        """Fingerprints of their files."""
        return ", ".join(model.sha256 for model in self.members)


class CommitteeEngine:
    """Evaluates structures with several engines and averages.

    Args:
        engines: At least two, on one device.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = tuple(engines)
        self.device = self.engines[0].device
        self._last: tuple[System, list[Results]] | None = None

    @property
    def dtype(self) -> str | None:
        """In which the networks compute; None if they differ."""
        found = {engine.dtype for engine in self.engines}
        return found.pop() if len(found) == 1 else None

    def ensemble(self, n_atoms: int, *, periodic: bool) -> str | None:
        """Ensembles of the members that make rotated copies; several are joined by "and"."""
        names = {engine.ensemble(n_atoms, periodic=periodic) for engine in self.engines}
        return " and ".join(sorted(name for name in names if name is not None)) or None

    def members(self, system: System) -> list[Results]:
        """Results of each member; those of the last batch are kept.

        Raises:
            GeometryError: As an engine does, with NeighborError and UnknownSpeciesError.
        """
        if self._last is None or not _same(self._last[0], system):
            self._last = (system.copy(), [engine(system) for engine in self.engines])
        return self._last[1]

    def __call__(self, system: System) -> Results:
        """Means over the members, with the tensors that all predict."""
        found = self.members(system)
        names = [name for name in found[0].tensors if all(name in r.tensors for r in found)]
        means = {
            field.name: torch.stack([getattr(r, field.name) for r in found]).mean(0)
            for field in fields(Results)
            if field.name != "tensors"
        }
        tensors = {k: torch.stack([r.tensors[k] for r in found]).mean(0) for k in names}
        return Results(**means, tensors=tensors)

    def uncertainty(self, system: System) -> Uncertainty:
        r"""Spread of the members for one structure, with n - 1 below the squares.

        .. math:: \sigma^2 = \frac{1}{n-1} \sum_m \|x_m - \bar x\|^2

        Costs nothing if the structure was evaluated last.
        """
        found, volume = self.members(system), float(system.volumes[0])

        def spread(name: str) -> np.ndarray:
            values = torch.stack([getattr(r, name) for r in found])
            return values.var(0).sum(-1).sqrt().cpu().numpy()

        energy = torch.stack([r.energy for r in found]).std(0)
        virial = float(torch.stack([r.virial for r in found]).var(0).sum().sqrt())
        known = volume > 0 and not math.isnan(virial)  # which direct forces without a stress are
        return Uncertainty(
            "committee",
            system.n_atoms,
            float(energy),
            forces=spread("forces"),
            stress=virial / volume if known else None,
        )


def _same(one: System, other: System) -> bool:
    """Whether two batches are equal in every number."""
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(System)]
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)
