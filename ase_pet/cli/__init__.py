"""The command line ``ase-pet``."""

from ase_pet.cli.main import app

__all__ = ["app"]
