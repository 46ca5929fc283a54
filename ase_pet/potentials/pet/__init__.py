"""Point Edge Transformers: of the 2023 paper (:class:`PET`) and as metatrain trains them."""

from ase_pet.potentials.pet.modern import ModernPET
from ase_pet.potentials.pet.modern_hypers import ModernPETHypers
from ase_pet.potentials.pet.original import PET
from ase_pet.potentials.pet.original_hypers import PETHypers

__all__ = ["PET", "ModernPET", "ModernPETHypers", "PETHypers"]
