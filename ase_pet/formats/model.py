"""What a checkpoint is once it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ase_pet.potentials.direct import direct_heads
from ase_pet.potentials.last_layer import LastLayer
from ase_pet.potentials.total import Total


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A trained potential and what is known of it.

    Attributes:
        potential: The bare potential (not symmetrised), on the CPU; not to be modified, because
            several calculators may share it.
        dtype: Floating-point type of the network, "float32" or "float64".
        metadata: Plain containers: training_data, level_of_theory, licence, citation, rotations
            ("structure", "atom", "none": what was drawn at random in training), ecse, accuracy,
            source; ``None`` where unknown.
        architecture: Name of the backbone, "pet", "pet-metatrain" or "tensornet".
        path: Where it was read from; empty for a model made in memory.
        sha256: Fingerprint of the file or files it was read from; empty for a model in memory.
        self_test: A small structure with its energy, forces and stress, bare and symmetrised.
        uncertainty: What is known of the weights of its last layer, if anything.
    """

    potential: Total = field(repr=False)
    dtype: str
    metadata: dict[str, Any] = field(default_factory=dict)
    architecture: str = "pet"
    path: str = ""
    sha256: str = ""
    self_test: dict[str, Any] | None = field(default=None, repr=False)
    uncertainty: LastLayer | None = field(default=None, repr=False)

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that the model knows, sorted."""
        return self.potential.species

    @property
    def cutoff(self) -> float:
        """Å."""
        return self.potential.cutoff

    @property
    def n_layers(self) -> int:
        """Receptive field in hops."""
        return self.potential.n_layers

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it predicts beside energies: "dipole", "polarizability" or nothing."""
        return self.potential.tensors

    @property
    def direct(self) -> tuple[str, ...]:
        """What it has heads for beside the energy: "forces", "stress" or nothing."""
        return direct_heads(self.potential.backbone)

    @property
    def uncertainties(self) -> tuple[str, ...]:
        """Kinds of uncertainty that it has: "llpr", "ensemble", both or none."""
        return () if self.uncertainty is None else self.uncertainty.kinds

    @property
    def invariant_atoms(self) -> bool:
        """Whether the energies of atoms, not only their sum, count as nearly invariant.

        They do after training with one random rotation an atom, and where nothing is known.
        """
        return self.metadata.get("rotations") in ("atom", None)
