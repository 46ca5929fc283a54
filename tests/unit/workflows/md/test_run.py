"""Molecular dynamics: conservation, thermostats, and runs that go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron

from ase_pet.workflows.md import HBAR, MDSettings, run_md

FILES = {"md.traj", "md.csv", "md.png", "md.checkpoint.npz", "final.extxyz", "summary.json"}


class Explosive(Calculator):
    """EMT until a step, then something worse."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, after: int, worse: float | BaseException) -> None:
        super().__init__()
        self.left, self.worse = after, worse

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.left -= 1
        if self.left < 0 and isinstance(self.worse, BaseException):
            raise self.worse
        factor = self.worse if self.left < 0 else 1.0
        copied = atoms.copy()
        copied.calc = EMT()
        self.results = {
            "energy": copied.get_potential_energy() * factor,
            "forces": copied.get_forces() * factor,
        }


def crystal() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    return atoms


def test_a_free_cluster_conserves_energy_and_angular_momentum(tmp_path: Path) -> None:
    atoms = Icosahedron("Cu", 2)
    atoms.calc = EMT()
    record = run_md(atoms, MDSettings(steps=100, time_step=2.0, temperature=300.0), tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert {p.name for p in tmp_path.iterdir()} == FILES
    assert found["status"] == "finished"
    assert found["n_steps"] == 100
    assert len(record.rows) == 11
    assert found["time_ps"] == pytest.approx(0.2)
    assert found["angular_momentum_start_hbar"] > 10.0
    assert found["angular_momentum_change_hbar"] < 1e-9 * found["angular_momentum_start_hbar"]
    assert np.ptp(record["conserved_eV"]) < 0.01 * np.ptp(record["potential_eV"])
    assert np.allclose(record["potential_eV"] + record["kinetic_eV"], record["conserved_eV"])
    assert np.allclose(record.angular_momentum[-1] * HBAR, atoms.get_angular_momentum())


def test_a_run_continues_from_the_velocities_it_left(tmp_path: Path) -> None:
    whole, halves = crystal(), crystal()
    run_md(whole, MDSettings(steps=20, temperature=300.0))
    run_md(halves, MDSettings(steps=10, temperature=300.0), tmp_path)
    again = ase.io.read(tmp_path / "final.extxyz")
    again.calc = EMT()
    run_md(again, MDSettings(steps=10, temperature=300.0))
    # A crystal has no angular momentum to be conserved.
    assert "angular_momentum" not in (tmp_path / "summary.json").read_text()
    # extended XYZ keeps eight digits
    assert np.allclose(whole.positions, again.positions, atol=1e-6)
    assert np.allclose(whole.get_momenta(), again.get_momenta(), atol=1e-5)


@pytest.mark.parametrize("dynamics", ["langevin", "bussi", "nose-hoover"])
def test_thermostats_give_back_what_the_lattice_takes(dynamics: str) -> None:
    settings = MDSettings(dynamics, steps=150, time_step=3.0, temperature=600.0, damping=20.0)
    record = run_md(crystal(), settings)
    # without a thermostat half of the kinetic energy goes into the lattice: 300 K
    assert record["temperature_K"][5:].mean() > 400.0
    assert ("conserved_eV" in record.columns()) == (dynamics != "langevin")
    if dynamics != "langevin":
        assert np.ptp(record["conserved_eV"]) < 0.05 * np.ptp(record["kinetic_eV"])


@pytest.mark.parametrize("dynamics", ["langevin", "bussi"])
def test_the_seed_decides(dynamics: str) -> None:
    ends = []
    for seed in (1, 1, 2):
        settings = MDSettings(dynamics, steps=5, temperature=600.0, seed=seed)
        ends.append(run_md(crystal(), settings)["temperature_K"][-1])
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.parametrize(
    ("worse", "message"),
    [
        (float("nan"), "not finite at step 4"),
        (1e5, "K at step 4, beyond max_temperature"),
        (ValueError("atoms too close"), "after step 3: atoms too close"),
    ],
)
def test_a_run_that_goes_wrong_keeps_its_last_good_structure(
    tmp_path: Path, worse: float | BaseException, message: str
) -> None:
    atoms = crystal()
    atoms.calc = Explosive(4, worse)
    with pytest.raises(RuntimeError, match=message) as caught:
        run_md(atoms, MDSettings(steps=50, temperature=300.0, interval=1), tmp_path)
    assert str(tmp_path / "final.extxyz") in str(caught.value)
    good = ase.io.read(tmp_path / "final.extxyz")
    reference = crystal()
    run_md(reference, MDSettings(steps=3, temperature=300.0))
    assert np.allclose(good.positions, reference.positions, atol=1e-6)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["status"] == "failed"
    assert found["time_ps"] == pytest.approx(0.003)


def test_an_interrupted_run_leaves_its_files(tmp_path: Path) -> None:
    atoms = crystal()
    atoms.calc = Explosive(6, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_md(atoms, MDSettings(steps=50, temperature=300.0, interval=2), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == FILES
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "interrupted"
    assert len(ase.io.read(tmp_path / "md.traj", ":")) == 3


def test_a_start_that_fails_leaves_an_earlier_run_alone(tmp_path: Path) -> None:
    settings = MDSettings(steps=4, temperature=300.0, interval=1)
    run_md(crystal(), settings, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    atoms = crystal()
    atoms.calc = Explosive(0, ValueError("atoms too close"))
    with pytest.raises(RuntimeError, match="atoms too close") as caught:
        run_md(atoms, settings, tmp_path)
    assert "final.extxyz" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_atom_and_atoms_at_rest() -> None:
    atoms = Atoms("Cu", calculator=EMT())
    record = run_md(atoms, MDSettings(steps=3, temperature=100.0))
    assert record["temperature_K"] == pytest.approx(100.0)
    with pytest.raises(ValueError, match=r"atoms: at rest; give a temperature in K .--temperature"):
        run_md(crystal(), MDSettings(steps=3))


def test_a_calculator_is_needed() -> None:
    with pytest.raises(ValueError, match="no calculator attached"):
        run_md(bulk("Cu"), MDSettings())


def test_a_run_shorter_than_the_interval_records_its_end() -> None:
    record = run_md(crystal(), MDSettings(steps=5, temperature=300.0))
    assert len(record.rows) == 2
    assert record.summary()["time_ps"] == pytest.approx(0.005)


def test_equilibration_is_in_the_table_but_in_no_average_and_no_frame(tmp_path: Path) -> None:
    common = {"temperature": 600.0, "interval": 4}
    run_md(crystal(), MDSettings(steps=30, **common))
    record = run_md(crystal(), MDSettings(steps=20, equilibration=10, **common), tmp_path)
    assert record["time_ps"] * 1000 == pytest.approx([2, 6, 10, 14, 18, 22, 26, 30])
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["mean_temperature_K"] == pytest.approx(record["temperature_K"][2:].mean())
    assert found["time_ps"] == pytest.approx(0.02)
    frames = ase.io.read(tmp_path / "md.traj", ":")
    assert [atoms.info["step"] for atoms in frames] == [10, 14, 18, 22, 26, 30]
    energies = [atoms.get_potential_energy() for atoms in frames]
    assert energies == record["potential_eV"][2:].tolist()


def test_pressure_is_recorded_where_there_is_one() -> None:
    settings = MDSettings(steps=3, temperature=300.0)
    assert "pressure_GPa" in run_md(crystal(), settings).columns()
    cluster = Icosahedron("Cu", 2)
    cluster.calc = EMT()
    columns = run_md(cluster, settings).columns()
    assert not {"pressure_GPa", "volume_A3"} & columns.keys()


def test_no_number_in_a_row_may_stop_being_one() -> None:
    record = run_md(crystal(), MDSettings(steps=3, temperature=300.0))
    broken = list(record.rows[-1])
    broken[8] = float("nan")
    with pytest.raises(RuntimeError, match=r"pressure_GPa is not finite at 0\.003 ps"):
        record.append(tuple(broken))
