r"""Forces and virial from one gradient: the only file of the core that calls autograd.

The edge vectors are the one leaf of all derivatives. With :math:`g_e = dE/dr_e`,

.. math::
    F_i = \sum_{e: i\to\cdot} g_e - \sum_{e: \cdot\to i} g_e, \qquad
    \frac{dE}{d\varepsilon} = \tfrac12 \sum_e (r_e\otimes g_e + g_e\otimes r_e).

Potentials that need positions and cells are differentiated with respect to these, too, and
:math:`-dE/dr_i` and :math:`r_i\otimes dE/dr_i`, likewise of lattice vectors, are added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ase_pet.data import Graph, Results
from ase_pet.ecse import Symmetrized
from ase_pet.potentials.base import Potential, columns, takes_positions
from ase_pet.potentials.tensors import predict, symmetric, zero_tensors
from ase_pet.potentials.total import Total


class Evaluated(NamedTuple):
    """What a potential says of the atoms of a graph.

    Attributes:
        energies: [n_atoms], eV, float64; [n_atoms, n] of a potential of n energies.
        gradients: dE/dr, [n_edges, 3], eV/Å, float64; [n_edges, 3, n] of n energies.
        tensors: [n_atoms, 3] or [n_atoms, 3, 3] by name, float64; see ``potentials.tensors``.
        by_space: dE/dr of positions [n_atoms, 3] and of lattice vectors [n_systems, 3, 3], eV/Å,
            at constant edge vectors; ``None`` if the potential does not depend on them.
    """

    energies: Tensor
    gradients: Tensor
    tensors: dict[str, Tensor]
    by_space: tuple[Tensor, Tensor] | None = None

    def column(self, k: int) -> Evaluated:
        """One of n energies."""
        space = self.by_space and (self.by_space[0][..., k], self.by_space[1][..., k])
        return Evaluated(self.energies[:, k], self.gradients[..., k], self.tensors, space)


def gradients(
    energies: Tensor, leaves: Sequence[Tensor], *, create_graph: bool = False
) -> list[Tensor]:
    """Gradients of the summed energies with respect to edge vectors and whatever else.

    Args:
        energies: [n_atoms], eV, or [n_atoms, n], whose columns take one backward pass each.
        leaves: Å, each requires a gradient.
        create_graph: Keep the results differentiable, as training needs it.

    Returns:
        One for each leaf, in its shape or with n more columns, eV/Å; zero where the energies do not
        depend on it.

    Raises:
        RuntimeError: In ``torch.inference_mode()``, where nothing can be differentiated.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("forces need autograd: leave torch.inference_mode() to evaluate them")
    if not energies.requires_grad:
        return [leaf.new_zeros(*leaf.shape, *energies.shape[1:]) for leaf in leaves]

    def pull(total: Tensor, *, again: bool) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.autograd.grad(
            total,
            leaves,
            retain_graph=again or create_graph,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
        return found

    if energies.dim() == 1:
        return list(pull(energies.sum(), again=False))
    totals = energies.sum(0).unbind()
    found = [pull(total, again=k < len(totals)) for k, total in enumerate(totals, 1)]
    return [torch.stack(columns, -1) for columns in zip(*found, strict=True)]


def _with_leaves(potential: Potential, graph: Graph) -> tuple[Graph, list[Tensor]]:
    """The same graph, and what its energies are differentiated with respect to."""
    vectors = graph.vectors.detach().requires_grad_(True)
    graph = graph.with_vectors(vectors)
    if graph.space is None or not takes_positions(potential):
        return graph, [vectors]
    space = graph.space.leaf()
    return replace(graph, space=space), [vectors, space.positions, space.cell]


def evaluate(potential: Potential, graph: Graph, *, create_graph: bool = False) -> Evaluated:
    """Energies of the atoms, their gradient, and whatever else the potential predicts.

    Args:
        potential: What to evaluate.
        graph: Where.
        create_graph: Keep all differentiable (with respect to the weights), as training needs it.
    """
    if isinstance(potential, Total) and isinstance(potential.backbone, Symmetrized):
        first, *others = (evaluate(t, graph, create_graph=create_graph) for t in potential.terms)
        for other in others:  # baselines, which have no tensors
            first = first._replace(
                energies=first.energies + other.energies,
                gradients=first.gradients + other.gradients,
            )
        return first
    if isinstance(potential, Symmetrized) and not create_graph:
        return _evaluate_in_chunks(potential, graph)
    with torch.enable_grad():
        graph, leaves = _with_leaves(potential, graph)
        energies, tensors = predict(potential, graph)
        g, *by_space = gradients(energies.to(torch.float64), leaves, create_graph=create_graph)
    if not create_graph:
        energies, tensors = energies.detach(), {k: v.detach() for k, v in tensors.items()}
    tensors = {name: value.to(torch.float64) for name, value in tensors.items()}
    return Evaluated(energies.to(torch.float64), g.to(torch.float64), tensors, _pair(by_space))


def _pair(by_space: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Gradients by positions and by cells, if there are any."""
    return (by_space[0], by_space[1]) if by_space else None


@torch.no_grad()
def _evaluate_in_chunks(potential: Symmetrized, graph: Graph) -> Evaluated:
    r"""Evaluate an ensemble with the memory of one chunk and no second forward pass.

    With rotated vectors :math:`v'_e = R v_e` and coefficients c, the energy is
    :math:`E = \sum c\,\varepsilon(v')`.
    Each chunk yields dE/dv', hence dE/dR and its part of dE/dv; frames and coefficients are
    differentiated once, at the end. Tensors are turned back and averaged; they have no gradient.
    """
    graph, (vectors, *leaves) = _with_leaves(potential, graph)
    with torch.enable_grad():
        ensemble = potential.ensemble(graph)
    rotations, coefficients = ensemble.rotations, ensemble.coefficients
    several = columns(potential)
    energies = vectors.new_zeros(graph.n_atoms, *several)
    by_vector, by_rotation, by_coefficient = (
        value.new_zeros(*value.shape, *several) for value in (vectors, rotations, coefficients)
    )
    by_space = [leaf.new_zeros(*leaf.shape, *several) for leaf in leaves]
    tensors = zero_tensors(potential.tensors, energies)
    for part in ensemble.evaluations():
        copies, reads, nodes = part.copies, part.reads, part.nodes
        with torch.enable_grad():
            rotated = part.graph.vectors.requires_grad_(True)
            copied, turned = predict(potential.backbone, part.graph.with_vectors(rotated))
            copied = copied[nodes].to(energies.dtype)
            share = torch.einsum("n,n...->n...", part.weights, copied)
            g, *parts = gradients(share, [rotated, *leaves])
        g, copied, readers = part.carried(g), copied.detach(), ensemble.readers[reads]
        original = copies.graph.vectors
        rotation = part.rotations.index_select(0, copies.copies)
        energies.index_add_(0, readers, torch.einsum("n,n...->n...", part.coefficients, copied))
        for name, value in ensemble.turn_back(turned, nodes, reads).items():
            tensors[name].index_add_(0, readers, value)
        for total, more in zip(by_space, parts, strict=True):
            total += more
        by_coefficient[reads] = copied
        by_vector.index_add_(0, copies.edges, torch.einsum("eij,ei...->ej...", rotation, g))
        by_rotation[part.chunk].index_add_(
            0, copies.copies, torch.einsum("ei...,ej->eij...", g, original)
        )
    # Coefficients of an atom add up to 1: what its energies share has no gradient, but rounding.
    by_coefficient -= energies[ensemble.readers]
    differentiable = [
        (value, weight.view(*value.shape, math.prod(several)))
        for value, weight in (
            (ensemble.rotations, by_rotation),
            (ensemble.coefficients, by_coefficient),
        )
        if value.requires_grad
    ]
    if differentiable:
        values, weights = zip(*differentiable, strict=True)
        found = [
            torch.autograd.grad(values, vectors, column, retain_graph=True)[0]
            for column in zip(*(weight.unbind(-1) for weight in weights), strict=True)
        ]
        by_vector = by_vector + torch.stack(found, -1).view_as(by_vector)
    tensors = {name: value.to(torch.float64) for name, value in tensors.items()}
    return Evaluated(
        energies.to(torch.float64), by_vector.to(torch.float64), tensors, _pair(by_space)
    )


def forces_and_virials(gradients: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
    """Forces and virials of the atoms; differentiable if the gradients are.

    Args:
        gradients: dE/dr, [n_edges, 3], eV/Å.
        graph: The graph that they belong to.

    Returns:
        Forces [n_atoms, 3], eV/Å, and virials [n_atoms, 3, 3], eV, symmetric, of the edges of
        each atom.
    """
    zeros = gradients.new_zeros(graph.n_atoms, 3)
    net = gradients - gradients.index_select(0, graph.reverse)
    forces = zeros.index_add(0, graph.centers, net)
    vectors = graph.vectors.detach().to(gradients.dtype)
    # Component by component: large intermediates cost more than their arithmetic.
    parts = [zeros.index_add(0, graph.centers, x * gradients) for x in torch.split(vectors, 1, 1)]
    virials = torch.stack(parts, 1)
    return forces, 0.5 * (virials + virials.mT)


def _add_space(
    by_space: tuple[Tensor, Tensor], graph: Graph, forces: Tensor, virials: Tensor
) -> tuple[Tensor, Tensor]:
    """Add what depends on positions and cells; the atoms of a structure share its virial evenly."""
    assert graph.space is not None
    by_position, by_cell = by_space
    positions, cell = graph.space.positions, graph.space.cell
    virial = torch.einsum("kra,krb->kab", cell, by_cell)
    outer = positions[:, :, None] * by_position[:, None, :]
    virial = virial.index_add(0, graph.system_index, outer)
    counts = torch.bincount(graph.system_index, minlength=graph.n_systems)
    share = 0.5 * (virial + virial.transpose(1, 2)) / counts[:, None, None]
    return forces - by_position, virials + share[graph.system_index]


def results(evaluation: Evaluated, graph: Graph) -> Results:
    """Collect all results of a batch; differentiable if the evaluation is.

    Args:
        evaluation: Of all atoms.
        graph: The graph that it belongs to.

    Returns:
        Energies, forces and virials of the atoms; energies, virials and tensors of the structures.
    """
    forces, virials = forces_and_virials(evaluation.gradients, graph)
    if evaluation.by_space is not None:
        forces, virials = _add_space(evaluation.by_space, graph, forces, virials)

    return Results(
        energies=evaluation.energies,
        forces=forces,
        virials=virials,
        energy=graph.of_structures(evaluation.energies),
        virial=graph.of_structures(virials),
        # Turned back and forth, a matrix is symmetric but for rounding.
        tensors={k: symmetric(graph.of_structures(v)) for k, v in evaluation.tensors.items()},
    )
