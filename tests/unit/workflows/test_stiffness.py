"""Elastic tensors: known solids, rotations, symmetry."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from ase_pet.workflows.stiffness import (
    Stiffness,
    conventional_axes,
    point_group,
    rotated,
    symmetrized,
)


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    C = np.diag([c11 - c12] * 3 + [c44] * 3)
    C[:3, :3] += c12
    return C


def random_tensor() -> np.ndarray:
    C = np.random.default_rng(0).normal(size=(6, 6))
    return C @ C.T + 3.0 * np.eye(6)


def test_an_isotropic_solid_has_its_lame_constants() -> None:
    lam, mu = 50.0, 30.0
    tensor = Stiffness(cubic(lam + 2 * mu, lam, mu))
    found = tensor.summary()
    assert found["stable"]
    for name in ("voigt", "reuss", "hill"):
        assert found["bulk_modulus_GPa"][name] == pytest.approx(lam + 2 * mu / 3)
        assert found["shear_modulus_GPa"][name] == pytest.approx(mu)
    assert found["young_modulus_GPa"] == pytest.approx(mu * (3 * lam + 2 * mu) / (lam + mu))
    assert found["poisson_ratio"] == pytest.approx(lam / (2 * (lam + mu)))
    assert found["universal_anisotropy"] == pytest.approx(0.0, abs=1e-12)
    assert np.allclose(tensor.eigenvalues, [2 * mu] * 5 + [3 * lam + 2 * mu])
    directions = Rotation.random(5, random_state=0).as_matrix()[:, 0]
    assert np.allclose(tensor.young(directions), found["young_modulus_GPa"])


def test_a_cubic_crystal_by_its_formulae() -> None:
    c11, c12, c44 = 168.0, 121.0, 75.0
    tensor = Stiffness(cubic(c11, c12, c44))
    found = tensor.summary()
    c = 0.5 * (c11 - c12)
    assert found["shear_modulus_GPa"]["voigt"] == pytest.approx((2 * c + 3 * c44) / 5)
    assert found["shear_modulus_GPa"]["reuss"] == pytest.approx(5 * c * c44 / (2 * c44 + 3 * c))
    assert tensor.young(np.eye(3)) == pytest.approx((c11 - c12) * (c11 + 2 * c12) / (c11 + c12))
    diagonal = tensor.young(np.full((1, 3), 3**-0.5))[0]
    bulk_modulus = (c11 + 2 * c12) / 3
    assert diagonal == pytest.approx(9 * bulk_modulus * c44 / (3 * bulk_modulus + c44))


def test_born_stability() -> None:
    assert Stiffness(cubic(2.0, 1.0, 0.1)).stable
    for c in (cubic(1.0, 1.1, 1.0), cubic(1.0, -0.6, 1.0), cubic(2.0, 1.0, -0.1)):
        found = Stiffness(c).summary()
        assert not found["stable"]
        assert found["eigenvalues_GPa"][0] < 0.0
        assert "bulk_modulus_GPa" not in found


def test_rotations_turn_stress_and_strain_alike() -> None:
    C, R = random_tensor(), -Rotation.random(random_state=1).as_matrix()
    strain = np.random.default_rng(2).normal(size=(3, 3))
    strain = strain + strain.T

    def stress(constants: np.ndarray, of: np.ndarray) -> np.ndarray:
        voigt = np.array([of[0, 0], of[1, 1], of[2, 2], *(2 * of[[1, 0, 0], [2, 2, 1]])])
        xx, yy, zz, yz, xz, xy = constants @ voigt
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])

    assert np.allclose(stress(rotated(C, R), R @ strain @ R.T), R @ stress(C, strain) @ R.T)
    assert np.allclose(Stiffness(rotated(C, R)).eigenvalues, Stiffness(C).eigenvalues)


@pytest.mark.parametrize("turned", [False, True])
def test_the_point_group_leaves_three_constants_of_a_cubic_crystal(turned: bool) -> None:
    atoms = bulk("Si")
    R = Rotation.random(random_state=3).as_matrix() if turned else np.eye(3)
    atoms.set_cell(atoms.cell.array @ R.T, scale_atoms=True)
    group = point_group(atoms, 1e-5)
    assert len(group) == 48
    assert np.allclose(group @ group.transpose(0, 2, 1), np.eye(3))
    C = rotated(symmetrized(random_tensor(), group), R.T)
    assert np.allclose(C, cubic(C[0, 0], C[0, 1], C[3, 3]))
    axes = conventional_axes(atoms, 1e-5)
    expected = rotated(cubic(3.0, 1.0, 2.0), R)
    assert np.allclose(rotated(expected, axes), cubic(3.0, 1.0, 2.0))


def test_symmetrizing_keeps_what_is_symmetric() -> None:
    group = point_group(bulk("Mg"), 1e-5)
    C = symmetrized(random_tensor(), group)
    assert len(group) == 24
    assert np.allclose(symmetrized(C, group), C)
    assert C[5, 5] == pytest.approx(0.5 * (C[0, 0] - C[0, 1]))


def test_no_symmetry_is_told() -> None:
    overlapping = Atoms("Cu2", [[0, 0, 0], [0, 0, 1e-9]], cell=[2, 2, 2], pbc=True)
    with pytest.raises(ValueError, match=r"spglib finds no symmetry.*; give another symprec"):
        point_group(overlapping, 1e-5)
