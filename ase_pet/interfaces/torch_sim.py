"""torch-sim: a batch of structures in one call, on the device where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_pet.data import System
from ase_pet.errors import GeometryError
from ase_pet.formats import Model
from ase_pet.interfaces.ase_calculator import PETCalculator

try:
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise ImportError("torch-sim is not installed; pip install 'ase_pet[torch-sim]'") from error


class TorchSimModel(ModelInterface):
    """A trained potential as torch-sim's integrators, optimisers and runners take it.

    All structures of a state are evaluated together. Positions and cells become float64 whatever
    the state holds, so that results are those of
    :class:`~ase_pet.interfaces.ase_calculator.PETCalculator`, rounded to ``dtype``.

    Args:
        model: Path, name or model, as the calculator takes it.
        dtype: Of torch-sim's states and of results; float32 resolves positions to some 1e-6 Å.
        network_dtype: ``"float32"`` or ``"float64"``, in which the network computes; ``None``
            takes the checkpoint's.
        compute_forces: Whether results hold forces.
        compute_stress: Whether results hold stresses; structures need a cell with a volume then.
        **options: All others of the calculator: ``device``, ``symmetry``, ``ensemble``, ...

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        ValueError: If an option is unknown or has a value that it cannot have.
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        dtype: torch.dtype = torch.float64,
        network_dtype: str | None = None,
        compute_forces: bool = True,
        compute_stress: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.calculator = PETCalculator(model, dtype=network_dtype, **options)
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype: expected torch.float32 or torch.float64, got {dtype}")
        if compute_stress and "stress" not in self.calculator.implemented_properties:
            raise ValueError("compute_stress: the model has no stress; set compute_stress=False")
        self._device = self.calculator.engine.device
        self._dtype = dtype
        self._compute_forces = compute_forces
        self._compute_stress = compute_stress

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Evaluate all structures of a state.

        Args:
            state: A ``SimState``, or a dictionary of what it holds: positions [n_atoms, 3] Å,
                cell [n_systems, 3, 3] Å with lattice vectors in columns, pbc, atomic_numbers
                [n_atoms] and system_idx [n_atoms].

        Returns:
            energy [n_systems] (eV), energies [n_atoms] (eV) and, where asked for, forces
            [n_atoms, 3] (eV/Å) and stress [n_systems, 3, 3] (eV/Å³, positive where the structure
            is pulled apart).

        Raises:
            GeometryError: If a structure without a volume is to have a stress, or makes no
                physical system.
            UnknownSpeciesError: If an element is not among those of the model.
            NeighborError: If the structures do not fit in memory.
        """
        system = system_from_state(state)
        volumes = system.volumes
        if self.compute_stress and not bool((volumes > 0.0).all()):
            flat = int(torch.nonzero(volumes <= 0.0)[0])
            raise GeometryError(
                f"stress: the cell of structure {flat} has no volume; set compute_stress=False"
            )
        found = self.calculator.engine(system)
        results = {"energy": found.energy, "energies": found.energies}
        if self.compute_forces:
            results["forces"] = found.forces
        if self.compute_stress:
            results["stress"] = found.virial / volumes.to(found.virial.device)[:, None, None]
        where = system.positions.device
        return {name: value.to(where, self.dtype) for name, value in results.items()}


def system_from_state(state: Any) -> System:
    """Convert a state of torch-sim, or a dictionary of what it holds, to one batch."""
    values = state if isinstance(state, dict) else vars(state)
    positions, cell = values["positions"].detach(), values["cell"].detach()
    index, cell = values.get("system_idx"), cell.reshape(-1, 3, 3).mT.contiguous()
    pbc = torch.as_tensor(values["pbc"], dtype=torch.bool, device=positions.device)
    return System(
        positions.to(torch.float64, copy=True),
        values["atomic_numbers"].to(torch.int64),
        cell.to(torch.float64),
        pbc.expand(len(cell), 3).contiguous(),
        torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
        if index is None
        else index.to(torch.int64),
    )
