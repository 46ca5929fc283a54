"""Structure, diffusion and vibrations that are known beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ase_pet.units import THZ_IN_INVERSE_CM
from ase_pet.workflows.analysis import (
    RDF,
    MissingDataError,
    mean_squared_displacement,
    radial_distribution,
    vibrational_density_of_states,
)
from ase_pet.workflows.analysis_plots import plot_rdf
from ase_pet.workflows.motion import Motion


def motion_of(atoms: Atoms, positions, velocities=None, spacing: float | None = 0.01) -> Motion:
    """Frames [n_frames, n_atoms, 3] in one cell."""
    cells = np.repeat(atoms.cell.array[None], len(positions), axis=0)
    return Motion(
        atoms.numbers, atoms.get_masses(), atoms.pbc, cells, positions, velocities, spacing
    )


def test_shells_of_a_crystal_in_a_cell_smaller_than_they_are() -> None:
    a = 5.64
    atoms = bulk("NaCl", "rocksalt", a=a)  # primitive: all neighbours are images
    rdf = radial_distribution(motion_of(atoms, atoms.positions[None]), r_max=4.5, n_bins=450)
    r = rdf.distances
    assert rdf.g.keys() == {"Na-Na", "Na-Cl", "Cl-Cl", "all"} or "Cl-Na" in rdf.g
    mixed = next(name for name in rdf.g if len(set(name.split("-"))) == 2)
    assert rdf.coordination[mixed][r < a / 2 + 0.1][-1] == pytest.approx(6)
    assert rdf.coordination["Na-Na"][-1] == pytest.approx(12)  # at a / sqrt 2
    assert r[rdf.g["Na-Na"].argmax()] == pytest.approx(a / np.sqrt(2), abs=0.01)
    assert rdf.coordination["all"][-1] == pytest.approx(18)
    left = bulk("NaCl", "rocksalt", a=a)
    left.set_cell(left.cell.array[[1, 0, 2]])
    other = radial_distribution(motion_of(left, left.positions[None]), r_max=4.5, n_bins=450)
    assert other.g[mixed] == pytest.approx(rdf.g[mixed])
    # the integral of g is the coordination, with the density of the second element
    shells = 4 * np.pi * (r**2 + 0.01**2 / 12) * 0.01
    found = (rdf.g[mixed] * shells).sum() / atoms.get_volume()
    assert found == pytest.approx(rdf.coordination[mixed][-1])


def test_an_ideal_gas_has_no_structure() -> None:
    rng = np.random.default_rng(0)
    atoms = Atoms("HO" * 100, cell=np.array([[10, 0, 0], [3, 10, 0], [0, 2, 12.0]]), pbc=True)
    positions = rng.random((20, 200, 3)) @ atoms.cell.array
    rdf = radial_distribution(motion_of(atoms, positions), r_max=5.0, n_bins=5)
    for g in rdf.g.values():
        assert g[1:] == pytest.approx(1.0, abs=0.05)


def test_volumes_of_each_frame_count() -> None:
    atoms = bulk("Cu", cubic=True)
    cells = np.array([atoms.cell.array, 1.1 * atoms.cell.array])
    positions = np.array([atoms.positions, 1.1 * atoms.positions])
    both = Motion(atoms.numbers, atoms.get_masses(), atoms.pbc, cells, positions, None, None)
    one = radial_distribution(motion_of(atoms, positions[:1]), 4.0, 8)
    large = motion_of(Atoms(atoms, cell=cells[1]), positions[1:])
    other = radial_distribution(large, 4.0, 8)
    found = radial_distribution(both, 4.0, 8).g["Cu-Cu"]
    assert found == pytest.approx(0.5 * (one.g["Cu-Cu"] + other.g["Cu-Cu"]))


def walk(n_frames: int, n_atoms: int, sigma: float) -> tuple[Atoms, np.ndarray]:
    atoms = Atoms("H" * n_atoms, cell=[3.0, 4.0, 5.0], pbc=True)
    steps = np.random.default_rng(1).normal(0.0, sigma, (n_frames, n_atoms, 3))
    return atoms, steps.cumsum(0)


def test_a_random_walk_diffuses_although_it_is_wrapped() -> None:
    atoms, positions = walk(400, 60, sigma=0.2)
    motion = motion_of(atoms, positions, spacing=0.01)
    found = mean_squared_displacement(motion)
    # sigma²/(2 dt) in each direction, less what goes with the centre of mass
    expected = 0.2**2 / (2 * 0.01) * (1 - 1 / 60) * 1e-4
    best, error = found.diffusion["H"]
    assert 0 < error < 0.1 * expected
    assert abs(best - expected) < 4 * error
    quarters = [motion_of(atoms, part, spacing=0.01) for part in np.split(positions, 4)]
    same = {"window": (0.02, 0.1)}
    parts = [mean_squared_displacement(one, **same).diffusion["H"][0] for one in quarters]
    expected = np.std(parts, ddof=1) / 2
    assert mean_squared_displacement(motion, **same).diffusion["H"][1] == pytest.approx(expected)
    wrapped = motion_of(atoms, positions % np.array([3.0, 4.0, 5.0]), spacing=0.01)
    again = mean_squared_displacement(wrapped)
    assert again.msd["H"] == pytest.approx(found.msd["H"])
    assert again.diffusion["H"] == pytest.approx(found.diffusion["H"])


def test_mean_squared_displacements_are_those_of_the_definition() -> None:
    atoms, positions = walk(60, 3, sigma=0.1)
    atoms.numbers[0] = 8
    motion = motion_of(atoms, positions)
    moves = motion.displacements()
    drift = np.einsum("i,tix->tx", motion.masses, moves)
    assert drift == pytest.approx(np.zeros((60, 3)), abs=1e-12)
    found = mean_squared_displacement(motion).msd
    for lag in (0, 1, 7, 59):
        squares = ((moves[lag:] - moves[: 60 - lag]) ** 2).sum(2).mean(0)
        assert found["O"][lag] == pytest.approx(squares[0], abs=1e-12)
        assert found["H"][lag] == pytest.approx(squares[1:].mean(), abs=1e-12)
        assert found["all"][lag] == pytest.approx(squares.mean(), abs=1e-12)


def test_a_cell_that_breathes_moves_nobody() -> None:
    atoms = bulk("Cu", cubic=True)
    scales = 1.0 + 0.02 * np.sin(np.arange(40))
    cells = scales[:, None, None] * atoms.cell.array
    positions = scales[:, None, None] * (atoms.positions + 30.0)
    motion = Motion(atoms.numbers, atoms.get_masses(), atoms.pbc, cells, positions, None, 0.01)
    assert np.abs(motion.displacements()).max() < 1e-10
    positions[1:, 0] += 0.25 * cells[1:, 0]  # and stays there
    moves = replace(motion, positions=positions).displacements()
    assert (moves[:, 0] - moves[:, 1])[[1, -1], 0] == pytest.approx(0.25 * cells[1, 0, 0])


def test_where_nothing_is_periodic_the_longer_way_is_the_way() -> None:
    atoms = Atoms("H2", cell=[4.0, 4.0, 4.0], pbc=(True, True, False))
    positions = np.zeros((2, 2, 3))
    positions[1, 0] = (3.0, 0.0, 3.0)
    first, second = motion_of(atoms, positions).displacements()[1]
    assert first - second == pytest.approx([-1.0, 0.0, 3.0])


def test_oscillators_are_found_at_their_frequencies() -> None:
    atoms = Atoms("HO", pbc=False)
    atoms.set_masses([1.0, 2.0])
    t = np.arange(2000) * 0.002
    velocities = np.zeros((2000, 2, 3))
    velocities[:, 0, 0] = np.cos(2 * np.pi * 30.0 * t)
    velocities[:, 1, 1] = np.cos(2 * np.pi * 60.0 * t)
    motion = motion_of(atoms, velocities, velocities, spacing=0.002)
    found = vibrational_density_of_states(motion)
    step = found.frequencies[1]
    assert found.frequencies[found.dos["H"].argmax()] == pytest.approx(30.0, abs=step)
    assert found.frequencies[found.dos["O"].argmax()] == pytest.approx(60.0, abs=step)
    areas = {name: dos.sum() * step for name, dos in found.dos.items()}
    # modes count by their kinetic energies, here 1 to 2
    assert areas == pytest.approx({"H": 2.0, "O": 4.0, "all": 6.0}, rel=1e-3)
    assert pytest.approx(1000.7, abs=0.1) == 30.0 * THZ_IN_INVERSE_CM


@pytest.mark.parametrize(
    ("analysis", "change", "message"),
    [
        (radial_distribution, {"pbc": np.array([True, True, False])}, "rdf: there is no density"),
        (mean_squared_displacement, {"spacing": None}, "msd: the file does not say"),
        (mean_squared_displacement, {}, "msd: expected at least 40 frames, got 2"),
        (vibrational_density_of_states, {"velocities": None}, "vdos: there are no velocities"),
        (vibrational_density_of_states, {}, "vdos: expected at least 64 frames"),
    ],
)
def test_what_is_missing_is_named(analysis, change: dict, message: str) -> None:
    atoms = bulk("Cu")
    frames = np.repeat(atoms.positions[None], 2, axis=0)
    with pytest.raises(MissingDataError, match=message):
        analysis(replace(motion_of(atoms, frames, frames), **change))


def test_numbers_that_make_no_sense() -> None:
    atoms, positions = walk(60, 3, sigma=0.1)
    motion = motion_of(atoms, positions, positions)
    with pytest.raises(ValueError, match="positive r_max"):
        radial_distribution(motion, r_max=0.0)
    with pytest.raises(ValueError, match=r"window within 0 to 0\.14 ps"):
        mean_squared_displacement(motion, window=(0.1, 0.2))
    with pytest.raises(ValueError, match="at least 3 frames within the window"):
        mean_squared_displacement(motion, window=(0.1, 0.105))
    with pytest.raises(ValueError, match="positive number of segments"):
        vibrational_density_of_states(motion, n_segments=0)
    with pytest.raises(ValueError, match="velocities in the file are zero"):
        vibrational_density_of_states(motion_of(atoms, positions, 0 * positions), n_segments=1)


def test_each_pair_of_elements_has_a_panel_of_its_own_scale() -> None:
    r = np.linspace(0.5, 6.0, 12)
    g = {"H-O": np.where(r < 1.1, 30.0, 1.0), "O-O": np.where(r > 2.5, 1.0, 0.0)}
    panels = plot_rdf(RDF(r, g, {name: np.cumsum(values) for name, values in g.items()})).axes
    assert [panel.get_legend().get_texts()[0].get_text() for panel in panels] == list(g)
    assert panels[0].get_ylim()[1] > 30.0
    assert panels[1].get_ylim()[1] < 2.0
    assert [panel.get_xlabel() for panel in panels] == ["", "distance, Å"]
