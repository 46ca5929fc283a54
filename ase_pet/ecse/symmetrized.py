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

import torch
from torch import Tensor

from ase_pet.data import Graph, run_index
from ase_pet.ecse.classes import alike
from ase_pet.ecse.ensemble import Domains, Expansion, offsets
from ase_pet.ecse.evaluation import Ensemble, chunks_of
from ase_pet.ecse.frames import Frames, Reads
from ase_pet.ecse.paper import paper_frames
from ase_pet.ecse.segments import segment_sum
from ase_pet.ecse.settings import AUTO, PaperSettings, Settings, SmoothSettings, settings
from ase_pet.ecse.shared import shared_frames
from ase_pet.ecse.smooth import smooth_frames
from ase_pet.potentials.base import Backbone
from ase_pet.potentials.tensors import predict, rank, zero_tensors
from ase_pet.potentials.wrapped import Wrapped

#: Estimate of the bytes that an edge takes that is compared with another and not evaluated.
_COMPARED = 400

#: Hops that tell the atoms of a structure apart.
_WHOLE = 8

SYMMETRIES = ("O(3)", "SO(3)")
ENSEMBLES = ("local", "shared", "global")


class Symmetrized(Wrapped):
    """A backbone averaged over an equivariant ensemble of coordinate systems.

    Args:
        backbone: Any potential; it need not be equivariant.
        symmetry: ``"O(3)"`` averages each frame with its mirror image, ``"SO(3)"`` does not.
        ensemble: ``"local"``: each frame serves the atom that made it; size-consistent.
            ``"shared"``: the frames of nearby atoms compete and serve all around; size-consistent,
            and cheaper than local for several message-passing layers. ``"global"``: the frames of
            all atoms of a structure compete and serve all of them; few evaluations of small
            structures, not size-consistent.
        weights: ``"smooth"``, ``"lean"``, ``"paper"``, settings, or ``"auto"``: lean for the shared
            ensemble, smooth for the others.
        memory_budget: Bytes that one chunk of copies may take.

    Raises:
        ValueError: If an option is none of those named, ``"shared"`` is combined with the weights
            of the paper, or another ensemble than ``"global"`` is asked of a backbone whose
            energies reach beyond all hops.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        symmetry: str = "O(3)",
        ensemble: str = "local",
        weights: str | Settings = AUTO,
        memory_budget: int = 2_000_000_000,
    ) -> None:
        super().__init__(backbone)
        if symmetry not in SYMMETRIES:
            raise ValueError(f"symmetry: expected one of {SYMMETRIES}, got {symmetry!r}")
        if ensemble not in ENSEMBLES:
            raise ValueError(f"ensemble: expected one of {ENSEMBLES}, got {ensemble!r}")
        if ensemble != "global" and self.takes_positions:
            raise ValueError(
                f"ensemble: {ensemble!r} needs energies of finite reach, and this model has "
                "long-range electrostatics; take 'global' or 'auto'"
            )
        if ensemble == "shared" and isinstance(settings(weights, ensemble), PaperSettings):
            raise ValueError(
                "weights: those of the paper have no shared ensemble; take 'lean' or 'smooth', or "
                "another ensemble"
            )
        if memory_budget <= 0:
            raise ValueError(f"memory_budget: expected a positive number, got {memory_budget}")
        self.symmetry = symmetry
        self.ensemble_name = ensemble
        self.settings = settings(weights, ensemble)
        self.memory_budget = memory_budget
        #: Whether copies that are the same are evaluated once; results do not depend on it.
        self.merges = not self.takes_positions

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

    def frames(self, graph: Graph) -> tuple[Frames, Reads]:
        """Frames of a graph, sorted by the atoms that made them, and which atoms read them.

        Differentiable with respect to ``graph.vectors``, in whose dtype they are computed.
        """
        frames, reads = self._shared(graph) if self._shares else self._grouped(graph)
        frames, reads = self._with_lonely(graph, frames, reads)
        order = torch.argsort(frames.owners, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        return frames.where(order), reads.renumbered(place)

    @property
    def _shares(self) -> bool:
        return self.ensemble_name == "shared"

    @property
    def _mirror(self) -> bool:
        return self.symmetry == "O(3)"

    @property
    def _n_turns(self) -> int:
        """A matrix needs quarter turns to forget in which direction across an axis it was made."""
        return 4 if any(rank(name) > 1 for name in self.tensors) else 2

    def _shared(self, graph: Graph) -> tuple[Frames, Reads]:
        """Frames that serve the atoms around them."""
        assert isinstance(self.settings, SmoothSettings)
        where = (graph, self.cutoff, self.n_layers, self.settings, self._n_turns)
        return shared_frames(*where, mirror=self._mirror)

    def _grouped(self, graph: Graph) -> tuple[Frames, Reads]:
        """Frames that serve the atom that made them, or all atoms of its structure."""
        whole = self.ensemble_name == "global"
        atoms = torch.arange(graph.n_atoms, device=graph.numbers.device)
        group = graph.system_index if whole else atoms
        n_groups = graph.n_systems if whole else graph.n_atoms
        where = (graph, group, n_groups, self.cutoff, None if whole else self.n_layers)
        if isinstance(self.settings, PaperSettings):
            frames = Frames.cat(paper_frames(*where, self.settings, self._n_turns))
            frames = frames.with_mirror_images() if self._mirror else frames
        else:
            parts = smooth_frames(*where, self.settings, self._n_turns, mirror=self._mirror)
            frames = Frames.cat(parts)
        sizes = torch.bincount(group, minlength=n_groups)
        served = group[frames.owners]
        of_read = torch.repeat_interleave(sizes[served])
        readers = offsets(sizes)[served][of_read] + run_index(sizes[served])
        return frames, Reads(of_read, readers, frames.weights[of_read])

    def _with_lonely(self, graph: Graph, frames: Frames, reads: Reads) -> tuple[Frames, Reads]:
        """Add the frame of an atom, or a structure, without neighbours: any one is right."""
        served = torch.zeros_like(graph.numbers, dtype=torch.bool)
        served[reads.atoms] = True
        lonely = torch.nonzero(~served)[:, 0]
        if not len(lonely):
            return frames, reads
        one_each = (
            graph.system_index
            if self.ensemble_name == "global"
            else torch.arange(len(served), device=served.device)
        )
        counts = torch.unique_consecutive(one_each[lonely], return_counts=True)[1]
        owners = lonely[counts.cumsum(0) - counts]
        ones = graph.vectors.new_ones(len(lonely), requires_grad=False)
        eye = torch.eye(3, dtype=ones.dtype, device=ones.device).expand(len(owners), 3, 3)
        some = Frames(eye, owners, ones[: len(owners)], len(owners))
        more = Reads(frames.n_frames + torch.repeat_interleave(counts), lonely, ones)
        return Frames.cat([frames, some]), Reads.cat([reads, more])

    def ensemble(self, graph: Graph, *, merge: bool = True) -> Ensemble:
        """Choose the frames of a graph and plan their evaluation.

        Args:
            graph: Edges sorted by centre; frames are differentiable functions of its vectors.
            merge: Look for copies that are the same. Not for a single autograd graph: what copies
                take over from others is not differentiable.
        """
        frames, reads = self.frames(graph)
        labels = self._labels(graph, frames) if merge and self.merges else None
        if labels is not None:
            labels, order = torch.sort(labels, stable=True)
            place = torch.empty_like(order)
            place[order] = torch.arange(len(order), device=order.device)
            frames, reads = frames.where(order), reads.renumbered(place)
        total = segment_sum(reads.weights, reads.atoms, graph.n_atoms)
        if self.ensemble_name == "global":
            domains = Domains.from_labels(graph.system_index, graph.n_systems)
            domain = graph.system_index[frames.owners]
        elif self._shares:
            domains = Domains.around(
                graph, reads.frames, reads.atoms, frames.n_frames, self.n_layers
            )
            domain = torch.arange(frames.n_frames, device=frames.owners.device)
        else:
            domains, domain = Domains.ego(graph, self.n_layers), frames.owners
        expansion = Expansion(graph, domains, self.n_layers)
        widest = int(expansion.degree.max()) if len(expansion.degree) else 0
        per_atom = max(1, self.backbone.memory(1, widest))
        budget = max(1, self.memory_budget // per_atom)
        compared = min(1.0, _COMPARED * widest / per_atom)
        return Ensemble(
            rotations=frames.rotations,
            owners=frames.owners,
            labels=labels,
            domain=domain,
            reads=reads.frames,
            readers=reads.atoms,
            coefficients=reads.weights / total[reads.atoms],
            expansion=expansion,
            chunks=chunks_of(expansion.domains.sizes[domain], labels, budget, compared),
            budget=budget,
        )

    @torch.no_grad()
    def _labels(self, graph: Graph, frames: Frames) -> Tensor | None:
        """Labels of copies that may be the same."""
        depth = self.n_layers - 1
        if self.ensemble_name == "global":
            depth = max(depth, _WHOLE)
        elif isinstance(self.settings, SmoothSettings) and self._shares:
            depth += 1 + self.settings.shared_hops
        return alike(graph, frames.rotations, frames.owners, depth)

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms, ...], eV, and tensors of the atoms, in the dtype of ``graph.vectors``.

        The whole evaluation stays on one autograd graph; :func:`ase_pet.derivatives.evaluate`
        does it chunk by chunk within the memory budget.
        """
        ensemble = self.ensemble(graph, merge=not torch.is_grad_enabled())
        energies = graph.vectors.new_zeros(graph.n_atoms, *self.columns)
        tensors = zero_tensors(self.tensors, energies)
        for part in ensemble.evaluations():
            copied, turned = predict(self.backbone, part.graph)
            copied = copied[part.nodes].to(energies.dtype)
            share = torch.einsum("n,n...->n...", part.coefficients, copied)
            readers = ensemble.readers[part.reads]
            energies = energies.index_add(0, readers, share)
            for name, value in ensemble.turn_back(turned, part.nodes, part.reads).items():
                tensors[name] = tensors[name].index_add(0, readers, value)
        return energies, tensors
