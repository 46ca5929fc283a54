"""How to compute phonons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: Our names of methods -> phonopy's.
FORCE_CONSTANTS = {"finite-difference": "traditional", "symfc": "symfc"}


@dataclass(frozen=True, slots=True)
class PhononSettings:
    """How to compute phonons.

    Attributes:
        supercell: Repeats along the three lattice vectors; ``None`` makes each at least
            ``min_length`` long.
        min_length: Å, see ``supercell``.
        displacement: Å.
        two_sided: Displace atoms both ways: ``True``, ``False``, or ``None`` where symmetry does
            not already give the other way.
        use_symmetry: Displace only what the space group does not give.
        subtract_residual: Subtract the forces of the perfect supercell from all others. At Γ the
            residual forces of all cells add up: 5e-6 eV/Å is a third of a cm⁻¹ in silicon.
        symmetrize: Impose the acoustic sum rule and permutation symmetry on the force constants.
        force_constants: ``"finite-difference"``, or ``"symfc"``: a fit in which the force
            constants have the symmetries of the crystal and obey the sum rules.
        n_random: Displace all atoms in random directions, in this many supercells (twice as many
            with ``two_sided=True``); needs ``force_constants="symfc"``. ``None`` displaces one
            atom after the other.
        seed: Of the random directions.
        irreps: Label the modes at Γ by their irreducible representations.
        nac: File with Born effective charges and the dielectric tensor in phonopy's format
            ``BORN``, for the non-analytical term near Γ.
        mesh: Length, as phonopy counts it, that sets the density of q-points of the DOS.
        n_points: q-points of the longest segment of the band path.
        max_temperature: K, of the thermal properties.
        symprec: Å, tolerance of the space group.
        batch_atoms: Atoms that are evaluated together: what a worker takes at a time, and what
            is lost at most if the run is killed. Other batches change forces by rounding.

    Raises:
        ValueError: If a value makes no sense.
    """

    supercell: tuple[int, int, int] | None = None
    min_length: float = 12.0
    displacement: float = 0.01
    two_sided: bool | None = None
    use_symmetry: bool = True
    subtract_residual: bool = True
    symmetrize: bool = False
    force_constants: str = "finite-difference"
    n_random: int | None = None
    seed: int = 0
    irreps: bool = False
    nac: Path | None = None
    mesh: float = 100.0
    n_points: int = 101
    max_temperature: float = 1000.0
    symprec: float = 1e-5
    batch_atoms: int = 1024

    def __post_init__(self) -> None:
        for name in ("min_length", "displacement", "mesh", "max_temperature", "symprec"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name, least in (("n_points", 2), ("batch_atoms", 1), ("n_random", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")
        if self.supercell is not None and (len(self.supercell) != 3 or min(self.supercell) < 1):
            raise ValueError(
                f"supercell: expected three positive repeats like (3, 3, 3), got {self.supercell}"
            )
        self._check_method()

    def _check_method(self) -> None:
        if self.force_constants not in FORCE_CONSTANTS:
            raise ValueError(
                f"force_constants: expected one of {sorted(FORCE_CONSTANTS)}, got "
                f"{self.force_constants!r}"
            )
        if self.n_random is not None and self.force_constants != "symfc":
            raise ValueError(
                "n_random: random displacements need a fit of force constants; give "
                "force_constants='symfc' or leave n_random out"
            )
        if self.nac is not None and not Path(self.nac).is_file():
            raise ValueError(f"nac: {self.nac}: no such file; check the path")
        if self.irreps and not self.use_symmetry:
            raise ValueError("irreps: they are those of the space group; set use_symmetry=True")
