"""Graph -> energies of the atoms: backbones, baselines and their sum."""
