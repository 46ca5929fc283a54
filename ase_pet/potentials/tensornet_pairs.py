"""Unordered pairs of neighbours: what TensorNet makes of the edges of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ase_pet.data import lengthen


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Sums over those neighbours of an atom that are of one element, for each that it has.

    Attributes:
        owners: [n_rows], the atom, increasing.
        elements: [n_rows], species index of the neighbours.
        row_of: [n_pairs, 2], the row of i to which j belongs, and of j to which i does.
    """

    owners: Tensor
    elements: Tensor
    row_of: Tensor

    @staticmethod
    def build(first: Tensor, second: Tensor, species: Tensor, n_species: int) -> Rows:
        """Rows of pairs [n_pairs] of atoms, whose species indices are [n_atoms]."""
        pairs = torch.stack([first, second], 1)
        key = pairs * n_species + species[pairs.flip(1)]
        present = torch.bincount(key.flatten(), minlength=len(species) * n_species) > 0
        rows = torch.nonzero(present)[:, 0]
        return Rows(rows // n_species, rows % n_species, (present.cumsum(0) - 1)[key])


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Unordered pairs of neighbours: an edge and its reverse are one.

    Attributes:
        first: [n_pairs], atom i.
        second: [n_pairs], atom j.
        distances: [n_pairs], Å.
        directions: [n_pairs, 3], unit vectors from i to j.
        rows: See :class:`Rows`.
        functions: [n_pairs, n_functions], radial functions.
        envelope: [n_pairs, 1], cutoff factors.
    """

    first: Tensor
    second: Tensor
    distances: Tensor
    directions: Tensor
    rows: Rows
    functions: Tensor
    envelope: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Neighborhoods:
    """What a TensorNet is given: all that depends on the data has been decided.

    Attributes:
        vectors: [n_pairs, 3], from i to j, Å, in the network's dtype.
        first: [n_pairs], atom i.
        second: [n_pairs], atom j.
        rows: Sums by element.
        species: [n_atoms], species indices.
        strength: [n_atoms], factor of products.
        shift: [n_atoms], added to energies, eV, float64.
    """

    vectors: Tensor
    first: Tensor
    second: Tensor
    rows: Rows
    species: Tensor
    strength: Tensor
    shift: Tensor

    def pack(self, enlarge: Callable[[int], int]) -> tuple[Tensor, ...]:
        """The same in plain tensors, whose shapes are three sizes that differ.

        The last atom is added, and so is the last row; they take up all pairs that are added,
        from this atom to itself: nothing that is real hears of it.

        Args:
            enlarge: The size to which a number of atoms, pairs or rows is padded.

        Returns:
            What the attributes are, up to ``shift``, of at least two atoms, pairs and rows.
        """
        n = enlarge(1 + max(1, len(self.species)))
        n_rows = enlarge(1 + max(1, len(self.rows.owners)))
        n_rows += n_rows == n  # a compiler takes sizes for one that are the same at first
        n_pairs = enlarge(max(2, len(self.first)))
        while n_pairs in (n, n_rows):
            n_pairs += 1
        return (
            lengthen(self.vectors, n_pairs, 1.0),
            lengthen(self.first, n_pairs, n - 1),
            lengthen(self.second, n_pairs, n - 1),
            lengthen(self.rows.owners, n_rows, n - 1),
            lengthen(self.rows.elements, n_rows),
            lengthen(self.rows.row_of, n_pairs, n_rows - 1),
            *(lengthen(values, n) for values in (self.species, self.strength, self.shift)),
        )

    @staticmethod
    def unpack(*tensors: Tensor) -> Neighborhoods:
        """From what :meth:`pack` returns."""
        vectors, first, second, *rows, species, strength, shift = tensors
        return Neighborhoods(vectors, first, second, Rows(*rows), species, strength, shift)
