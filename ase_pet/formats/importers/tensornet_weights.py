"""What the TensorNets of MatGL and TorchMD-NET have in common: names of weights, and their order.

Both codes name embedding, interaction layers and the norm before the readout alike. They differ in
how one linear layer holds the three factors of each channel (irreducible part fastest or slowest),
in the order of the two elements of an edge, and in the direction of its vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ase_pet.errors import CheckpointError


class Weights:
    """A foreign state dictionary that is used up name by name.

    Args:
        tensors: Its tensors.
        where: The file, for messages.
    """

    def __init__(self, tensors: Mapping[str, object], where: str) -> None:
        self._left = dict(tensors)
        self.where = where

    def take(self, name: str) -> Tensor:
        """One tensor, which is then gone.

        Raises:
            CheckpointError: If it is missing or not a tensor.
        """
        value = self._left.pop(name, None)
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{self.where}: weights: {name} is missing; the file is incomplete or belongs to "
                "another model"
            )
        return value

    def peek(self, name: str) -> Tensor:
        """One tensor, which stays.

        Raises:
            CheckpointError: If it is missing or not a tensor.
        """
        value = self._left[name] = self.take(name)
        return value

    def number(self, name: str, default: float) -> float:
        """A tensor of one number, or a default where there is none."""
        if name not in self._left:
            return default
        value = self.take(name)
        if value.numel() != 1:
            raise CheckpointError(f"{self.where}: {name}: expected one number, got {value.shape}")
        return float(value)

    def names(self, prefix: str) -> list[str]:
        """Names not used yet that start with a prefix."""
        return sorted(name for name in self._left if name.startswith(prefix))

    def drop(self, *prefixes: str) -> None:
        """Leave out what no energy depends on."""
        for name in [name for name in self._left if name.startswith(prefixes)]:
            del self._left[name]

    def finish(self) -> None:
        """Check that nothing is left.

        Raises:
            CheckpointError: If something is; the energy would depend on it in an unknown way.
        """
        if self._left:
            raise CheckpointError(
                f"{self.where}: unexpected weights {sorted(self._left)[:6]}; not a TensorNet of "
                "a supported version"
            )


def network_weights(
    source: Weights,
    prefix: str,
    n_layers: int,
    species_rows: Iterable[int],
    *,
    part_fastest: bool,
    neighbor_first: bool,
    flip_vectors: bool,
) -> dict[str, Tensor]:
    """Translate all weights but those of radial basis and output network.

    Args:
        source: The foreign weights; what is translated is used up.
        prefix: Of the network inside them.
        n_layers: Interaction layers.
        species_rows: Row of the embedding for each of our species.
        part_fastest: Factors are stored as (channel, part), not (part, channel).
        neighbor_first: The edge embedding reads (neighbour, centre), not (centre, neighbour).
        flip_vectors: Vectors point to the centre, not to the neighbour.

    Raises:
        CheckpointError: If a weight is missing.
    """
    found: dict[str, Tensor] = {}

    def by_part(value: Tensor) -> Tensor:
        if not part_fastest:
            return value
        return value.view(-1, 3, *value.shape[1:]).transpose(0, 1).flatten(0, 1)

    def copy(ours: str, theirs: str, *, fused: bool = False) -> None:
        for kind in ("weight", "bias"):
            value = source.take(f"{prefix}{theirs}.{kind}")
            found[f"{ours}.{kind}"] = by_part(value) if fused else value

    def stack(ours: str, theirs: str, first: int) -> None:
        names = [f"{prefix}{theirs}.{k}.weight" for k in range(first, first + 3)]
        found[f"{ours}.weight"] = torch.stack([source.take(name) for name in names])

    embedding = "tensor_embedding."
    table = source.take(prefix + embedding + "emb.weight")
    found["embedding.species.weight"] = table[list(species_rows)]
    copy("embedding.pair", embedding + "emb2")
    if neighbor_first:
        halves = found["embedding.pair.weight"].chunk(2, 1)
        found["embedding.pair.weight"] = torch.cat(halves[::-1], 1)
    for kind in ("weight", "bias"):
        filters = [source.take(f"{prefix}{embedding}distance_proj{k}.{kind}") for k in (1, 2, 3)]
        if flip_vectors:
            filters[1] = -filters[1]
        found[f"embedding.filters.{kind}"] = torch.cat(filters)
    copy("embedding.norm", embedding + "init_norm")
    copy("embedding.gate.0", embedding + "linears_scalar.0")
    copy("embedding.gate.2", embedding + "linears_scalar.1", fused=True)
    stack("embedding.mix", embedding + "linears_tensor", 0)
    for layer in range(n_layers):
        ours, theirs = f"layers.{layer}.", f"layers.{layer}."
        for k in range(3):
            copy(f"{ours}filters.{2 * k}", f"{theirs}linears_scalar.{k}", fused=k == 2)
        stack(f"{ours}mix_in", f"{theirs}linears_tensor", 0)
        stack(f"{ours}mix_out", f"{theirs}linears_tensor", 3)
    copy("readout.norm", "out_norm")
    copy("readout.linear", "linear")
    return found


def perceptron_weights(source: Weights, ours: str, prefix: str) -> tuple[dict[str, Tensor], int]:
    """Translate a perceptron of alternating linear layers and activations.

    Args:
        source: The foreign weights; what is translated is used up.
        ours: Name of our perceptron.
        prefix: Of theirs; after it comes a number.

    Returns:
        Weights, and the number of hidden layers.

    Raises:
        CheckpointError: If there are no such weights.
    """
    names = source.names(prefix)
    found = {f"{ours}.{name[len(prefix) :]}": source.take(name) for name in names}
    depth = len(found) // 2 - 1
    if depth < 1:
        raise CheckpointError(
            f"{source.where}: weights: {prefix}* are missing; this is not the energy of a potential"
        )
    return found, depth
