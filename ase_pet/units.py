"""Unit conversions. Inside the project: eV, Å, eV/Å, eV/Å³, atomic mass units.

Source:
    CODATA 2014 values as used by ``ase.units``; 1 eV/Å³ = 160.21766208 GPa.
"""

from __future__ import annotations

#: 1 eV/Å³ in GPa.
EV_PER_A3_IN_GPA = 160.21766208
#: 1 eV in meV.
EV_IN_MEV = 1000.0
#: 1 THz in cm⁻¹.
THZ_IN_INVERSE_CM = 33.35640951981521
#: Coulomb constant e²/(4πε₀) in eV·Å.
COULOMB_EV_A = 14.399645478425668
#: Units of energy in eV.
ENERGY_UNITS = {
    "eV": 1.0,
    "meV": 1e-3,
    "hartree": 27.211386024367243,
    "kcal/mol": 0.04336410390059322,
    "kJ/mol": 0.010364269574711572,
}
#: Units of length in Å.
LENGTH_UNITS = {"angstrom": 1.0, "bohr": 0.5291772105638411, "nm": 10.0}
