"""Barostats and ramps reach what they are set to."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms

from ase_pet.workflows.md import DYNAMICS, MDSettings, run_md
from ase_pet.workflows.md.integrator import Integrator
from ase_pet.workflows.md.settings import BAROSTATS


class IdealGas(Calculator):
    """Atoms that do not feel each other: p V = N k T."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        forces = np.zeros((len(self.atoms), 3))
        self.results = {"energy": 0.0, "free_energy": 0.0, "forces": forces}
        self.results["stress"] = np.zeros(6)


def gas() -> Atoms:
    return Atoms("He64", cell=[10.0, 11.0, 12.0], pbc=True, calculator=IdealGas())


@pytest.mark.parametrize("dynamics", BAROSTATS)
def test_a_barostat_presses(dynamics: str) -> None:
    settings = MDSettings(
        dynamics,
        steps=1000,
        time_step=2.0,
        temperature=300.0,
        damping=50.0,
        pressure=0.3,
        pressure_damping=100.0,
        equilibration=300,
        interval=5,
    )
    atoms = gas()
    record = run_md(atoms, settings)
    summary = record.summary()
    expected = 64 * units.kB * 300.0 / (0.3 * units.GPa)
    assert summary["mean_volume_A3"] == pytest.approx(expected, rel=0.1)
    assert summary["mean_pressure_GPa"] == pytest.approx(0.3, rel=0.1)
    assert record["volume_A3"][0] == pytest.approx(1320.0, rel=1e-3)
    assert np.ptp(record["conserved_eV"]) < 0.01 * record["kinetic_eV"].mean()
    shape = atoms.cell.array / atoms.get_volume() ** (1 / 3)
    start = np.diag([10.0, 11.0, 12.0]) / 1320.0 ** (1 / 3)
    assert np.allclose(shape, start) == (dynamics == "mtk-isotropic")


@pytest.mark.parametrize("dynamics", [name for name in DYNAMICS if name != "nve"])
def test_a_ramp_cools(dynamics: str) -> None:
    settings = MDSettings(
        dynamics,
        steps=1000,
        time_step=2.0,
        temperature=900.0,
        end_temperature=300.0,
        damping=25.0,
        pressure=0.5 if dynamics.startswith("mtk") else None,
        pressure_damping=100.0,
    )
    record = run_md(gas(), settings)
    temperature = record["temperature_K"]
    assert temperature[35:66].mean() == pytest.approx(600.0, rel=0.15)
    assert temperature[-15:].mean() == pytest.approx(342.0, rel=0.2)
    # a thermostat that is moved does work that only Bussi's account has
    assert ("conserved_eV" in record.columns()) == (dynamics == "bussi")


def test_relaxation_times_stay_while_the_temperature_goes() -> None:
    atoms = gas()
    options = {"temperature": 300.0, "pressure": 1.0, "steps": 2}
    there = MDSettings("mtk-full", end_temperature=600.0, **options)
    integrator = Integrator(atoms, there, np.random.default_rng(0))
    integrator._set_temperature(600.0)
    hot = MDSettings("mtk-full", **{**options, "temperature": 600.0})
    other = Integrator(gas(), hot, np.random.default_rng(0))
    mine, theirs = integrator.state(), other.state()
    for name in ("_thermostat._Q", "_thermostat._kT", "_barostat._R", "_barostat._W", "_kT"):
        assert mine[name] == pytest.approx(theirs[name])


def test_without_a_free_energy_nothing_is_known_to_be_conserved() -> None:
    atoms = gas()
    atoms.calc.implemented_properties = ["energy", "forces", "stress"]
    record = run_md(atoms, MDSettings("nose-hoover", steps=2, temperature=300.0))
    assert "conserved_eV" not in record.columns()


def test_structures_that_do_not_suit() -> None:
    settings = MDSettings("mtk-full", temperature=300.0, pressure=0.0)
    slab = gas()
    slab.pbc = (True, True, False)
    with pytest.raises(ValueError, match="'mtk-full' needs a cell that is periodic in three"):
        run_md(slab, settings)
    fixed = gas()
    fixed.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="takes no constraints; remove them or choose 'langevin'"):
        run_md(fixed, MDSettings("nose-hoover", temperature=300.0))
