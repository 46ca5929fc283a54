"""Molecular dynamics, relaxation and phonons: thin layers on ASE and phonopy."""
