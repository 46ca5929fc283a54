"""Small random models, quick enough to be asked hundreds of times."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.potentials.pet import PET, ModernPET, ModernPETHypers, PETHypers
from ase_pet.potentials.tensornet import TensorNet, TensorNetHypers

SPECIES = (1, 6, 8)
NEEDS_TORCH_PME = pytest.mark.skipif(
    find_spec("torchpme") is None, reason="torch-pme is not installed"
)
#: Options of a model with every head.
TENSORS = {"dipole": True, "polarizability": True}


def tiny_pet(n_layers: int = 1, *, seed: int = 0, cutoff: float = 2.6, **hypers: Any) -> PET:
    """A random PET in float64 with weights large enough that every option matters."""
    sizes = {"d_model": 8, "n_heads": 2, "d_feedforward": 8, "head_width": 8}
    sizes |= {"n_attention_layers": 1, "n_message_layers": n_layers}
    torch.manual_seed(seed)
    pet = PET(PETHypers(cutoff=cutoff, **{**sizes, **hypers}), SPECIES).double()
    with torch.no_grad():
        for parameter in pet.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.7)
    return pet.eval().requires_grad_(False)


def tiny_modern_pet(
    n_layers: int = 1, *, seed: int = 0, cutoff: float = 2.6, **hypers: Any
) -> ModernPET:
    """A random PET of metatrain's kind in float64; weights large enough that all options matter."""
    sizes = {"d_model": 8, "d_node": 12, "n_heads": 2, "d_feedforward": 8, "head_width": 8}
    sizes |= {"n_attention_layers": 1, "n_message_layers": n_layers}
    torch.manual_seed(seed)
    network = ModernPET(ModernPETHypers(cutoff=cutoff, **{**sizes, **hypers}), SPECIES).double()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.7)
    return network.eval().requires_grad_(False)


def tiny_tensornet(
    n_layers: int = 1, *, seed: int = 0, cutoff: float = 2.6, **hypers: Any
) -> TensorNet:
    """A random TensorNet in float64 with weights large enough that every option matters."""
    sizes = {"n_units": 6, "n_functions": 5, "readout_width": 5, "n_layers": n_layers}
    torch.manual_seed(seed)
    network = TensorNet(TensorNetHypers(cutoff=cutoff, **{**sizes, **hypers}), SPECIES).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("radial."):
                parameter.mul_(1.5)
    return network.eval().requires_grad_(False)


class Pairwise:
    """An equivariant potential: a sum over pairs that ends smoothly at the cutoff."""

    n_layers = 1
    species = SPECIES
    symmetry = "O(3)"

    def __init__(self, cutoff: float = 2.6) -> None:
        self.cutoff = cutoff

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        return n_atoms * n_neighbors

    def __call__(self, graph: Graph) -> Tensor:
        r = graph.vectors.square().sum(1).sqrt()
        pair = (1.0 - r / self.cutoff).clamp_min(0.0) ** 4 * graph.numbers[graph.others].sqrt()
        return graph.vectors.new_zeros(graph.n_atoms).index_add(0, graph.centers, pair)
