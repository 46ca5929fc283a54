"""One host program a file: how ase_pet is called from outside."""
