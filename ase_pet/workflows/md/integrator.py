"""ASE's integrators: made, kept at a changing temperature, and their state taken and given back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet

from ase_pet.workflows.md.settings import BAROSTATS, MDSettings

_THERMOSTAT = tuple(f"_thermostat.{name}" for name in ("_eta", "_p_eta", "_Q", "_kT"))
_BAROSTAT = tuple(f"_barostat.{name}" for name in ("_xi", "_p_xi", "_R", "_W", "_kT"))
#: What ASE's integrators remember from step to step, beside what is in the atoms.
STATE: dict[str, tuple[str, ...]] = {
    "nve": (),
    "langevin": (),
    "bussi": ("transferred_energy",),
    "nose-hoover": ("_q", "_p", *_THERMOSTAT),
    "mtk-isotropic": (
        *("_q", "_p", "_eps", "_p_eps", "_volume0", "_cell0", "_kT"),
        *(*_THERMOSTAT, *_BAROSTAT),
    ),
    "mtk-full": ("_q", "_p", "_h", "_p_g", "_kT", *_THERMOSTAT, *_BAROSTAT),
}
#: Momenta and masses of thermostats and barostats, which go with the temperature, so that
#: velocities of the one and the relaxation times of the other stay.
_SCALED = (
    *("_kT", "_p_eps", "_p_g"),
    *("_thermostat._kT", "_thermostat._Q", "_thermostat._p_eta"),
    *("_barostat._kT", "_barostat._W", "_barostat._R", "_barostat._p_xi"),
)


class Integrator:
    """One of ASE's integrators, whose state can be written down.

    Args:
        atoms: With velocities and a calculator; they are moved.
        settings: What to run.
        rng: Of the thermostat; its state is part of the integrator's.

    Attributes:
        dynamics: ASE's object.
        conserved: The energy (eV) that it ought to conserve; ``None`` where there is none.

    Raises:
        ValueError: If the structure does not suit the dynamics.
    """

    def __init__(self, atoms: Atoms, settings: MDSettings, rng: np.random.Generator) -> None:
        _check_structure(atoms, settings)
        self.atoms, self.settings, self.rng = atoms, settings, rng
        self.dynamics, self.conserved = _make(atoms, settings, rng)

    @property
    def step(self) -> int:
        """How many steps were done."""
        return self.dynamics.nsteps

    @property
    def time_ps(self) -> float:
        """Time since the start, ps."""
        return self.dynamics.get_time() / (1000.0 * units.fs)

    def run(self) -> Iterator[int]:
        """Go on to the end; gives the number of steps done, first those before."""
        for _ in self.dynamics.irun(self.settings.total - self.step):
            yield self.step
            if self.settings.end_temperature is not None:
                self._set_temperature(float(self.settings.temperature_at(self.step) or 0.0))

    def _set_temperature(self, kelvin: float) -> None:
        dynamics: Any = self.dynamics
        kT = kelvin * units.kB
        if isinstance(dynamics, Langevin):
            dynamics.set_temperature(temperature_K=kelvin)
        elif isinstance(dynamics, Bussi):
            dynamics.temp, dynamics.target_kinetic_energy = kT, 0.5 * kT * dynamics.ndof
        else:
            factor = kT / dynamics._thermostat._kT
            for name in set(_SCALED) & set(STATE[self.settings.dynamics]):
                self._assign(name, attrgetter(name)(dynamics) * factor)

    def _assign(self, name: str, value: Any) -> None:
        *path, last = name.split(".")
        setattr(attrgetter(*path)(self.dynamics) if path else self.dynamics, last, value)

    def state(self) -> dict[str, np.ndarray]:
        """Copies of everything from which the run continues bit for bit, as plain arrays."""
        atoms = self.atoms
        found = {name: np.array(attrgetter(name)(self.dynamics)) for name in self._names}
        found |= {"positions": atoms.get_positions(), "momenta": atoms.get_momenta()}
        found |= {"cell": atoms.cell.array.copy(), "step": np.array(self.step)}
        # The state of a bit generator has integers of 128 bits, which arrays do not hold.
        return {**found, "rng": np.array(json.dumps(self.rng.bit_generator.state))}

    @property
    def _names(self) -> tuple[str, ...]:
        return STATE[self.settings.dynamics]

    @classmethod
    def restored(
        cls, atoms: Atoms, settings: MDSettings, state: dict[str, np.ndarray]
    ) -> Integrator:
        """The integrator that :meth:`state` was taken of; the atoms are moved there.

        Raises:
            KeyError: If something is missing in the state.
        """
        place(atoms, state)
        rng = np.random.default_rng()
        rng.bit_generator.state = json.loads(str(state["rng"]))
        found = cls(atoms, settings, rng)
        for name in found._names:
            value = state[name]
            found._assign(name, value.copy() if value.ndim else float(value))
        found.dynamics.nsteps = int(state["step"])
        return found


def place(atoms: Atoms, state: dict[str, np.ndarray]) -> None:
    """Move atoms to positions, momenta and the cell of a state, whatever constraints say."""
    atoms.set_cell(state["cell"])
    atoms.set_positions(state["positions"], apply_constraint=False)
    atoms.set_momenta(state["momenta"], apply_constraint=False)


def _check_structure(atoms: Atoms, settings: MDSettings) -> None:
    name = settings.dynamics
    if name in BAROSTATS and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ValueError(f"atoms: {name!r} needs a cell that is periodic in three directions")
    if atoms.constraints and name in ("nose-hoover", *BAROSTATS):
        raise ValueError(
            f"atoms: ASE's {name!r} takes no constraints; remove them or choose 'langevin' or "
            "'bussi'"
        )


def _make(
    atoms: Atoms, settings: MDSettings, rng: np.random.Generator
) -> tuple[MolecularDynamics, Callable[[], float] | None]:
    """ASE's integrator, and the energy that it ought to conserve."""
    step, damping = settings.time_step * units.fs, settings.damping * units.fs
    kelvin = float(settings.temperature or 0.0)
    if settings.dynamics == "nve":
        return VelocityVerlet(atoms, step), atoms.get_total_energy
    if settings.dynamics == "langevin":
        # ASE's fixcm does not sample the canonical ensemble; the centre of mass is left free.
        friction = 1.0 / damping
        langevin = Langevin(
            atoms, step, temperature_K=kelvin, friction=friction, fixcm=False, rng=rng
        )
        return langevin, None
    if settings.dynamics == "bussi":
        bussi = Bussi(atoms, step, temperature_K=kelvin, taut=damping, rng=rng)
        return bussi, lambda: atoms.get_total_energy() - bussi.transferred_energy
    chain: NoseHooverChainNVT | IsotropicMTKNPT | MTKNPT
    if settings.dynamics == "nose-hoover":
        chain = NoseHooverChainNVT(atoms, step, temperature_K=kelvin, tdamp=damping)
    else:
        barostat = IsotropicMTKNPT if settings.dynamics == "mtk-isotropic" else MTKNPT
        chain = barostat(
            atoms,
            step,
            temperature_K=kelvin,
            pressure_au=float(settings.pressure or 0.0) * units.GPa,
            tdamp=damping,
            pdamp=settings.pressure_damping * units.fs,
        )
    # A moving thermostat does work that nobody writes down; ASE's sum takes the free energy.
    unknown = settings.end_temperature is not None or (
        "free_energy" not in atoms.calc.implemented_properties
    )
    return chain, None if unknown else chain.get_conserved_energy
