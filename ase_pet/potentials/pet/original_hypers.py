"""Hyperparameters of the PET of the 2023 paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ase_pet.potentials.hypers import check_choices, check_least, check_tokens
from ase_pet.potentials.tensors import RANKS


@dataclass(frozen=True, slots=True, kw_only=True)
class PETHypers:
    """Hyperparameters of a PET; the defaults make a small model.

    Attributes:
        cutoff: Å.
        cutoff_width: Å, the range below the cutoff in which a neighbour fades.
        d_model: Width of tokens.
        n_heads: Attention heads; divides ``d_model``.
        d_feedforward: Width inside the transformer's MLP.
        n_message_layers: Message-passing layers: the receptive field in hops.
        n_attention_layers: Transformer blocks in each message-passing layer.
        head_width: Width of the energy heads.
        activation: Nonlinearity everywhere.
        transformer: Layer norm after (PostLN) or before (PreLN) each block.
        compress: How coordinates, species and message are merged to a token.
        central_token_first: Use a central token in all layers but the last.
        central_token_last: Use a central token in the last layer.
        blend_neighbor_species: Feed the neighbour's species to every layer, not only the first.
        coordinates: What a token knows of the geometry.
        coordinate_activation: Apply the activation to the embedded coordinates.
        bond_energies: Add energies read from edge tokens.
        average_pooling: Without central token: average edge tokens instead of adding them. The
            average over a single neighbour does not fade: energies jump as the last one leaves.
        average_bond_energies: Average bond energies instead of adding them; jumps likewise.
        residual_factor: Factor of (old + new) messages.
        n_targets: Heads per layer; their energies belong to different targets.
        target: Which of them is returned.
        dipole: Predict a dipole too, e·Å.
        polarizability: Predict a polarizability too, e²Å²/eV.

    Raises:
        ValueError: If a value is out of its range or none of those named.
    """

    cutoff: float = 5.0
    cutoff_width: float = 1.0
    d_model: int = 64
    n_heads: int = 4
    d_feedforward: int = 128
    n_message_layers: int = 1
    n_attention_layers: int = 2
    head_width: int = 64
    activation: Literal["silu", "mish"] = "silu"
    transformer: Literal["PostLN", "PreLN"] = "PostLN"
    compress: Literal["mlp", "linear"] = "mlp"
    central_token_first: bool = True
    central_token_last: bool = True
    blend_neighbor_species: bool = False
    coordinates: Literal["vector_and_length", "vector", "length"] = "vector_and_length"
    coordinate_activation: bool = False
    bond_energies: bool = True
    average_pooling: bool = False
    average_bond_energies: bool = False
    residual_factor: float = 0.5
    n_targets: int = 1
    target: int = 0
    dipole: bool = False
    polarizability: bool = False

    def __post_init__(self) -> None:
        positive = (
            "d_model",
            "n_heads",
            "d_feedforward",
            "n_message_layers",
            "n_attention_layers",
        )
        check_least(self, 1, (*positive, "head_width", "n_targets"))
        check_tokens(self)
        if not 0 <= self.target < self.n_targets:
            raise ValueError(
                f"target: expected 0 to {self.n_targets - 1} (n_targets={self.n_targets}), "
                f"got {self.target}"
            )
        choices = {
            "activation": ("silu", "mish"),
            "transformer": ("PostLN", "PreLN"),
            "compress": ("mlp", "linear"),
            "coordinates": ("vector_and_length", "vector", "length"),
        }
        check_choices(self, choices)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that are predicted."""
        return tuple(name for name in RANKS if getattr(self, name))

    @property
    def n_blocks(self) -> int:
        """Number of modules with weights, at least."""
        return self.n_message_layers * max(self.n_attention_layers, self.n_targets)
