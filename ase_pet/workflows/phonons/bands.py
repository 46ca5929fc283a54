"""The band path, bands with group velocities, and irreducible representations at Γ."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import seekpath
from phonopy import Phonopy
from phonopy.phonon.band_structure import (
    BandStructure,
    get_band_qpoints_and_path_connections,
)
from phonopy.phonon.irreps import IrRepLabels
from phonopy.structure.atoms import PhonopyAtoms
from seekpath.hpkot import EdgeCaseWarning

from ase_pet.units import THZ_IN_INVERSE_CM

#: 1 THz·Å in km/s.
THZ_A_IN_KM_PER_S = 0.1


def band_path(
    primitive: PhonopyAtoms, n_points: int, symprec: float
) -> tuple[list[np.ndarray], list[bool], list[str]]:
    """Path through the Brillouin zone, in the basis of the cell as it is, by seekpath.

    Phonopy's own automatic path is in the basis of seekpath's standard cell, which is another
    than that of a rotated or unusually chosen primitive cell.

    Args:
        primitive: Primitive cell.
        n_points: q-points of the longest segment.
        symprec: Å, tolerance of the space group.

    Returns:
        q-points of each segment; whether each is connected to the next; labels.
    """
    # In edge cases, such as a lattice parameter at a boundary, either path is a valid one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgeCaseWarning)
        path = seekpath.get_path_orig_cell(primitive.totuple(), symprec=symprec)
    chains: list[list[str]] = []
    for start, end in path["path"]:
        if chains and chains[-1][-1] == start:
            chains[-1].append(end)
        else:
            chains.append([start, end])
    corners = [[path["point_coords"][name] for name in chain] for chain in chains]
    reciprocal = np.linalg.inv(primitive.cell).astype(np.float64)
    qpoints, connections = get_band_qpoints_and_path_connections(corners, n_points, reciprocal)
    labels = [_label(name) for chain in chains for name in chain]
    return qpoints, connections, labels


def band_columns(bands: BandStructure) -> dict[str, np.ndarray]:
    """Frequencies and group velocities along the path: a row a q-point and band.

    Returns:
        Columns, the unit in each name: segment, distance along the path, q in the basis of the
        reciprocal vectors, number of the band (from 1), frequency, group velocity.
    """
    velocities = path_velocities(bands)
    parts = []
    for k, q in enumerate(bands.qpoints):
        n_points, n_bands = bands.frequencies[k].shape
        columns = [
            np.full(n_points * n_bands, k + 1),
            np.repeat(bands.distances[k], n_bands),
            *np.repeat(q, n_bands, axis=0).T,
            np.tile(np.arange(1, n_bands + 1), n_points),
            bands.frequencies[k].flatten() * THZ_IN_INVERSE_CM,
            *velocities[k].reshape(-1, 3).T,
        ]
        parts.append(columns)
    names = ["segment", "distance_1_per_A", "q_1", "q_2", "q_3", "band", "frequency_cm-1"]
    names += [f"group_velocity_{axis}_km_per_s" for axis in "xyz"]
    joined = (np.concatenate(column) for column in zip(*parts, strict=True))
    return dict(zip(names, joined, strict=True))


def path_velocities(bands: BandStructure) -> list[np.ndarray]:
    """Group velocities ∂ω/∂q of each segment [n_points, n_bands, 3], km/s."""
    return [np.asarray(v) * THZ_A_IN_KM_PER_S for v in bands.group_velocities or []]


def modes_at_gamma(phonon: Phonopy) -> list[dict[str, Any]]:
    """Degenerate modes at Γ, their frequency and irreducible representation.

    Returns:
        For each set: ``bands`` (from 1), ``frequency_cm-1`` (their mean) and ``irrep``, Mulliken's
        symbol or ``None`` where the modes belong to none, as numerical noise can bring about.
    """
    found = phonon.run_irreps([0.0, 0.0, 0.0], symmetry_adapted=True)
    labels = IrRepLabels(
        found.characters,
        found.conventional_rotations,
        phonon.primitive_symmetry.pointgroup_symbol,
        verbose=False,
    ).irrep_labels
    return [
        {
            "bands": [k + 1 for k in bands],
            "frequency_cm-1": float(found.frequencies[bands].mean() * THZ_IN_INVERSE_CM),
            "irrep": label,
        }
        for bands, label in zip(found.band_indices, labels or [], strict=True)
    ]


def _label(name: str) -> str:
    letter, _, index = name.partition("_")
    letter = "\\Gamma" if letter == "GAMMA" else f"\\mathrm{{{letter}}}"
    return f"${letter}_{{{index}}}$" if index else f"${letter}$"
