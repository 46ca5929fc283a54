"""What is evaluated of an ensemble, chunk by chunk, and what each copy takes of the results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.ecse.classes import Classes, classify
from ase_pet.ecse.ensemble import Copies, Expansion
from ase_pet.ecse.segments import segment_sum
from ase_pet.potentials.tensors import rank, turn


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Copies that are evaluated together.

    Attributes:
        chunk: Range of the copies.
        copies: All of them, not rotated.
        rotations: [n_copies, 3, 3].
        graph: Those that are evaluated, rotated.
        reads: Range of what is read of them.
        coefficients: [n_reads].
        amplitudes: [n_copies], the sums of the coefficients of copies.
        classes: Which of them are the same; ``None`` if no two are, or none were compared.
    """

    chunk: slice
    copies: Copies
    rotations: Tensor
    graph: Graph
    reads: slice
    coefficients: Tensor
    amplitudes: Tensor
    classes: Classes | None

    @property
    def n_copies(self) -> int:
        """Number of copies that are evaluated."""
        return len(self.rotations) if self.classes is None else int(self.classes.represents.sum())

    @property
    def n_atoms(self) -> int:
        """Atoms of these."""
        carriers = self.copies.graph.n_atoms - len(self.copies.nodes)
        return self.graph.n_atoms - carriers

    @property
    def nodes(self) -> Tensor:
        """[n_reads], int64, the nodes of ``graph`` that are read."""
        nodes = self.copies.reads
        return nodes if self.classes is None else self.classes.nodes[nodes]

    @property
    def weights(self) -> Tensor:
        """[n_reads], of the energies whose gradient :meth:`carried` is to take over."""
        if self.classes is None:
            return self.coefficients
        of_read = self.copies.node_copies[self.copies.reads]
        shares = self.coefficients / self.amplitudes[of_read]
        return torch.where(self.classes.represents[of_read], shares, 0.0)

    def carried(self, gradients: Tensor) -> Tensor:
        """Gradients by the rotated vectors of all copies.

        Args:
            gradients: By those of ``graph``, [n, 3, ...], eV/Å.

        Returns:
            [n_edges, 3, ...], eV/Å.
        """
        if self.classes is None:
            return gradients
        amplitudes = self.amplitudes[self.copies.copies]
        return torch.einsum("e,e...->e...", amplitudes, gradients[self.classes.edges])


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Frames of a graph, ready to be evaluated.

    Attributes:
        rotations: [n_copies, 3, 3], differentiable functions of the edge vectors; mirror images
            are improper.
        owners: [n_copies], int64, the atom that made the frame.
        labels: [n_copies], int64, sorted, equal for copies that may be the same; ``None`` if no
            two may be.
        domain: [n_copies], int64, the domain on which each copy is evaluated.
        reads: [n_reads], int64, sorted: copies, of which atoms read their energies.
        readers: [n_reads], int64, these atoms.
        coefficients: [n_reads], differentiable; they add up to 1 for each atom.
        expansion: Makes the copies.
        chunks: Ranges of copies whose evaluation fits the memory budget, if those that may be
            the same are.
        budget: How many atoms fit it.
    """

    rotations: Tensor
    owners: Tensor
    labels: Tensor | None
    domain: Tensor
    reads: Tensor
    readers: Tensor
    coefficients: Tensor
    expansion: Expansion
    chunks: list[slice]
    budget: int

    @property
    def n_copies(self) -> int:
        """Number of rotated copies."""
        return self.rotations.shape[0]

    def copies(self, chunk: slice) -> tuple[Copies, slice]:
        """Copies of a range, and the range of what is read of them."""
        ends = torch.searchsorted(self.reads, self.reads.new_tensor([chunk.start, chunk.stop]))
        start, stop = ends.tolist()
        of_read = self.reads[start:stop] - chunk.start
        copies = self.expansion.copies(self.domain[chunk], of_read, self.readers[start:stop])
        return copies, slice(start, stop)

    def evaluations(self) -> Iterator[Evaluation]:
        """All copies, chunk by chunk; of those that are the same one is evaluated."""
        pending = self.chunks[::-1]
        while pending:
            chunk = pending.pop()
            found = self._evaluation(chunk)
            middle = (chunk.start + chunk.stop) // 2
            if found.n_atoms > self.budget and middle > chunk.start:  # fewer are the same
                pending += [slice(middle, chunk.stop), slice(chunk.start, middle)]
            else:
                yield found

    def _evaluation(self, chunk: slice) -> Evaluation:
        copies, reads = self.copies(chunk)
        rotations, coefficients = self.rotations[chunk], self.coefficients[reads]
        of_edges = rotations.index_select(0, copies.copies)
        vectors = torch.einsum("eij,ej->ei", of_edges, copies.graph.vectors)
        graph = copies.graph.with_vectors(vectors)
        of_read, n_copies = self.reads[reads] - chunk.start, len(rotations)
        amplitudes = segment_sum(coefficients, of_read, n_copies)
        classes = None
        if self.labels is not None and bool((self.labels[chunk].diff() == 0).any()):
            own = torch.nonzero(self.readers[reads] == self.owners[chunk][of_read])[:, 0]
            roots = of_read.new_full((n_copies,), -1)
            roots[of_read[own]] = copies.reads[own]
            shares = coefficients.new_zeros(copies.graph.n_atoms)
            shares[copies.reads] = coefficients / amplitudes[of_read]
            classes = classify(copies, graph, roots, self.labels[chunk], shares)
            graph = graph if classes is None else classes.graph
        return Evaluation(chunk, copies, rotations, graph, reads, coefficients, amplitudes, classes)

    def turn_back(
        self, tensors: dict[str, Tensor], nodes: Tensor, reads: slice
    ) -> dict[str, Tensor]:
        """Shares of the tensors of copies in the original orientation.

        Args:
            tensors: Of all nodes, rotated.
            nodes: [n_reads], int64, those that are read.
            reads: Which reads these are.
        """
        dtype = self.rotations.dtype
        chosen = {name: value[nodes].to(dtype) for name, value in tensors.items()}
        turned = turn(chosen, self.rotations[self.reads[reads]].transpose(1, 2))
        shares = self.coefficients[reads]
        return {name: shares.view(-1, *[1] * rank(name)) * value for name, value in turned.items()}


def chunks_of(sizes: Tensor, labels: Tensor | None, budget: int, compared: float) -> list[slice]:
    """Ranges of copies that fit a budget; at least one copy each.

    Args:
        sizes: Atoms of copies, [n_copies].
        labels: [n_copies], sorted: of equal ones in a range all but the first are compared only.
        budget: Atoms.
        compared: What an atom that is compared takes of what one takes that is evaluated.
    """
    first = torch.ones_like(sizes, dtype=torch.bool)
    if labels is not None:
        first[1:] = labels.diff() != 0
    less = torch.where(first, sizes, compared * sizes).tolist()
    chunks, start, filled = [], 0, 0.0
    for copy, size in enumerate(sizes.tolist()):
        if filled and filled + less[copy] > budget:
            chunks.append(slice(start, copy))
            start, filled = copy, 0.0
        filled += less[copy] if filled else size
    return [*chunks, slice(start, len(less))] if less else []
