"""What TensorNet says of an atom, from its tensors: an energy, a vector, a matrix."""

from __future__ import annotations

import copy
import itertools
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ase_pet.potentials.cartesian import SLICES, Basis, squared_norms
from ase_pet.potentials.tensornet_layers import ACTIVATIONS, TensorNetHypers


class Readout(nn.Module):
    """From norms of the parts to a number for each atom."""

    def __init__(self, hypers: TensorNetHypers) -> None:
        super().__init__()
        d, w = hypers.n_units, hypers.readout_width
        gated = hypers.readout == "gated"
        self.norm = nn.LayerNorm(3 * d)
        self.linear = nn.Linear(3 * d, d)
        chosen: nn.Module = ACTIVATIONS["silu" if gated else hypers.activation]()
        self.activation = nn.Identity() if gated else chosen

        def perceptron() -> nn.Sequential:
            widths = [d, *[w] * hypers.readout_depth]
            steps = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), chosen)]
            return nn.Sequential(*steps, nn.Linear(w, 1))

        self.values = perceptron()
        self.gates = perceptron() if gated else None

    def forward(self, x: Tensor) -> Tensor:
        """[9, n_atoms, n_units] -> [n_atoms]."""
        features = self.activation(self.linear(self.norm(squared_norms(x))))
        values: Tensor = self.values(features)[:, 0]
        return values if self.gates is None else values * self.gates(features)[:, 0].sigmoid()


class TensorHead(nn.Module):
    """From tensors to a vector or a symmetric matrix for each atom.

    A vector is a sum over channels of antisymmetric parts, a matrix of symmetric ones plus a
    multiple of the unit matrix, with factors that a perceptron makes of the norms of all parts. The
    multiple depends on the element besides: an atom alone has no parts.

    Args:
        hypers: Width and activation are those of the readout.
        rank: 1 for vectors, 2 for matrices.
        n_species: Number of elements.
    """

    def __init__(self, hypers: TensorNetHypers, rank: int, n_species: int) -> None:
        super().__init__()
        d, w = hypers.n_units, hypers.readout_width
        self.rank = rank
        self.basis = Basis()
        self.norm = nn.LayerNorm(3 * d)
        self.factors = nn.Sequential(
            nn.Linear(3 * d, w), ACTIVATIONS[hypers.activation](), nn.Linear(w, d + rank - 1)
        )
        self.of_element = nn.Parameter(torch.zeros(n_species)) if rank == 2 else None

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """[9, n_atoms, n_units], species indices [n_atoms] -> [n_atoms, 3] or [n_atoms, 3, 3]."""
        factors, d = self.factors(self.norm(squared_norms(x))), x.shape[2]
        part = SLICES[self.rank]
        components = torch.einsum("cnu,nu->nc", x[part], factors[:, :d])
        if self.of_element is None:
            return components
        traceless = (components @ self.basis(x.dtype)[:, part].T).view(-1, 3, 3)
        one = torch.eye(3, dtype=x.dtype, device=x.device)
        isotropic = factors[:, d] + self.of_element[species]
        matrices: Tensor = traceless + isotropic[:, None, None] * one
        return matrices


#: Copies of modules in double precision; weights and their versions tell if they are still true.
_COPIES: WeakKeyDictionary[nn.Module, tuple[list[nn.Parameter], list[int], nn.Module]]
_COPIES = WeakKeyDictionary()


def in_double(module: nn.Module, x: Tensor, *more: Tensor) -> Tensor:
    """Evaluate a module in double precision, whatever the dtype of its weights."""
    found: Tensor
    named = dict(module.named_parameters())
    if torch.compiler.is_compiling() or any(w.requires_grad for w in named.values()):
        doubled = {name: weight.double() for name, weight in named.items()}
        found = torch.func.functional_call(module, doubled, (x.double(), *more))
        return found
    weights = list(named.values())
    versions = [0 if weight.is_inference() else weight._version for weight in weights]
    kept = _COPIES.get(module)
    if (
        kept is None
        or kept[1] != versions
        or any(a is not b for a, b in zip(kept[0], weights, strict=True))
    ):
        kept = _COPIES[module] = weights, versions, copy.deepcopy(module).double()
    found = kept[2](x.double(), *more)
    return found
