"""The seam between backbones and everything above them."""

from __future__ import annotations

import math
from numbers import Real
from typing import Protocol, runtime_checkable

from torch import Tensor

from ase_pet.data import Graph


@runtime_checkable
class Potential(Protocol):
    """A function from a graph to energies of its atoms."""

    @property
    def cutoff(self) -> float:
        """Å; edges at or beyond it contribute nothing. Infinite: there are edges between all."""
        ...

    @property
    def n_layers(self) -> int:
        """Message-passing depth: the energy of an atom depends on atoms this many hops away."""
        ...

    def __call__(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, of the atoms of ``graph``, in any floating dtype.

        ``graph.vectors`` is float64; a potential casts it to the dtype that it computes in. The
        result is differentiable with respect to ``graph.vectors``.

        Raises:
            UnknownSpeciesError: If an element is not among those of the potential.
        """
        ...


@runtime_checkable
class Backbone(Potential, Protocol):
    """A trained network: a potential that knows its elements and its appetite for memory."""

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that the network knows, sorted."""
        ...

    @property
    def symmetry(self) -> str | None:
        """What leaves its energies as they are: ``"O(3)"``, ``"SO(3)"``, or nothing (``None``).

        A backbone with a symmetry of its own is never copied to give it that symmetry.
        """
        ...

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        """Estimate the bytes that one evaluation with its gradient needs.

        Args:
            n_atoms: Atoms of the graph.
            n_neighbors: The largest number of neighbours of an atom.
        """
        ...


def takes_charge(backbone: Backbone) -> bool:
    """Whether ``graph.charge`` matters to a backbone: its attribute ``takes_charge``, if any."""
    return bool(getattr(backbone, "takes_charge", False))


def takes_spin(backbone: Backbone) -> bool:
    """Whether ``graph.spin`` matters to a backbone: its attribute ``takes_spin``, if any."""
    return bool(getattr(backbone, "takes_spin", False))


def takes_positions(potential: Potential) -> bool:
    """Whether a potential needs ``graph.space``: its attribute ``takes_positions``, if any.

    Its energies reach beyond any number of hops.
    """
    return bool(getattr(potential, "takes_positions", False))


def check_state(backbone: Backbone, charge: float, spin: float) -> None:
    """Check the charge and multiplicity of a structure; the backbone knows the range of its own.

    Raises:
        ValueError: If they are none, or the backbone takes none.
    """
    for name, value in (("charge", charge), ("spin", spin)):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(f"{name}: expected a number, got {value!r}")
    if not math.isfinite(charge):
        raise ValueError(f"charge: expected a finite number, got {charge}")
    if not (math.isfinite(spin) and spin >= 1.0):
        raise ValueError(f"spin: expected a multiplicity 2S + 1 of 1 or more, got {spin}")
    if charge and not takes_charge(backbone):
        raise ValueError(
            f"charge: the model was trained without a total charge, got charge={charge:g}; "
            "leave it at 0 or load a model that takes one"
        )
    if spin != 1.0 and not takes_spin(backbone):
        raise ValueError(
            f"spin: the model was trained without a spin multiplicity, got spin={spin:g}; "
            "leave it at 1 or load a model that takes one"
        )


def columns(potential: Potential) -> tuple[int, ...]:
    """Shape of the energies of one atom: ``()``, or that of several, side by side.

    A potential of several energies names it in its attribute ``columns``.
    """
    return tuple(getattr(potential, "columns", ()))


def with_splines(backbone: Backbone) -> Backbone:
    """A copy of a backbone for evaluation, with splines for its functions of distances.

    Raises:
        ValueError: If it has none, which is to say no method ``with_splines``.
    """
    make = getattr(backbone, "with_splines", None)
    if make is None:
        raise ValueError(
            "splines: this model has no functions of distances alone, as TensorNet has; "
            "leave splines out"
        )
    splined: Backbone = make()
    return splined
