"""What a trajectory says: structure, diffusion, vibrations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.signal import welch

from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.neighbors import make_search
from ase_pet.workflows.motion import Motion

#: Blocks of a trajectory, whose scatter gives the error of a diffusion coefficient.
N_BLOCKS = 4
#: 1 Å²/ps in cm²/s.
CM2_PER_S = 1e-4


class MissingDataError(ValueError):
    """The trajectory has not what a kind of analysis needs."""


@dataclass(frozen=True)
class RDF:
    """Radial distribution functions.

    Attributes:
        distances: Middles of the bins [n_bins], Å.
        g: By pair of elements, such as ``"H-O"`` (and ``"all"``): [n_bins], 1 where there is no
            order.
        coordination: By the same pairs: how many of the second element an atom of the first has,
            on average, up to the far end of each bin [n_bins].
    """

    distances: np.ndarray
    g: dict[str, np.ndarray]
    coordination: dict[str, np.ndarray]


@dataclass(frozen=True)
class MSD:
    """Mean squared displacements and what they say of diffusion.

    Attributes:
        times: Lags [n_lags], ps.
        msd: By element (and ``"all"``): [n_lags], Å².
        window: Between which lags (ps) lines were fitted.
        diffusion: By the same names: diffusion coefficient and its standard error, cm²/s.
    """

    times: np.ndarray
    msd: dict[str, np.ndarray]
    window: tuple[float, float]
    diffusion: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class VDOS:
    """Vibrational density of states.

    Attributes:
        frequencies: [n_frequencies], THz.
        dos: By element (and ``"all"``): [n_frequencies], states/THz; 3 n_atoms states in all.
    """

    frequencies: np.ndarray
    dos: dict[str, np.ndarray]


def radial_distribution(motion: Motion, r_max: float = 6.0, n_bins: int = 200) -> RDF:
    r"""Radial distribution functions of pairs of elements, periodic images included.

    .. math:: g_{ab}(r) = \frac{\langle V n_{ab}(r) \rangle}{N_a N_b\, 4 \pi r^2 \Delta r}

    with :math:`n_{ab}` the number of ordered pairs in a bin; ``r_max`` may exceed half the cell.

    Args:
        motion: The trajectory.
        r_max: Å.
        n_bins: Number of bins.

    Raises:
        MissingDataError: If there is no volume.
        ValueError: If a number is not positive.

    Source:
        Allen & Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), section 2.6.
    """
    if not motion.pbc.all():
        raise MissingDataError(
            "rdf: there is no density; it needs a cell periodic in three directions"
        )
    if not (0 < r_max < float("inf") and n_bins > 0):
        raise ValueError(f"rdf: expected positive r_max and bins, got {r_max} Å and {n_bins}")
    search, edges = make_search(), np.linspace(0.0, r_max, n_bins + 1)
    elements, kind = np.unique(motion.numbers, return_inverse=True)
    counts = np.zeros((2, len(elements), len(elements), n_bins))  # as they are, times volumes
    for cell, positions in zip(motion.cells, motion.positions, strict=True):
        system = system_from_atoms([Atoms(motion.numbers, positions, cell=cell, pbc=True)])
        pairs = search(system, r_max)
        r = pairs.vectors(system).norm(dim=1).numpy()
        where = (kind[pairs.centers.numpy()] * len(elements) + kind[pairs.others.numpy()]) * n_bins
        where += np.minimum((r * (n_bins / r_max)).astype(int), n_bins - 1)
        found = np.bincount(where, minlength=counts[0].size).reshape(counts[0].shape)
        counts += found, found * abs(np.linalg.det(cell))
    counts /= len(motion)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    n = np.bincount(kind)
    g, around = {}, {}
    for a, b in combinations_with_replacement(range(len(elements)), 2):
        name = f"{chemical_symbols[elements[a]]}-{chemical_symbols[elements[b]]}"
        g[name] = counts[1, a, b] / (n[a] * n[b] * shells)
        around[name] = counts[0, a, b].cumsum() / n[a]
    if len(elements) > 1:
        g["all"] = counts[1].sum((0, 1)) / (n.sum() ** 2 * shells)
        around["all"] = counts[0].sum((0, 1)).cumsum() / n.sum()
    return RDF(0.5 * (edges[1:] + edges[:-1]), g, around)


def mean_squared_displacement(motion: Motion, window: tuple[float, float] | None = None) -> MSD:
    r"""Mean squared displacements over all time origins, and Einstein's diffusion coefficients.

    .. math:: \mathrm{MSD}(t) = \langle |r_i(t_0 + t) - r_i(t_0)|^2 \rangle, \quad
        \mathrm{MSD}(t) \to 6 D t + c

    Displacements are those of atoms followed across cell boundaries, relative to the centre of
    mass. The error of D is the standard error of its values in four blocks of the trajectory.
    Finite cells make D too small by some 10 % (Yeh & Hummer, 2004), which is not corrected.

    Args:
        motion: The trajectory.
        window: Lags (ps) between which lines are fitted; by default from a tenth to half of a
            block.

    Raises:
        MissingDataError: If frames are too few, or the file does not say how far apart.
        ValueError: If the window does not lie within a block.

    Source:
        Allen & Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), section 2.7; sums over
        origins as Calandrini et al., Collection SFN 12, 201 (2011), eq. (28).
    """
    spacing, size = _spacing(motion, "msd"), len(motion) // N_BLOCKS
    if size < 10:
        raise MissingDataError(
            f"msd: expected at least {10 * N_BLOCKS} frames, got {len(motion)}; run longer or "
            "record more often"
        )
    longest = (size - 1) * spacing
    window = window or (0.1 * longest, 0.5 * longest)
    if not 0 <= window[0] < window[1] <= longest * (1 + 1e-9):
        raise ValueError(
            f"msd: expected a window within 0 to {longest:g} ps (a {N_BLOCKS}th of the "
            f"trajectory), got {window[0]:g} to {window[1]:g} ps"
        )
    times = np.arange(len(motion)) * spacing
    fitted = (times[:size] >= window[0] * (1 - 1e-9)) & (times[:size] <= window[1] * (1 + 1e-9))
    if fitted.sum() < 3:
        raise ValueError("msd: expected at least 3 frames within the window; make it wider")
    moves = motion.displacements()
    blocks = [moves[k * size : (k + 1) * size] for k in range(N_BLOCKS)]
    whole, parts = _windowed(moves), np.array([_windowed(block) for block in blocks])
    msd, diffusion = {}, {}
    for name, chosen in _groups(motion.numbers).items():
        msd[name] = whole[:, chosen].mean(1)
        slopes = [
            np.polyfit(times[:size][fitted], curve[:size][fitted], 1)[0] / 6.0 * CM2_PER_S
            for curve in (msd[name], *parts[:, :, chosen].mean(2))
        ]
        error = float(np.std(slopes[1:], ddof=1)) / np.sqrt(N_BLOCKS)
        diffusion[name] = (float(slopes[0]), float(error))
    return MSD(times, msd, (float(window[0]), float(window[1])), diffusion)


def vibrational_density_of_states(motion: Motion, n_segments: int = 4) -> VDOS:
    r"""Vibrational density of states from the power spectrum of velocities.

    .. math:: D(\nu) \propto \sum_i m_i \left| \int v_i(t)\, w(t)\, e^{-2 \pi i \nu t} dt \right|^2

    averaged over overlapping segments with a Hann window (Welch), and normalised to 3 n_atoms
    states. Classical: each mode counts by its kinetic energy, modes above half the sampling rate
    are folded back.

    Args:
        motion: The trajectory, with velocities.
        n_segments: By how much shorter than the trajectory a segment is; more are smoother and
            coarser.

    Raises:
        MissingDataError: If there are no velocities, or frames are too few, or the file does not
            say how far apart.

    Source:
        Dickey & Paskin, Phys. Rev. 188, 1407 (1969); Welch, IEEE Trans. Audio Electroacoust. 15,
        70 (1967).
    """
    spacing = _spacing(motion, "vdos")
    if motion.velocities is None:
        raise MissingDataError(
            "vdos: there are no velocities in the file; use one that keeps momenta"
        )
    if n_segments < 1:
        raise ValueError(f"vdos: expected a positive number of segments, got {n_segments}")
    if len(motion) < 16 * n_segments:
        raise MissingDataError(
            f"vdos: expected at least {16 * n_segments} frames for {n_segments} segment(s), got "
            f"{len(motion)}; run longer or record more often"
        )
    frequencies, power = welch(
        motion.velocities,
        fs=1.0 / spacing,
        nperseg=len(motion) // n_segments,
        detrend=False,
        axis=0,
    )
    power = power.sum(2) * motion.masses
    total = power.sum() * (frequencies[1] - frequencies[0])
    if not total > 0:
        raise ValueError("vdos: all velocities in the file are zero; use one of a run")
    scaled = power * (3 * len(motion.numbers) / total)
    groups = _groups(motion.numbers)
    return VDOS(frequencies, {name: scaled[:, chosen].sum(1) for name, chosen in groups.items()})


def _windowed(moves: np.ndarray) -> np.ndarray:
    """Mean squared displacements [n, n_atoms] over all origins of ways [n, n_atoms, 3]."""
    n = len(moves)
    waves = np.fft.rfft(moves, 2 * n, axis=0)
    products = np.fft.irfft(np.abs(waves) ** 2, axis=0)[:n].sum(2)
    squares = (moves**2).sum(2)
    sums = np.concatenate([np.zeros((1, moves.shape[1])), squares.cumsum(0)])
    lags = np.arange(n)
    both = sums[n - lags] + (sums[n] - sums[lags])
    return np.maximum(both - 2.0 * products, 0.0) / (n - lags)[:, None]


def _groups(numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Atoms by element, and all where there are several."""
    elements = np.unique(numbers)
    found = {chemical_symbols[z]: np.flatnonzero(numbers == z) for z in elements}
    return found if len(elements) == 1 else {**found, "all": np.arange(len(numbers))}


def _spacing(motion: Motion, name: str) -> float:
    if motion.spacing is None:
        raise MissingDataError(
            f"{name}: the file does not say how many ps are between frames; give the spacing "
            "(--spacing on the command line)"
        )
    return motion.spacing
