"""Which ensemble and weights a structure gets where these are left open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ase_pet.ecse.settings import AUTO, PaperSettings, Settings, settings
from ase_pet.ecse.symmetrized import ENSEMBLES
from ase_pet.potentials.base import Potential, takes_positions

#: Molecules of up to so many atoms are small: smooth weights cost little there.
SMOOTH_MOLECULE = 32


class Way(NamedTuple):
    """How a structure is averaged.

    Attributes:
        ensemble: Name of the ensemble.
        weights: Name or settings of the weights.
    """

    ensemble: str
    weights: str | Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Options, and what settles those that are ``"auto"``.

    It depends on the model, the number of atoms and the periodicity alone, so that it never changes
    in a simulation, nor from one program that evaluates a structure to another.

    Attributes:
        ensemble: ``"local"``, ``"shared"``, ``"global"`` or ``"auto"``: global for long-range
            electrostatics; local for networks of one message-passing layer, but for small molecules
            where training did not make the energies of atoms invariant; shared for all others.
        weights: ``"smooth"``, ``"lean"``, ``"paper"``, settings or ``"auto"``: smooth for the local
            ensemble and small molecules, lean where the atoms of larger structures compete.
        invariant_atoms: Whether training made the energies of atoms, not only their sum, nearly
            invariant.

    Raises:
        ValueError: If an option is none of those named.
    """

    ensemble: str
    weights: str | Settings
    invariant_atoms: bool

    def __post_init__(self) -> None:
        if self.ensemble not in (*ENSEMBLES, AUTO):
            raise ValueError(
                f"ensemble: expected one of {(*ENSEMBLES, AUTO)}, got {self.ensemble!r}"
            )
        settings(self.weights)

    def ensembles(self, potential: Potential, n_atoms: int, *, periodic: bool) -> tuple[str, ...]:
        """Those that a structure may get, the first being the one that ``"auto"`` takes."""
        if self.ensemble != AUTO:
            return (self.ensemble,)
        if takes_positions(potential):
            return ("global",)
        names = ["shared", "global", "local"]
        if isinstance(settings(self.weights), PaperSettings):
            names.remove("shared")
        small = _is_small(n_atoms, periodic=periodic)
        if potential.n_layers <= 1 and (self.invariant_atoms or not small):
            names.insert(0, names.pop())
        return tuple(names)

    def way(self, potential: Potential, n_atoms: int, *, periodic: bool) -> Way:
        """Ensemble and weights for a structure.

        Args:
            potential: Without symmetry.
            n_atoms: Number of atoms.
            periodic: Whether any axis is periodic.
        """
        ensemble = self.ensembles(potential, n_atoms, periodic=periodic)[0]
        return Way(ensemble, self.weights_of(ensemble, n_atoms, periodic=periodic))

    def weights_of(self, ensemble: str, n_atoms: int, *, periodic: bool) -> str | Settings:
        """Weights for a structure in an ensemble."""
        if self.weights != AUTO:
            return self.weights
        small = _is_small(n_atoms, periodic=periodic)
        return "smooth" if small or ensemble == "local" else "lean"


def _is_small(n_atoms: int, *, periodic: bool) -> bool:
    return n_atoms <= SMOOTH_MOLECULE and not periodic
