"""Conformance kit: what every potential and calculator must promise, for one's own models too.

from ase_pet.testing import check_potential

check_potential(my_potential, symmetry="O(3)")
"""

from ase_pet.testing.structures import structures
from ase_pet.testing.suite import check_calculator, check_potential
from ase_pet.testing.tolerances import FLOAT32, FLOAT64

__all__ = ["FLOAT32", "FLOAT64", "check_calculator", "check_potential", "structures"]
