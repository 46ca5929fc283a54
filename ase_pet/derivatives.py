r"""Forces and virial from one gradient: the only file of the core that calls autograd.

The edge vectors are the one leaf of all derivatives. With :math:`g_e = dE/dr_e`,

.. math::
    F_i = \sum_{e: i\to\cdot} g_e - \sum_{e: \cdot\to i} g_e, \qquad
    \frac{dE}{d\varepsilon} = \tfrac12 \sum_e (r_e\otimes g_e + g_e\otimes r_e).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.data import Graph, Results
from ase_pet.ecse import Symmetrized
from ase_pet.potentials.base import Potential
from ase_pet.potentials.total import Total


def gradient(energies: Tensor, vectors: Tensor, *, create_graph: bool = False) -> Tensor:
    """Gradient of the summed energies with respect to the edge vectors.

    Args:
        energies: [n_atoms], eV.
        vectors: [n_edges, 3], Å, a leaf that requires a gradient.
        create_graph: Keep the result differentiable, as training needs it.

    Returns:
        [n_edges, 3], eV/Å; zero where the energies do not depend on the vectors.

    Raises:
        RuntimeError: In ``torch.inference_mode()``, where nothing can be differentiated.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("forces need autograd: leave torch.inference_mode() to evaluate them")
    if not energies.requires_grad:
        return torch.zeros_like(vectors)
    (g,) = torch.autograd.grad(
        energies.sum(), vectors, create_graph=create_graph, allow_unused=True
    )
    return torch.zeros_like(vectors) if g is None else g


def evaluate(
    potential: Potential, graph: Graph, *, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Energies of the atoms and their gradient.

    Args:
        potential: What to evaluate.
        graph: Where.
        create_graph: Keep both differentiable (with respect to the weights), as training needs it.

    Returns:
        Energies [n_atoms], eV, float64 and dE/dr [n_edges, 3], eV/Å, float64.
    """
    if isinstance(potential, Total):
        parts = [evaluate(term, graph, create_graph=create_graph) for term in potential.terms]
        energies = torch.stack([part[0] for part in parts]).sum(0)
        return energies, torch.stack([part[1] for part in parts]).sum(0)
    if isinstance(potential, Symmetrized) and not create_graph:
        return _evaluate_in_chunks(potential, graph)
    with torch.enable_grad():
        vectors = graph.vectors.detach().requires_grad_(True)
        energies = potential(graph.with_vectors(vectors)).to(torch.float64)
        g = gradient(energies, vectors, create_graph=create_graph)
    if not create_graph:
        energies = energies.detach()
    return energies, g.to(torch.float64)


def _evaluate_in_chunks(potential: Symmetrized, graph: Graph) -> tuple[Tensor, Tensor]:
    r"""Evaluate an ensemble with the memory of one chunk and no second forward pass.

    With rotated vectors :math:`v'_e = R v_e` and coefficients c, the energy is
    :math:`E = \sum c\,\varepsilon(v')`.
    Each chunk yields dE/dv', hence dE/dR and its part of dE/dv; frames and coefficients are
    differentiated once, at the end.
    """
    with torch.enable_grad():
        vectors = graph.vectors.detach().requires_grad_(True)
        ensemble = potential.ensemble(graph.with_vectors(vectors))
    rotations, coefficients = ensemble.rotations.detach(), ensemble.coefficients.detach()
    energies = vectors.new_zeros(graph.n_atoms)
    by_vector = torch.zeros_like(graph.vectors)
    by_rotation, by_coefficient = torch.zeros_like(rotations), torch.zeros_like(coefficients)
    for chunk in ensemble.chunks:
        copies, of_node, reads = ensemble.copies(chunk)
        original, rotation = graph.vectors[copies.edges], rotations[copies.frames]
        with torch.enable_grad():
            rotated = torch.einsum("eij,ej->ei", rotation, original).requires_grad_(True)
            copied = potential.backbone(copies.graph.with_vectors(rotated))[: len(of_node)]
            copied = copied.to(energies.dtype)[reads]
            share = coefficients[of_node[reads]] * copied
            g = gradient(share, rotated)
        energies.index_add_(0, copies.nodes[reads], share.detach())
        by_coefficient.index_add_(0, of_node[reads], copied.detach())
        by_vector.index_add_(0, copies.edges, torch.einsum("eij,ei->ej", rotation, g))
        by_rotation.index_add_(0, copies.frames, g[:, :, None] * original[:, None, :])
    differentiable = [
        (value, weight)
        for value, weight in (
            (ensemble.rotations, by_rotation),
            (ensemble.coefficients, by_coefficient),
        )
        if value.requires_grad
    ]
    if differentiable:
        values, weights = zip(*differentiable, strict=True)
        (g,) = torch.autograd.grad(values, vectors, weights)
        by_vector = by_vector + g
    return energies.to(torch.float64), by_vector.to(torch.float64)


def forces_and_virials(gradients: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
    """Forces and virials of the atoms; differentiable if the gradients are.

    Args:
        gradients: dE/dr, [n_edges, 3], eV/Å.
        graph: The graph that they belong to.

    Returns:
        Forces [n_atoms, 3], eV/Å, and virials [n_atoms, 3, 3], eV, symmetric, of the edges of
        each atom.
    """
    forces = gradients.new_zeros(graph.n_atoms, 3)
    forces = forces.index_add(0, graph.centers, gradients)
    forces = forces.index_add(0, graph.others, -gradients)
    vectors = graph.vectors.detach().to(gradients.dtype)
    outer = vectors[:, :, None] * gradients[:, None, :]
    virials = gradients.new_zeros(graph.n_atoms, 3, 3).index_add(0, graph.centers, outer)
    return forces, 0.5 * (virials + virials.transpose(1, 2))


def results(energies: Tensor, gradients: Tensor, graph: Graph) -> Results:
    """Collect all results of a batch from energies and gradients.

    Args:
        energies: [n_atoms], eV, float64.
        gradients: dE/dr, [n_edges, 3], eV/Å, float64.
        graph: The graph that they belong to.

    Returns:
        Energies, forces and virials of the atoms, energies and virials of the structures.
    """
    forces, virials = forces_and_virials(gradients, graph)
    energy = energies.new_zeros(graph.n_systems).index_add(0, graph.system_index, energies)
    virial = virials.new_zeros(graph.n_systems, 3, 3).index_add(0, graph.system_index, virials)
    return Results(energies, forces, virials, energy, virial)
