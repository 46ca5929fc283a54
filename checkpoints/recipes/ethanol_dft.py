"""Kohn-Sham energies, gradients and polarizabilities with PySCF, for ``make_ethanol_data.py``.

In atomic units and for closed shells; the polarizability knows hybrid GGAs and density fitting.
"""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
from ase.units import Bohr
from pyscf import dft, gto, lib
from pyscf.dft.numint import NumInt

#: The response equations are solved on the first grid, α is evaluated on the second.
RESPONSE_GRID_LEVELS = (0, 1)


class StoredOrbitals(NumInt):
    """Numerical integration that evaluates the basis functions once, not in every cycle."""

    def block_loop(self, mol: gto.Mole, grids: dft.Grids, *args: Any, **options: Any) -> Any:
        """The blocks of PySCF's own loop, from memory after the first time."""
        key = (id(mol), id(grids), args)
        if getattr(self, "_key", None) != key:
            loop = super().block_loop(mol, grids, *args, **options)
            self._blocks = [(np.array(ao, order="K"), *rest) for ao, *rest in loop]
            self._key = key
        return iter(self._blocks)


def molecule_of(atoms: ase.Atoms, basis: str) -> gto.Mole:
    """PySCF's molecule, with ASE's Bohr radius."""
    pairs = list(zip(atoms.get_chemical_symbols(), atoms.positions / Bohr, strict=True))
    return gto.M(atom=pairs, unit="Bohr", basis=basis, verbose=0)


def converge(mol: gto.Mole, functional: str, level: int, tolerance: float) -> dft.rks.RKS:
    """Kohn-Sham orbitals: first on a coarse grid, then on the wanted one."""
    density, fitting = None, None
    for step_level, step_tolerance in ((0, 1e-6), (level, tolerance)):
        mf = dft.RKS(mol, xc=functional).density_fit()
        mf._numint = StoredOrbitals()
        mf.with_df = fitting or mf.with_df
        mf.grids.level, mf.conv_tol = step_level, step_tolerance
        mf.kernel(density)
        density, fitting = mf.make_rdm1(), mf.with_df
    if not mf.converged:
        raise RuntimeError("expected a converged SCF; the geometry is too far from a sane one")
    return mf


def gradient(mf: dft.rks.RKS) -> np.ndarray:
    """Exact derivative (Hartree/Bohr) of the energy as computed, moving grid included."""
    method = mf.nuc_grad_method()
    method.grid_response = True
    return method.kernel()


def polarizability(mf: dft.rks.RKS, levels: tuple[int, int] = RESPONSE_GRID_LEVELS) -> np.ndarray:
    """Static polarizability (3, 3) in Bohr³ by the coupled-perturbed Kohn-Sham equations.

    They read ``H x = −r`` with ``H_ai,bj = (ε_a − ε_i) δ_ai,bj + 4 (ai|bj) − c (ab|ij) − c (aj|bi)
    + 4 f_ai,bj`` for doubly occupied i and empty a, the share c of exact exchange and the kernel f
    of the functional. The solution comes from a coarse grid for f; its error enters only squared
    in the stationary ``α = −4 (r·x + x·r + x·H x)``, which has f on a finer grid.
    """
    mol, n_occ = mf.mol, int(mf.mol.nelectron // 2)
    occupied, empty = mf.mo_coeff[:, :n_occ], mf.mo_coeff[:, n_occ:]
    gaps = mf.mo_energy[n_occ:, None] - mf.mo_energy[:n_occ]
    matrix = coulomb_and_exchange(mf, occupied, empty)
    dipoles = np.einsum("pa,xpq,qi->xai", empty, mol.intor("int1e_r"), occupied, optimize=True)

    def couple(vectors: np.ndarray, kernel: ExchangeCorrelationKernel) -> np.ndarray:
        x = np.asarray(vectors).reshape(-1, *gaps.shape)
        return (x.reshape(len(x), -1) @ matrix).reshape(x.shape) + kernel(x)

    coarse, fine = (ExchangeCorrelationKernel(mf, occupied, empty, level) for level in levels)
    start = (-dipoles / gaps).reshape(3, -1)
    x = lib.krylov(lambda v: (couple(v, coarse) / gaps).reshape(len(v), -1), start, tol=1e-7)
    x = np.asarray(x).reshape(dipoles.shape)
    first = np.einsum("xai,yai->xy", dipoles, x)
    second = np.einsum("xai,yai->xy", x, gaps * x + couple(x, fine))
    alpha = -4 * (first + first.T + second)
    return (alpha + alpha.T) / 2


def coulomb_and_exchange(mf: dft.rks.RKS, occupied: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """``4 (ai|bj) − c (ab|ij) − c (aj|bi)`` as a matrix over pairs ai, by density fitting."""
    integrals = lib.unpack_tril(mf.with_df._cderi)
    pairs, both_occupied, both_empty = (
        (left.T @ integrals @ right).reshape(len(integrals), -1)
        for left, right in ((empty, occupied), (occupied, occupied), (empty, empty))
    )
    n_occ, n_empty = occupied.shape[1], empty.shape[1]
    coulomb = pairs.T @ pairs
    direct = (both_empty.T @ both_occupied).reshape(n_empty, n_empty, n_occ, n_occ)
    swapped = coulomb.reshape(n_empty, n_occ, n_empty, n_occ).transpose(0, 3, 2, 1)
    exchange = (direct.transpose(0, 2, 1, 3) + swapped).reshape(coulomb.shape)
    return 4 * coulomb - mf._numint.hybrid_coeff(mf.xc) * exchange


class ExchangeCorrelationKernel:
    """Product of the GGA kernel, four times ``f_ai,bj``, with a vector ``x_bj``."""

    def __init__(self, mf: dft.rks.RKS, occupied: np.ndarray, empty: np.ndarray, level: int):
        grids, integrator = dft.Grids(mf.mol), NumInt()
        grids.level = level
        grids.build()
        basis = integrator.eval_ao(mf.mol, grids.coords, deriv=1)
        density = integrator.eval_rho2(mf.mol, basis, mf.mo_coeff, mf.mo_occ, xctype="GGA")
        kernel = integrator.eval_xc_eff(mf.xc, density, deriv=2, xctype="GGA")[2]
        self.kernel = 4 * kernel * grids.weights
        self.occupied = np.stack([each @ occupied for each in basis])
        self.empty = np.stack([each @ empty for each in basis])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Changes of the potential by changes of the density, both (k, empty, occupied)."""
        k, n_empty, n_occ = x.shape
        changed = self.empty @ x.transpose(1, 0, 2).reshape(n_empty, -1)
        changed = changed.reshape(*changed.shape[:2], k, n_occ)
        density = np.einsum("gi,cgki->cgk", self.occupied[0], changed)
        density[1:] += np.einsum("cgi,gki->cgk", self.occupied[1:], changed[0])
        potential = np.einsum("cdg,dgk->cgk", self.kernel, density)
        sides = potential[..., None] * self.occupied[0][:, None]
        sides[0] += np.einsum("cgk,cgi->gki", potential[1:], self.occupied[1:])
        both = zip(self.empty, sides.reshape(4, -1, k * n_occ), strict=True)
        out = sum(empty.T @ side for empty, side in both)
        return out.reshape(n_empty, k, n_occ).transpose(1, 0, 2)
