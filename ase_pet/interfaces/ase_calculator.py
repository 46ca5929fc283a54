"""The ASE calculator: Atoms in, ASE's result names and units out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from ase_pet.committee import Committee, CommitteeEngine
from ase_pet.data import System
from ase_pet.ecse import Settings
from ase_pet.ecse.settings import describe
from ase_pet.engine import Engine
from ase_pet.errors import UnknownSpeciesError
from ase_pet.formats import Model
from ase_pet.interfaces.ase_models import make_engine, read_models
from ase_pet.interfaces.ase_plugin import NAME, registered
from ase_pet.interfaces.ase_structures import (
    ase_results,
    changes_between,
    given_or_last,
    is_structure,
    require_atoms,
    require_finite,
    require_volume,
    system_from_atoms,
)
from ase_pet.interfaces.ase_uncertainty import WithUncertainty
from ase_pet.interfaces.calculator_options import STATE, properties_of, state_of, with_state
from ase_pet.potentials.species import symbols


@registered
class PETCalculator(WithUncertainty, Calculator):
    """A trained potential, made exactly equivariant, for every tool that speaks ASE.

    Energies, forces and stress come from one evaluation and are exact derivatives of one energy
    (unless ``forces="direct"``). Models trained on them give ``atoms.get_dipole_moment()`` and
    :meth:`get_polarizability` of molecules, which turn with the molecule exactly. Committees, and
    models with a calibrated last layer, say how far they may be off: :meth:`uncertainty`.

    The ensemble says which coordinate systems serve which atoms:

    * ``"local"``: those of an atom's own environment serve that atom. Right for one
      message-passing layer; the cost grows fast with more, because the environment does.
    * ``"shared"``: those of nearby atoms compete, and the winners serve all around. The cost grows
      with the number of layers much more slowly, and with smooth weights energies shift least.
    * ``"global"``: those of all atoms compete, and the winners serve the whole structure: few
      evaluations of small ones, but what is far away takes part in choosing them, so that energies
      of different structures compare less well.
    * ``"auto"``: local for models of one message-passing layer, but for molecules of up to 32 atoms
      where training is known not to have made energies of atoms invariant; global for models with
      long-range electrostatics, which reach beyond any environment; shared for all others.
      :attr:`ensemble` tells what was chosen.

    Local and shared ensembles of one kind of weights are size-consistent: two distant fragments do
    not feel each other. All are exactly equivariant and conserve energy. ``symmetry=None`` is the
    network as it was trained: fastest, and its results change a little as the structure turns.

    Weights of coordinate systems are ``"smooth"``: many of them, gentle forces; ``"lean"``: few of
    them, for models whose total energies are nearly invariant already; ``"paper"``: those of the
    original code; or settings of one's own. ``"auto"`` is smooth for the local ensemble and for
    molecules of up to 32 atoms, and lean otherwise; name one to compare energies across that line.

    Args:
        model: Path of a checkpoint in any supported format, or a loaded :class:`Model`; of a list
            of them, a committee, results are the means.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        dtype: ``"float32"`` or ``"float64"``, in which the network computes; ``None`` takes the
            checkpoint's. Geometry, coordinate systems and sums are in float64 always.
        symmetry: ``"O(3)"`` for rotations and reflections, ``"SO(3)"`` for rotations alone, or
            ``None``. Models that are invariant by construction, such as TensorNet, are evaluated
            once, without coordinate systems.
        ensemble: ``"auto"``, ``"local"``, ``"shared"`` or ``"global"``, see above.
        weights: ``"auto"``, ``"smooth"``, ``"lean"``, ``"paper"`` or settings, see above.
        neighbors: ``"auto"``, ``"torch_cluster"``, ``"vesin"``, ``"cell_list"``, ``"brute_force"``.
        skin: Å by which neighbour lists are larger than needed, to be reused between steps.
        memory_budget: Memory for copies evaluated together, as bytes or like ``"500MB"``.
        charge: Total charge of the structure, e, for models that were trained with one;
            ``atoms.info["charge"]`` goes before it.
        spin: Likewise its spin multiplicity, 2S + 1; ``atoms.info["spin_multiplicity"]`` and
            ``atoms.info["spin"]`` go before it.
        splines: Take a TensorNet's functions of distances from splines: up to 1.7 times as fast
            where it is wide. In float64 energies are some 1e-11 eV an atom and forces some
            1e-7 eV/Å beside those without, in float32 the difference is rounding.
        forces: ``"conservative"``, the derivatives of the energy, or ``"direct"``: forces and
            stress from heads that some PETs of metatrain have, equivariant likewise. Nothing is
            differentiated, which is faster, and they are the derivatives of no energy: dynamics
            does not conserve one, and relaxations may not converge tightly (``docs/pet.md``).
        compile: Let ``torch.compile`` make kernels of the network, CUDA graphs on a GPU. For GPUs
            and long runs: the first evaluation takes a minute or more, once for all sizes, and a
            C++ compiler; ``docs/compile.md`` says what a CPU gains.
        target: Which energy of a model that was trained on several: a name (metatrain) or a number
            (original PET). It is chosen when the file is read, for good.
        uncertainty_threshold: Warn once when the uncertainty of an atom's energy, or of a
            committee's energy per atom, is above this, eV; costs a forward pass a structure,
            for a committee nothing in MD.

    Attributes:
        model: The checkpoint, bare, with its metadata; or the committee.

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        ValueError: If an option has a value that is not named here, or is given to a model that
            has no use for it.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]  # noqa: RUF012
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012
    discard_results_on_any_change = True
    nolabel = True  # for ase run

    def __init__(
        self,
        model: str | Path | Model | Committee | Sequence[str | Path | Model],
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype | None = None,
        symmetry: str | None = "O(3)",
        ensemble: str = "auto",
        weights: str | Settings = "auto",
        neighbors: str = "auto",
        skin: float = 0.5,
        memory_budget: int | str = "2GB",
        charge: float = 0.0,
        spin: float = 1.0,
        splines: bool = False,
        forces: str = "conservative",
        compile: bool = False,  # noqa: A002
        target: int | str | None = None,
        uncertainty_threshold: float | None = None,
    ) -> None:
        self.model = read_models(model, target)
        self._engine: Engine | CommitteeEngine | None = None
        self._polarizability: np.ndarray | None = None
        super().__init__(
            device=device,
            dtype=dtype,
            symmetry=symmetry,
            ensemble=ensemble,
            weights=weights,
            neighbors=neighbors,
            skin=skin,
            memory_budget=memory_budget,
            charge=charge,
            spin=spin,
            splines=splines,
            forces=forces,
            compile=compile,
            target=target,
            uncertainty_threshold=uncertainty_threshold,
        )

    def set(self, **options: Any) -> dict[str, Any]:
        """Change options of the constructor; results are discarded.

        Returns:
            The options that changed.

        Raises:
            ValueError: If an option or its value is unknown; nothing has changed then.
        """
        known = PETCalculator.__init__.__kwdefaults__ or {}
        unknown = sorted(options.keys() - known.keys())
        if unknown:
            raise ValueError(f"unknown option(s) {unknown}; expected some of {list(known)}")
        chosen = self.parameters.get("target", options.get("target"))
        if options.get("target", chosen) != chosen:
            raise ValueError("target: chosen when the model is read; make a new calculator")
        every = {**self.parameters, **options}
        self._engine = make_engine(self.model, every)
        self.implemented_properties = properties_of(self.model, every["forces"])
        changed: dict[str, Any] = super().set(**options)
        return changed

    @property
    def _state(self) -> dict[str, float]:
        """Charge and spin of structures that have none of their own."""
        return {name: float(self.parameters[name]) for name in STATE}

    @property
    def engine(self) -> Engine | CommitteeEngine:
        """What evaluates; it is built again after unpickling."""
        if self._engine is None:
            self._engine = make_engine(self.model, self.parameters)
        return self._engine

    @property
    def ensemble(self) -> str | None:
        """The ensemble of the structure that ASE had evaluated last.

        ``None`` where no rotated copies are made; ``"auto"`` before the first evaluation where
        it depends on the structure.
        """
        ask = self.engine.ensemble
        if self.atoms is not None:
            return ask(len(self.atoms), periodic=bool(self.atoms.pbc.any()))
        smallest, cell = ask(1, periodic=False), ask(1, periodic=True)
        return smallest if smallest == cell else "auto"

    def set_atoms(self, atoms: Atoms) -> None:
        """Check the elements; ASE calls it when the calculator is attached.

        Raises:
            UnknownSpeciesError: If an element is not among those of the model.
        """
        unknown = sorted(set(atoms.numbers.tolist()) - set(self.model.species))
        if unknown:
            raise UnknownSpeciesError(
                f"atoms: the model does not know {symbols(unknown)}; it was trained on "
                f"{symbols(self.model.species)}. Remove these atoms or load a model that knows "
                "them"
            )

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last evaluation; charge and spin in ``atoms.info`` count."""
        if self.atoms is None:
            return list(all_changes)
        changes = changes_between(atoms, self.atoms, tol)
        if any(
            state_of(atoms, name, default) != state_of(self.atoms, name, default)
            for name, default in self._state.items()
        ):
            changes.append("info")
        return changes

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """One result, evaluated if need be; ASE's methods ask for theirs here.

        Raises:
            PropertyNotImplementedError: If the model does not give it.
        """
        if name in ("stress", "stresses") and name not in self.implemented_properties:
            raise PropertyNotImplementedError(
                f"{name}: the model has no head for it; set(forces='conservative') has it as a "
                "derivative of the energy"
            )
        return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate one structure; all properties come at once.

        Raises:
            PropertyNotImplementedError: If stress is asked for a cell without a volume, or a
                dipole of a periodic structure.
            GeometryError: If there are no atoms, or they make no physical system.
            UnknownSpeciesError: If an element is not among those of the model.
            NeighborError: If the structure does not fit in memory.
        """
        structure = given_or_last(atoms, self.atoms)
        require_atoms(structure)
        if "dipole" in properties:
            self._require_tensor("dipole", structure)
        if {"stress", "stresses"} & set(properties):
            require_volume(structure)
        self.results = {}  # those of an earlier structure must not pass for this one's
        super().calculate(structure, list(properties), list(system_changes))
        found = self.compute([structure])[0]
        self._polarizability = found.pop("polarizability", None)  # ASE has no such property
        self.results = found

    def get_polarizability(self, atoms: Atoms | None = None) -> np.ndarray:
        """Static polarizability [3, 3], e²Å²/eV; times 14.39964 it is in Å³.

        Args:
            atoms: The structure; by default the one that was evaluated last.

        Raises:
            PropertyNotImplementedError: If the model does not predict it, or the structure is
                periodic.
        """
        if atoms is not None:
            require_atoms(atoms)
        self._require_tensor("polarizability", atoms)
        self.get_property("energy", atoms)
        return np.array(self._polarizability)

    def _require_tensor(self, name: str, atoms: Atoms | None) -> None:
        """Check that a tensor can be given for a structure."""
        if name not in self.model.tensors:
            raise PropertyNotImplementedError(
                f"{name}: the model does not predict it; load one that was trained on it"
            )
        atoms = self.atoms if atoms is None else atoms
        if atoms is not None:
            require_finite(atoms, name)

    def compute(self, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
        """Evaluate structures together, which is faster than one after the other if they are small.

        Args:
            structures: Any structures, different in size and cell.

        Returns:
            For each: energy and free_energy (eV), energies [n] (eV), forces [n, 3] (eV/Å) and,
            where the cell has a volume, stress [6] and stresses [n, 6] (eV/Å³, ASE's sign and
            Voigt order; the stresses of the atoms add up to the stress, and there are none with
            direct forces). From models that predict them, for structures that are not periodic:
            dipole [3] (e·Å) and polarizability [3, 3] (e²Å²/eV). ASE's own results stay.

        Raises:
            TypeError: If something is no ``Atoms``.
            GeometryError: If a structure has no atoms, or they make no physical system.
            UnknownSpeciesError: If an element is not among those of the model.
            NeighborError: If the structures do not fit in memory.
            ValueError: If a charge or multiplicity is none that the model takes.
        """
        if is_structure(structures):
            raise TypeError("structures: expected a list of Atoms, got Atoms; write [atoms]")
        structures = list(structures)
        if not structures:
            return []
        results = self.engine(self.system_of(structures))
        for atoms in structures:
            self.warn_if_uncertain(atoms)
        return ase_results(results, structures)

    def system_of(self, structures: Sequence[Atoms]) -> System:
        """Structures as the engine takes them, their elements checked, with charges and spins."""
        for atoms in structures:
            require_atoms(atoms)
            self.set_atoms(atoms)
        return with_state(system_from_atoms(structures), structures, self._state)

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """The checkpoint's path and sha256, and all options, for databases and trajectories."""
        options = dict(self.parameters)
        options["device"], options["dtype"] = str(self.engine.device), self.engine.dtype
        if not isinstance(options["weights"], str):
            options["weights"] = describe(options["weights"])
        return {"checkpoint": self.model.path, "sha256": self.model.sha256, **options}

    def _get_name(self) -> str:
        return NAME

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again: networks on their device, neighbour lists."""
        return {**self.__dict__, "_engine": None}
