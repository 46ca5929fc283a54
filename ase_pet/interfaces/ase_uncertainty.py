"""Uncertainties of the ASE calculator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from ase_pet.committee import Committee, CommitteeEngine
from ase_pet.data import System
from ase_pet.engine import Engine
from ase_pet.formats import Model
from ase_pet.interfaces.ase_models import WHICH
from ase_pet.interfaces.ase_structures import given_or_last
from ase_pet.uncertainty import Uncertainty, last_layer_uncertainty


class WithUncertainty:
    """What the calculator says of its own errors."""

    model: Model | Committee
    atoms: Atoms | None
    parameters: dict[str, Any]
    _warned: float | None = None

    @property
    def engine(self) -> Engine | CommitteeEngine:
        """What evaluates."""
        raise NotImplementedError

    def system_of(self, structures: Sequence[Atoms]) -> System:
        """Checked structures as the engine takes them."""
        raise NotImplementedError

    def uncertainty(
        self, atoms: Atoms | None = None, *, forces: bool = False, kind: str | None = None
    ) -> Uncertainty:
        r"""Standard deviations of energy, forces and stress; they do not change under rotations.

        * ``"llpr"``: from the features of the last layer and their covariance in training,
          calibrated (last-layer prediction rigidity).
        * ``"ensemble"``: spread of an ensemble of last layers, with n - 1 below the squares.
        * ``"committee"``: likewise, of the models of a committee.

        The energy takes one evaluation without gradients. Forces and stress take one backward pass
        for each feature of the last layer with ``"llpr"``, or each member of an ``"ensemble"``, and
        such a pass 0.5 to 0.7 of the time of an evaluation. All of a committee comes at once,
        with no cost where the structure was evaluated last.

        Args:
            atoms: The structure; by default the one that was evaluated last.
            forces: Whether forces and stress are wanted, exact derivatives of every projection.
            kind: Which, of a model that has several; by default the first of those above.

        Returns:
            One number for the energy (eV), each atom's energy (eV), the force on each atom (eV/Å)
            and the stress (eV/Å³); ``per_atom`` is compared with ``uncertainty_threshold``.

        Raises:
            PropertyNotImplementedError: If the model has no uncertainty.
            ValueError: If it has not this kind, or no structure is given and none was evaluated.
            GeometryError: If there are no atoms, or they make no physical system.
            UnknownSpeciesError: If an element is not among those of the model.
            NeighborError: If the structure does not fit in memory.
        """
        structure = given_or_last(atoms, self.atoms)
        kinds = self.model.uncertainties
        if not kinds:
            raise PropertyNotImplementedError(f"uncertainty: this model has none; {WHICH}")
        kind = kinds[0] if kind is None else kind
        if kind not in kinds:
            raise ValueError(f"kind: this model has {' and '.join(kinds)}, got {kind!r}")
        system = self.system_of([structure])
        if isinstance(self.engine, CommitteeEngine):
            return self.engine.uncertainty(system)
        assert isinstance(self.model, Model)
        layer = self.model.uncertainty
        assert layer is not None
        return last_layer_uncertainty(self.engine, layer, system, kind, forces=forces)

    def warn_if_uncertain(self, atoms: Atoms) -> None:
        """Warn, once for each value of ``uncertainty_threshold``, of a structure beyond it."""
        threshold = self.parameters["uncertainty_threshold"]
        if threshold is None or self._warned == threshold:
            return
        found = self.uncertainty(atoms).per_atom
        if found > threshold:
            self._warned = threshold
            warnings.warn(
                f"the uncertainty of the energy, {found:.3g} eV an atom, is above "
                f"uncertainty_threshold={threshold:g}: the model may not know structures like "
                "this one. calc.uncertainty(atoms) says more; there will be no further warning",
                stacklevel=2,
            )
