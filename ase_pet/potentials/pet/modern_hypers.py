"""Hyperparameters of the PET that metatrain trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ase_pet.potentials.hypers import check_choices, check_least, check_tokens
from ase_pet.potentials.pet.adaptive import FIRST, SPACING

#: Direct predictions and their number of components.
DIRECT = {"forces": 3, "stress": 9}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModernPETHypers:
    """Hyperparameters of a :class:`~ase_pet.potentials.pet.ModernPET`.

    Attributes:
        cutoff: Å; with ``n_neighbors``, the largest that an atom may have.
        cutoff_width: Å, the range below the cutoff in which a neighbour fades.
        cutoff_function: How it fades.
        n_neighbors: Number of neighbours to which the cutoff of each atom adapts; 0: the cutoff is
            the same for all.
        adaptive_width: Å, the range in which a neighbour ceases to be counted.
        adaptive_method: How the cutoffs are found, see :mod:`ase_pet.potentials.pet.adaptive`.
        d_model: Width of edge tokens.
        d_node: Width of central tokens.
        n_heads: Attention heads; divides ``d_model``.
        d_feedforward: Width inside the perceptron of edge tokens.
        n_message_layers: Message-passing layers.
        n_attention_layers: Transformer blocks in each of them.
        head_width: Width of the heads.
        normalization: Kind of the norms in transformer blocks. RMSNorm adds the resolution of the
            dtype that the network computes in to the mean square, as the original does: a network
            trained in single precision changes a little (1e-6 eV an atom) in double precision.
        activation: Of the perceptrons in transformer blocks; elsewhere it is SiLU.
        transformer: Norm before (PreLN) or after (PostLN) each part of a block.
        messages: ``"feedforward"``: one stream of nodes and edges through all layers, read at the
            end. ``"residual"``: each layer begins with fresh nodes, and is read.
        temperature: Divides the scores of attention.
        conditioning: Whether the total charge and the spin multiplicity matter.
        max_charge: Largest total charge of either sign, e.
        max_spin: Largest multiplicity, 2S + 1.
        long_range: Whether nodes see the potentials of charges that are made of them, in the whole
            structure; see :mod:`ase_pet.potentials.electrostatics`.
        smearing: Å, width of these charges.
        mesh_spacing: Å, of the mesh on which they are summed, times two.
        mesh_nodes: Points of the mesh along each axis over which a charge is spread, 1 to 5.
        energy_scale: Multiplies all energies, eV.
        forces_scales: Multiplies direct forces, eV/Å, for each element in the order of atomic
            numbers; empty: there are no heads for them.
        stress_scales: Likewise for a direct stress, eV.

    Raises:
        ValueError: If a value is out of its range or none of those named.
    """

    cutoff: float = 4.5
    cutoff_width: float = 0.5
    cutoff_function: Literal["Bump", "Cosine"] = "Bump"
    n_neighbors: float = 0.0
    adaptive_width: float = 1.0
    adaptive_method: Literal["solver", "grid"] = "solver"
    d_model: int = 128
    d_node: int = 256
    n_heads: int = 8
    d_feedforward: int = 256
    n_message_layers: int = 2
    n_attention_layers: int = 2
    head_width: int = 128
    normalization: Literal["RMSNorm", "LayerNorm"] = "RMSNorm"
    activation: Literal["SwiGLU", "SiLU"] = "SwiGLU"
    transformer: Literal["PreLN", "PostLN"] = "PreLN"
    messages: Literal["feedforward", "residual"] = "feedforward"
    temperature: float = 1.0
    conditioning: bool = False
    max_charge: int = 10
    max_spin: int = 10
    long_range: bool = False
    smearing: float = 1.4
    mesh_spacing: float = 1.33
    mesh_nodes: int = 5
    energy_scale: float = 1.0
    forces_scales: tuple[float, ...] = ()
    stress_scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        sizes = ("d_model", "d_node", "n_heads", "d_feedforward", "n_message_layers")
        check_least(self, 1, (*sizes, "n_attention_layers", "head_width", "max_spin", "mesh_nodes"))
        check_least(self, 0, ("n_neighbors", "max_charge"))
        for name in ("cutoff", "adaptive_width", "temperature", "smearing", "mesh_spacing"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        check_tokens(self)
        if self.mesh_nodes > 5:
            raise ValueError(f"mesh_nodes: expected at most 5, got {self.mesh_nodes}")
        if self.long_range and self.n_neighbors > 0.0:
            raise ValueError(
                f"n_neighbors: expected 0 with long_range, got {self.n_neighbors}; charges are "
                "kept from each other within one cutoff for all atoms"
            )
        if self.n_neighbors > 0.0 and self.adaptive_method == "grid":
            least = FIRST + SPACING * self.adaptive_width
            if self.cutoff <= least:
                raise ValueError(
                    f"cutoff: expected more than {least} for adaptive_method='grid', got "
                    f"{self.cutoff}"
                )
        if not math.isfinite(self.energy_scale):
            raise ValueError(f"energy_scale: expected a finite number, got {self.energy_scale}")
        for name in ("forces_scales", "stress_scales"):
            if not all(type(v) is float and math.isfinite(v) for v in getattr(self, name)):
                raise ValueError(f"{name}: expected finite numbers, got {getattr(self, name)}")
        choices = {
            "cutoff_function": ("Bump", "Cosine"),
            "adaptive_method": ("solver", "grid"),
            "normalization": ("RMSNorm", "LayerNorm"),
            "activation": ("SwiGLU", "SiLU"),
            "transformer": ("PreLN", "PostLN"),
            "messages": ("feedforward", "residual"),
        }
        check_choices(self, choices)

    @property
    def n_blocks(self) -> int:
        """Number of modules with weights, at least."""
        return self.n_message_layers * self.n_attention_layers

    @property
    def n_readouts(self) -> int:
        """How many layers are read."""
        return self.n_message_layers if self.messages == "residual" else 1

    @property
    def receptive_field(self) -> int:
        """Hops from an atom to the farthest that its energy depends on.

        Feedforward messages are combined with those of the reverse edges once more before they
        are read, and the cutoff of a pair depends on the neighbours of both of its atoms.
        """
        return self.depth + (1 if self.n_neighbors > 0.0 else 0)

    @property
    def depth(self) -> int:
        """The same at given cutoffs."""
        return self.n_message_layers + (1 if self.messages == "feedforward" else 0)

    @property
    def direct(self) -> tuple[str, ...]:
        """Names of the direct predictions."""
        return tuple(name for name in DIRECT if getattr(self, f"{name}_scales"))
