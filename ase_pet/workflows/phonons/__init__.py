"""Phonons through phonopy: harmonic, Grüneisen parameters, the quasi-harmonic approximation."""

from ase_pet.workflows.phonons.bands import band_path
from ase_pet.workflows.phonons.forces import evaluate_forces, make_workers
from ase_pet.workflows.phonons.gruneisen import GruneisenRecord, check_change, compute_gruneisen
from ase_pet.workflows.phonons.harmonic import PhononRecord, compute_phonons
from ase_pet.workflows.phonons.qha import QHARecord, check_changes, compute_qha
from ase_pet.workflows.phonons.settings import PhononSettings
from ase_pet.workflows.phonons.volumes import bring_to_rest

__all__ = [
    "GruneisenRecord",
    "PhononRecord",
    "PhononSettings",
    "QHARecord",
    "band_path",
    "bring_to_rest",
    "check_change",
    "check_changes",
    "compute_gruneisen",
    "compute_phonons",
    "compute_qha",
    "evaluate_forces",
    "make_workers",
]
