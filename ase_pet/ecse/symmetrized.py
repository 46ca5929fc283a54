r"""Exact symmetry for any backbone.

.. math::
    \tilde\varepsilon_i = \frac{\sum_f w_f\, \varepsilon_i(R_f A)}{\sum_f w_f}, \qquad
    \tilde\mu_i = \frac{\sum_f w_f\, R_f^T \mu_i(R_f A)}{\sum_f w_f}

The frames rotate with the structure, so every rotated copy R_f A stays as it is: the average is
invariant to rounding, vectors and matrices turn with the structure once they are turned back, and
the gradient of energies through copies, frames and weights is exact.

Source:
    Pozdnyakov & Ceriotti, NeurIPS 2023 (arXiv 2305.19302).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.ecse.ensemble import Copies, Domains, Expansion
from ase_pet.ecse.frames import Frames
from ase_pet.ecse.paper import paper_frames
from ase_pet.ecse.segments import segment_sum
from ase_pet.ecse.settings import PaperSettings, Settings, SmoothSettings, settings
from ase_pet.ecse.smooth import smooth_frames
from ase_pet.potentials.base import Backbone
from ase_pet.potentials.tensors import predict, rank, turn, zero_tensors
from ase_pet.potentials.wrapped import Wrapped

_MIRROR = (1.0, -1.0, 1.0)
SYMMETRIES = ("O(3)", "SO(3)")
ENSEMBLES = ("local", "global")


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Frames of a graph, ready to be evaluated.

    Attributes:
        rotations: [n_frames, 3, 3], differentiable functions of the edge vectors.
        coefficients: [n_frames], likewise; they add up to 1 for each atom or structure.
        domain: [n_frames], int64, the domain on which each frame is evaluated.
        readers: [n_frames], int64, the atom that reads its energy; -1 if all of the domain do.
        expansion: Makes the copies.
        chunks: Ranges of frames whose evaluation fits the memory budget.
    """

    rotations: Tensor
    coefficients: Tensor
    domain: Tensor
    readers: Tensor
    expansion: Expansion
    chunks: list[slice]

    @property
    def n_frames(self) -> int:
        """Number of rotated copies."""
        return self.rotations.shape[0]

    def copies(self, chunk: slice) -> tuple[Copies, Tensor, Tensor]:
        """Copies of a range of frames, with the frame [n_members] and readership of each node."""
        frames = torch.arange(chunk.start, chunk.stop, device=self.domain.device)
        copies = self.expansion.copies(frames, self.domain[chunk])
        sizes = self.expansion.domains.sizes[self.domain[chunk]]
        of_node = torch.repeat_interleave(frames, sizes)
        reader = self.readers[of_node]
        return copies, of_node, (reader < 0) | (reader == copies.nodes)

    def turn_back(
        self, tensors: dict[str, Tensor], of_node: Tensor, reads: Tensor
    ) -> dict[str, Tensor]:
        """Shares of the tensors of a chunk, in the original orientation.

        Args:
            tensors: Those of the copies, carriers among them.
            of_node: [n_members], the frame of each node.
            reads: [n_members], whether the frame is read there.
        """
        frames, n = of_node[reads], len(of_node)
        chosen = {
            name: value[:n][reads].to(self.rotations.dtype) for name, value in tensors.items()
        }
        turned = turn(chosen, self.rotations[frames].transpose(1, 2))
        return {
            name: self.coefficients[frames].view(-1, *[1] * rank(name)) * value
            for name, value in turned.items()
        }


class Symmetrized(Wrapped):
    """A backbone averaged over an equivariant ensemble of coordinate systems.

    Args:
        backbone: Any potential; it need not be equivariant.
        symmetry: ``"O(3)"`` averages each frame with its mirror image, ``"SO(3)"`` does not.
        ensemble: ``"local"``: each frame serves the atom that made it; size-consistent.
            ``"global"``: the frames of all atoms of a structure compete and serve all of them;
            fewer evaluations for molecules, not size-consistent.
        weights: ``"smooth"``, ``"paper"``, or settings of either.
        memory_budget: Bytes that one chunk of copies may take.

    Raises:
        ValueError: If an option is none of those named, or ``"local"`` is asked of a backbone
            whose energies reach beyond all hops.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        symmetry: str = "O(3)",
        ensemble: str = "local",
        weights: str | Settings = "smooth",
        memory_budget: int = 2_000_000_000,
    ) -> None:
        super().__init__(backbone)
        if symmetry not in SYMMETRIES:
            raise ValueError(f"symmetry: expected one of {SYMMETRIES}, got {symmetry!r}")
        if ensemble not in ENSEMBLES:
            raise ValueError(f"ensemble: expected one of {ENSEMBLES}, got {ensemble!r}")
        if ensemble == "local" and self.takes_positions:
            raise ValueError(
                "ensemble: 'local' needs energies of finite reach, and this model has long-range "
                "electrostatics; take 'global' or 'auto'"
            )
        if memory_budget <= 0:
            raise ValueError(f"memory_budget: expected a positive number, got {memory_budget}")
        self.symmetry = symmetry
        self.ensemble_name = ensemble
        self.settings = settings(weights)
        self.memory_budget = memory_budget

    def around(self, backbone: Backbone) -> Symmetrized:
        """The same average of another backbone of the same reach."""
        return Symmetrized(
            backbone,
            symmetry=self.symmetry,
            ensemble=self.ensemble_name,
            weights=self.settings,
            memory_budget=self.memory_budget,
        )

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        """Estimate the bytes of one evaluation: at most the budget, or one copy."""
        return max(self.memory_budget, self.backbone.memory(n_atoms, n_neighbors))

    def frames(self, graph: Graph) -> Frames:
        """Frames of a graph with their weights, before mirror images.

        Differentiable with respect to ``graph.vectors``, in whose dtype they are computed.
        """
        local = self.ensemble_name == "local"
        atoms = torch.arange(graph.n_atoms, device=graph.numbers.device)
        group = atoms if local else graph.system_index
        n_groups = graph.n_atoms if local else graph.n_systems
        depth = self.n_layers if local else None
        # A matrix needs quarter turns to forget in which direction across an axis it was made.
        n_turns = 4 if any(rank(name) > 1 for name in self.tensors) else 2
        where = (graph, group, n_groups, self.cutoff, depth)
        parts: list[Frames] = []
        if graph.n_edges and isinstance(self.settings, PaperSettings):
            parts = paper_frames(*where, self.settings, n_turns)
        elif graph.n_edges and isinstance(self.settings, SmoothSettings):
            parts = smooth_frames(*where, self.settings, n_turns)
        served = torch.zeros(n_groups, dtype=torch.bool, device=group.device)
        for part in parts:
            served[group[part.owners]] = True
        alone = atoms[~served[group]]
        if not local and len(alone):
            # A structure in which no atom has a neighbour: one frame is enough.
            alone = alone[torch.cat([alone.new_ones(1), group[alone].diff()]) > 0]
        eye = torch.eye(3, dtype=graph.vectors.dtype, device=graph.vectors.device)
        ones = torch.ones_like(alone, dtype=graph.vectors.dtype)
        return Frames.cat([*parts, Frames(eye.expand(len(alone), 3, 3), alone, ones, len(alone))])

    def ensemble(self, graph: Graph) -> Ensemble:
        """Choose the frames of a graph and plan their evaluation.

        Args:
            graph: Edges sorted by centre; frames are differentiable functions of its vectors.
        """
        local = self.ensemble_name == "local"
        frames = self.frames(graph)
        frames = frames.where(torch.argsort(frames.owners, stable=True))
        domain = frames.owners if local else graph.system_index[frames.owners]
        n_groups = graph.n_atoms if local else graph.n_systems
        total = segment_sum(frames.weights, domain, n_groups)
        coefficients = frames.weights / total[domain]
        rotations = frames.rotations
        readers = frames.owners if local else torch.full_like(frames.owners, -1)
        if self.symmetry == "O(3)":
            mirror = rotations.new_tensor(_MIRROR)[:, None]
            rotations = torch.stack([rotations, mirror * rotations], 1).flatten(0, 1)
            coefficients, domain, readers = (
                x.repeat_interleave(2) for x in (0.5 * coefficients, domain, readers)
            )
        domains = (
            Domains.ego(graph, self.n_layers)
            if local
            else Domains.from_labels(graph.system_index, graph.n_systems)
        )
        expansion = Expansion(graph, domains)
        chunks = self._chunks(expansion, domain)
        return Ensemble(rotations, coefficients, domain, readers, expansion, chunks)

    def _chunks(self, expansion: Expansion, domain: Tensor) -> list[slice]:
        """Ranges of frames that fit the memory budget; at least one frame each."""
        widest = int(expansion.degree.max()) if len(expansion.degree) else 0
        per_atom = max(1, self.backbone.memory(1, widest))
        budget = max(1, self.memory_budget // per_atom)
        sizes = expansion.domains.sizes[domain].tolist()
        chunks, start, filled = [], 0, 0
        for frame, size in enumerate(sizes):
            if filled and filled + size > budget:
                chunks.append(slice(start, frame))
                start, filled = frame, 0
            filled += size
        return [*chunks, slice(start, len(sizes))] if sizes else []

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms, ...], eV, and tensors of the atoms, in the dtype of ``graph.vectors``.

        The whole evaluation stays on one autograd graph; :func:`ase_pet.derivatives.evaluate`
        does it chunk by chunk within the memory budget.
        """
        ensemble = self.ensemble(graph)
        energies = graph.vectors.new_zeros(graph.n_atoms, *self.columns)
        tensors = zero_tensors(self.tensors, energies)
        for chunk in ensemble.chunks:
            copies, of_node, reads = ensemble.copies(chunk)
            rotated = torch.einsum(
                "eij,ej->ei", ensemble.rotations[copies.frames], copies.graph.vectors
            )
            copied, turned = predict(self.backbone, copies.graph.with_vectors(rotated))
            copied = copied[: len(of_node)].to(energies.dtype)
            share = torch.einsum("n,n...->n...", ensemble.coefficients[of_node], copied)
            energies = energies.index_add(0, copies.nodes[reads], share[reads])
            for name, value in ensemble.turn_back(turned, of_node, reads).items():
                tensors[name] = tensors[name].index_add(0, copies.nodes[reads], value)
        return energies, tensors
