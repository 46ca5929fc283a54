"""Residual of the symmetry: 50 rotations and reflections of eleven structures, for each model.

Shipped models, and MatGL's TensorNet-MatPES-PBE where it lies beside the project. Energies relative
to |E| (at least 1 eV), all else to its largest component (at least 1 eV/Å, 0.01 eV/Å³, 0.1 e·Å and
0.1 e²Å²/eV), in float64, with the model's default symmetry and bare.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, surface
from ase.data import chemical_symbols, covalent_radii
from ase.stress import voigt_6_to_full_3x3_stress
from common import rotate, rotation, shipped, show, write
from remote import MATPES

from ase_pet import PETCalculator

N_ROTATIONS = 50


def structures(species: tuple[int, ...]) -> dict[str, Atoms]:
    """Ten structures of the elements that a model knows."""
    z = max(species)
    a, symbol, r = min(species), chemical_symbols[z], covalent_radii[z]
    b = 2 * r * 1.05
    s = r + covalent_radii[a]
    rng = np.random.default_rng(5)
    crystal = "diamond" if z == 14 else "fcc"
    lattice = 5.43 if z == 14 else b * 2**0.5
    cubic = bulk(symbol, crystal, a=lattice, cubic=True)
    rattled = cubic.repeat((2, 1, 1))
    rattled.rattle(0.1, seed=1)
    triclinic = Atoms(
        [symbol] * 3,
        scaled_positions=[[0.1, 0.2, 0.1], [0.6, 0.4, 0.5], [0.3, 0.8, 0.7]],
        cell=b * np.array([[1.5, 0.1, 0.0], [0.4, 1.4, 0.2], [-0.3, 0.3, 1.7]]),
        pbc=True,
    )
    slab = surface(cubic, (1, 1, 1), 2, vacuum=6.0)
    slab.pbc = (True, True, False)
    slab.rattle(0.05, seed=2)
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
    tetrahedron = Atoms([z, a, a, a, a], [[0, 0, 0], *(s * corners)])
    molecule = tetrahedron.copy()
    molecule.rattle(0.1, seed=3)
    cluster = Atoms([z, a] * 4, positions=rng.normal(size=(8, 3)) * b)
    while (cluster.get_all_distances() + 9 * np.eye(8)).min() < 0.8 * s:
        cluster.positions = rng.normal(size=(8, 3)) * b
    line = Atoms([a, z, a], [[-s, 0, 0], [0, 0, 0], [s, 0, 0]])
    bent = Atoms([a, z, a], [[-s, 0, 0], [0, 0, 0], [s, 1e-4, 0]])
    return {
        "bulk, rattled": rattled,
        "perfect crystal": cubic,
        "triclinic": triclinic,
        "slab": slab,
        "molecule": molecule,
        "symmetric molecule": tetrahedron,
        "cluster": cluster,
        "dimer": Atoms([z, a], [[0, 0, 0], [0, 0, s]]),
        "line": rotate(line, rotation(rng)),
        "almost a line": rotate(bent, rotation(rng)),
        "isolated atom": Atoms([z]),
    }


def deviations(calc: PETCalculator, atoms: Atoms) -> tuple[float, float, float, float]:
    """Largest relative deviation of energy, forces, stress, and dipole and polarizability."""
    rng = np.random.default_rng(0)
    qs = [rotation(rng, reflect=bool(k % 2)) for k in range(N_ROTATIONS)]
    reference, *turned = calc.compute([atoms, *(rotate(atoms, q) for q in qs)])
    energy, forces = reference["energy"], reference["forces"]
    force_scale = max(1.0, float(np.abs(forces).max()))
    de = df = ds = dt = 0.0
    for q, out in zip(qs, turned, strict=True):
        de = max(de, abs(out["energy"] - energy) / max(1.0, abs(energy)))
        df = max(df, float(np.abs(out["forces"] - forces @ q.T).max()) / force_scale)
        if "stress" in reference:
            stress = voigt_6_to_full_3x3_stress(reference["stress"])
            other = voigt_6_to_full_3x3_stress(out["stress"])
            scale = max(0.01, float(np.abs(stress).max()))
            ds = max(ds, float(np.abs(other - q @ stress @ q.T).max()) / scale)
        for name in (n for n in ("dipole", "polarizability") if n in reference):
            expected = q @ reference[name]
            expected = expected if name == "dipole" else expected @ q.T
            scale = max(0.1, float(np.abs(expected).max()))
            dt = max(dt, float(np.abs(out[name] - expected).max()) / scale)
    return de, df, ds, dt


def main() -> None:
    """Measure every shipped model."""
    data = {}
    others = {MATPES.name: MATPES} if MATPES.is_dir() else {}
    for name, path in {**shipped(), **others}.items():
        ecse = PETCalculator(path, dtype="float64")
        bare = PETCalculator(path, dtype="float64", symmetry=None)
        rows = []
        species = ecse.model.species if len(ecse.model.species) < 20 else (8, 14)
        for label, atoms in structures(species).items():
            row = [*deviations(ecse, atoms), *deviations(bare, atoms)]
            rows.append([label, *row])
        columns = ["energy", "forces", "stress", "tensors"]
        show(
            f"{name}: largest relative deviation over {N_ROTATIONS} rotations and reflections",
            ["structure", *(f"{c}, ECSE" for c in columns), *(f"{c}, bare" for c in columns)],
            rows,
        )
        data[name] = {label: values for label, *values in rows}
    write("symmetry", data)


if __name__ == "__main__":
    main()
