"""From atomic numbers to rows of an embedding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ase_pet.errors import UnknownSpeciesError

_TABLE = """
X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As
Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd
Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am
Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
_SYMBOLS = _TABLE.split()


def symbols(numbers: Iterable[int]) -> str:
    """Chemical symbols of atomic numbers, separated by commas."""
    return ", ".join(_SYMBOLS[z] if 0 <= z < len(_SYMBOLS) else f"element {z}" for z in numbers)


def atomic_number(symbol: str) -> int:
    """Atomic number of a chemical symbol.

    Raises:
        ValueError: If there is no such element.
    """
    if symbol not in _SYMBOLS[1:]:
        raise ValueError(f"symbol: expected a chemical element, got {symbol!r}")
    return _SYMBOLS.index(symbol)


class SpeciesTable(nn.Module):
    """Indices of elements in the sorted list of supported ones.

    Args:
        species: Atomic numbers, in any order.

    Attributes:
        species: Atomic numbers, sorted.

    Raises:
        ValueError: If ``species`` is empty, holds a number twice or one outside 0 to 118.
    """

    index: Tensor

    def __init__(self, species: Sequence[int]) -> None:
        super().__init__()
        self.species = tuple(sorted(int(z) for z in species))
        if not self.species or len(set(self.species)) != len(self.species):
            raise ValueError(f"species: expected distinct atomic numbers, got {list(species)}")
        if self.species[0] < 0 or self.species[-1] >= len(_SYMBOLS):
            raise ValueError(f"species: expected atomic numbers 0 to 118, got {list(species)}")
        index = torch.full((len(_SYMBOLS),), -1, dtype=torch.int64)
        index[list(self.species)] = torch.tensor(range(len(self.species)))
        self.register_buffer("index", index, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Indices [n_atoms] of atomic numbers [n_atoms].

        Raises:
            UnknownSpeciesError: If an element is not supported; names it and the supported ones.
        """
        known = (numbers >= 0) & (numbers < len(self.index))
        indices = torch.where(known, self.index[numbers.clamp(0, len(self.index) - 1)], -1)
        if bool((indices < 0).any()):
            unknown = sorted(set(numbers[indices < 0].tolist()))
            raise UnknownSpeciesError(
                f"numbers: the model does not know {symbols(unknown)}; it was trained on "
                f"{symbols(self.species)}. Remove these atoms or load a model that knows them."
            )
        return indices
