"""Molecular dynamics by ASE's integrators: watched, recorded, continued bit for bit."""

from ase_pet.workflows.md.record import HBAR, MDRecord
from ase_pet.workflows.md.run import run_md
from ase_pet.workflows.md.settings import DYNAMICS, FORMATS, MDSettings

__all__ = ["DYNAMICS", "FORMATS", "HBAR", "MDRecord", "MDSettings", "run_md"]
