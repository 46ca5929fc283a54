"""A batch of structures as the host program has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ase_pet.errors import GeometryError

#: Å; farther out float64 resolves distances to no more than 1e-7 Å, and grids overflow.
FARTHEST = 1e9


def expect(name: str, tensor: Tensor, shape: tuple[int | None, ...], dtype: torch.dtype) -> None:
    """Check the shape and dtype of an argument.

    Args:
        name: Name of the argument, for the message.
        tensor: The argument.
        shape: Expected shape; ``None`` accepts any length.
        dtype: Expected dtype.

    Raises:
        ValueError: If shape or dtype differ.
    """
    fits = tensor.shape == shape or (
        tensor.dim() == len(shape)
        and all(want in (None, have) for want, have in zip(shape, tensor.shape, strict=True))
    )
    if not fits:
        wanted = ", ".join("n" if want is None else str(want) for want in shape)
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(tensor.shape)}")
    if tensor.dtype != dtype:
        raise ValueError(f"{name}: expected dtype {dtype}, got {tensor.dtype}")


@dataclass(frozen=True, slots=True, eq=False)
class System:
    """A batch of ``n_systems`` structures, their atoms concatenated in order.

    Attributes:
        positions: [n_atoms, 3], Å, float64; atoms may lie outside the cell.
        numbers: [n_atoms], int64, atomic numbers.
        cell: [n_systems, 3, 3], Å, float64, rows are lattice vectors.
        pbc: [n_systems, 3], bool.
        system_index: [n_atoms], int64, sorted: which structure an atom belongs to.
        charge: [n_systems], float64, e, total charge; ``None`` if all are neutral.
        spin: [n_systems], float64, spin multiplicity 2S + 1; ``None`` if all are 1.

    Raises:
        ValueError: If a shape or dtype is wrong or ``system_index`` is unsorted or out of range.
        GeometryError: If positions or cell are not finite or beyond 1e9 Å, or a periodic cell has
            no volume.
    """

    positions: Tensor
    numbers: Tensor
    cell: Tensor
    pbc: Tensor
    system_index: Tensor
    charge: Tensor | None = None
    spin: Tensor | None = None

    def __post_init__(self) -> None:
        expect("positions", self.positions, (None, 3), torch.float64)
        n = self.n_atoms
        expect("numbers", self.numbers, (n,), torch.int64)
        expect("cell", self.cell, (None, 3, 3), torch.float64)
        expect("pbc", self.pbc, (self.cell.shape[0], 3), torch.bool)
        expect("system_index", self.system_index, (n,), torch.int64)
        for name, value in (("charge", self.charge), ("spin", self.spin)):
            if value is not None:
                expect(name, value, (self.n_systems,), torch.float64)
        if not self._sorted():
            raise ValueError(
                f"system_index: expected sorted values from 0 to {self.n_systems - 1}, "
                f"got {self.system_index.tolist()[:8]}..."
            )
        self._check_geometry()

    def _sorted(self) -> bool:
        """Whether ``system_index`` is."""
        index = self.system_index
        if self.n_systems == 1 or not self.n_atoms:
            return not bool(index.any())
        bounds = torch.cat([index.new_zeros(1), index, index.new_full((1,), self.n_systems - 1)])
        return not bool((bounds.diff() < 0).any())

    def _check_geometry(self) -> None:
        if not _near(self.positions):
            # Not (|x| <= limit), because comparisons with NaN are false.
            bad = ~(self.positions.abs() <= FARTHEST).all(1)
            i = int(torch.nonzero(bad)[0, 0])
            k, first = self.structure_of(i)
            raise GeometryError(
                f"positions: atom {i - first}{self._name(k)} is at {self.positions[i].tolist()}, "
                f"not finite or more than {FARTHEST:g} Å from the origin ({int(bad.sum())} such "
                "atoms); check the last step that moved the atoms"
            )
        if not _near(self.cell):
            raise GeometryError(
                f"cell: not finite or beyond {FARTHEST:g} Å; set the lattice vectors in Å"
            )
        # Rows of non-periodic axes are zeroed: the rank must be the number of periodic ones.
        cell, pbc = self.cell.cpu(), self.pbc.cpu()
        if len(cell) == 1 and _is_roomy(cell[0].tolist(), pbc[0].tolist()):
            return
        singular = torch.linalg.svdvals(cell * pbc[:, :, None])
        rank = (singular > 1e-10 * singular[:, :1].clamp(min=1.0)).sum(1)
        flat = rank < pbc.sum(1)
        if bool(flat.any()):
            k = int(torch.nonzero(flat)[0, 0])
            raise GeometryError(
                f"cell: the periodic lattice vectors{self._name(k)} are zero or linearly "
                f"dependent (zero volume): {cell[k][pbc[k]].tolist()}; set a cell of full rank or "
                "switch pbc off along that axis"
            )

    def _name(self, k: int) -> str:
        return f" of structure {k}" if self.n_systems > 1 else ""

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all structures."""
        return self.positions.shape[0]

    @property
    def n_systems(self) -> int:
        """Number of structures."""
        return self.cell.shape[0]

    @property
    def volumes(self) -> Tensor:
        """Cell volumes [n_systems], Å³; zero where the cell has rank below 3, but for rounding."""
        volumes: Tensor = torch.linalg.det(self.cell).abs()
        longest = torch.linalg.vector_norm(self.cell, dim=2).prod(1)
        return torch.where(volumes > 1e-10 * longest, volumes, 0.0)

    def structure_of(self, atom: int) -> tuple[int, int]:
        """The structure that an atom belongs to, and the first atom of that structure."""
        k = int(self.system_index[atom])
        return k, int((self.system_index < k).sum())

    def copy(self) -> System:
        """The same batch, which stays when a host program moves its atoms in place."""
        return self._each(torch.clone)

    def to(self, device: torch.device | str) -> System:
        """Return the same batch on another device."""
        if self.positions.device == torch.device(device):
            return self
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> System:
        """The same batch in other tensors of the same values, which were checked before."""
        made = object.__new__(System)
        for field in fields(self):
            value = getattr(self, field.name)
            object.__setattr__(made, field.name, None if value is None else change(value))
        return made

    @property
    def counts(self) -> list[int]:
        """Number of atoms of each structure."""
        if self.n_systems == 1:
            return [self.n_atoms]
        found: list[int] = torch.bincount(self.system_index, minlength=self.n_systems).tolist()
        return found

    def select(self, chosen: list[int]) -> System:
        """The structures ``chosen``, numbers in increasing order."""
        if len(chosen) == self.n_systems:
            return self
        new = torch.full((self.n_systems,), -1, dtype=torch.int64, device=self.cell.device)
        new[chosen] = torch.arange(len(chosen), device=new.device)
        atoms = new[self.system_index] >= 0
        return System(
            self.positions[atoms],
            self.numbers[atoms],
            self.cell[chosen],
            self.pbc[chosen],
            new[self.system_index[atoms]],
            None if self.charge is None else self.charge[chosen],
            None if self.spin is None else self.spin[chosen],
        )

    @staticmethod
    def cat(systems: Sequence[System]) -> System:
        """Join batches into one, in order.

        Raises:
            ValueError: If ``systems`` is empty.
        """
        if not systems:
            raise ValueError("systems: expected at least one System, got none")
        if len(systems) == 1:
            return systems[0]
        starts = [0]
        for system in systems:
            starts.append(starts[-1] + system.n_systems)
        return System(
            torch.cat([s.positions for s in systems]),
            torch.cat([s.numbers for s in systems]),
            torch.cat([s.cell for s in systems]),
            torch.cat([s.pbc for s in systems]),
            torch.cat(
                [s.system_index + start for s, start in zip(systems, starts[:-1], strict=True)]
            ),
            _joined([s.charge for s in systems], systems, 0.0),
            _joined([s.spin for s in systems], systems, 1.0),
        )


def _near(lengths: Tensor) -> bool:
    """Whether all are finite and at most ``FARTHEST``; the norm of NaN is NaN."""
    return not lengths.numel() or float(torch.linalg.vector_norm(lengths, math.inf)) <= FARTHEST


def _is_roomy(cell: list[list[float]], pbc: list[bool]) -> bool:
    """Whether a cell [3][3], Å, has full rank for certain, found without a decomposition.

    The smallest singular value is at least the volume over the square of the largest, which the
    Frobenius norm bounds.
    """
    if not all(pbc):
        return not any(pbc)
    (a, b, c), (d, e, f), (g, h, i) = cell
    volume = abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))
    norm = math.hypot(a, b, c, d, e, f, g, h, i)
    return volume > 1e-9 * norm**2 * max(1.0, norm)


def _joined(
    values: Sequence[Tensor | None], systems: Sequence[System], default: float
) -> Tensor | None:
    """Numbers of all structures [n_systems], or ``None`` if no batch has any."""
    if all(value is None for value in values):
        return None
    return torch.cat(
        [
            s.cell.new_full((s.n_systems,), default) if value is None else value
            for value, s in zip(values, systems, strict=True)
        ]
    )
