"""How much each contract may be missed by, with the reason.

A deviation is divided by the size of what is compared, but at least by 1 (eV, eV/Å, ...), so that
values near zero are not held to more digits than the sums that they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Network and geometry in double precision.
FLOAT64: Mapping[str, float] = MappingProxyType(
    {
        "mutation": 0.0,  # nothing is written to, so not a bit may differ
        "batch": 1e-12,  # sums of the same numbers in another order
        "permutation": 1e-12,  # likewise
        "translation": 1e-11,  # positions lose digits as they grow
        "supercell": 1e-10,  # sums of repeated numbers, normalised over more of them
        "handedness": 1e-10,  # same atoms, other shifts
        "rotation": 1e-10,  # rotated input is rounded, and frames divide by sines of angles
        "net_force": 1e-11,  # pairs cancel to rounding
        "net_torque": 1e-10,  # as rotation, of which it is the derivative
        "isolated_atom": 1e-12,  # nothing acts on it
        "forces": 1e-6,  # fourth-order differences of energies known to 1e-14
        "virial": 1e-6,  # likewise
        "gradients": 1e-9,  # the same derivative by another way; frames divide by sines
        "energy_jump": 1e-10,  # eV; energies known to 1e-13, a path piece of 1e-12 Å
        "force_jump": 1e-6,  # eV/Å; kinks of 1e5 eV/Å² within 1e-12 Å are not jumps
        "difference_step": 1e-5,  # Å or strain, no tolerance: where rounding and curvature are even
    }
)

#: Network in single precision, geometry in double: what float32 sums over a network leave.
FLOAT32: Mapping[str, float] = MappingProxyType(
    {
        "mutation": 0.0,  # not a matter of rounding
        "batch": 1e-4,  # other kernels for other shapes: 1e-7 a number, over some layers
        "permutation": 1e-4,  # likewise
        "translation": 1e-4,  # vectors in another last bit, then a float32 network
        "supercell": 1e-4,  # likewise
        "handedness": 1e-4,  # likewise
        "rotation": 1e-3,  # likewise, and derivatives of frames enlarge it
        "net_force": 1e-4,  # pairs cancel to rounding in float64, gradients come in float32
        "net_torque": 1e-3,  # as rotation
        "isolated_atom": 1e-6,  # nothing acts on it
        "forces": 3e-2,  # differences of energies known to 1e-6 at best
        "virial": 3e-2,  # likewise
        "gradients": 1e-3,  # the same derivative by another way
        "energy_jump": 1e-4,  # eV; what float32 leaves of an energy
        "force_jump": 1e-2,  # eV/Å; likewise, of derivatives
        "difference_step": 3e-3,  # Å or strain, no tolerance: where rounding and curvature are even
    }
)
