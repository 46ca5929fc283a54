"""What to run, and how to record it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

BAROSTATS = ("mtk-isotropic", "mtk-full")
DYNAMICS = ("nve", "langevin", "bussi", "nose-hoover", *BAROSTATS)
FORMATS = ("traj", "extxyz", "h5")
_POSITIVE = ("steps", "time_step", "damping", "pressure_damping", "interval", "max_temperature")


@dataclass(frozen=True, slots=True)
class MDSettings:
    """How to run molecular dynamics.

    Temperatures are ASE's, of 3 n_atoms degrees of freedom. From atoms at rest, the centre of mass
    rests, too, and stays there with all thermostats but ``"langevin"``: the other motions are then
    hotter than ``temperature`` by n_atoms / (n_atoms - 1), an eighth for nine atoms.

    Attributes:
        dynamics: ``"nve"`` (velocity Verlet); a thermostat: ``"langevin"``, ``"bussi"``
            (stochastic velocity rescaling), ``"nose-hoover"`` (chain); or one with a barostat by
            Martyna, Tobias and Klein: ``"mtk-isotropic"`` (volume), ``"mtk-full"`` (cell).
        steps: Number of time steps after equilibration.
        time_step: fs.
        temperature: K, of the thermostat and of the velocities that atoms at rest are given;
            ``None`` is for "nve" from the velocities that the atoms have.
        damping: fs, relaxation time of the thermostat.
        interval: Steps between two records; of shorter runs, start and end are recorded.
        seed: Of velocities and thermostat, at least 0.
        max_temperature: K; beyond it the run stops as unstable.
        end_temperature: K; the thermostat's temperature goes there linearly from ``temperature``
            during ``steps``.
        pressure: GPa, for barostats.
        pressure_damping: fs, relaxation time of the barostat.
        equilibration: Steps before the others, at ``temperature``; they are in ``md.csv``, but
            neither in averages nor in the trajectory.
        format: Of the trajectory: ``"traj"`` (ASE), ``"extxyz"`` (eight decimals) or ``"h5"``
            (H5MD 1.1).
        max_gap: Å; an atom further than this from all others, measured perpendicular to periodic
            directions, has left the system, and the run stops; atoms that were as far at the
            start may stay so, and where all directions are periodic none can leave.
        checkpoint_seconds: Wall time between two checkpoints.

    Raises:
        ValueError: If a value makes no sense.
    """

    dynamics: str = "nve"
    steps: int = 1000
    time_step: float = 1.0
    temperature: float | None = None
    damping: float = 100.0
    interval: int = 10
    seed: int = 0
    max_temperature: float = 10_000.0
    end_temperature: float | None = None
    pressure: float | None = None
    pressure_damping: float = 1000.0
    equilibration: int = 0
    format: str = "traj"
    max_gap: float = 10.0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, known in (("dynamics", DYNAMICS), ("format", FORMATS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {known}, got {getattr(self, name)!r}")
        for name in (*_POSITIVE, "max_gap"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("seed", "equilibration", "checkpoint_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.temperature is None and self.dynamics != "nve":
            raise ValueError(
                f"temperature: {self.dynamics!r} needs one, got None; give it in K (--temperature "
                "on the command line)"
            )
        for name in ("temperature", "end_temperature"):
            kelvin = getattr(self, name)
            if kelvin is not None and not 0 < kelvin < self.max_temperature:
                raise ValueError(
                    f"{name}: expected 0 < {name} < {self.max_temperature} K "
                    f"(max_temperature), got {kelvin}"
                )
        if self.end_temperature is not None and self.dynamics == "nve":
            raise ValueError("end_temperature: 'nve' has no thermostat; choose another dynamics")
        self._check_pressure()

    def _check_pressure(self) -> None:
        if self.dynamics not in BAROSTATS:
            if self.pressure is not None:
                raise ValueError(
                    f"pressure: {self.dynamics!r} keeps the cell; choose one of {BAROSTATS}"
                )
        elif self.pressure is None or not abs(self.pressure) < float("inf"):
            raise ValueError(
                f"pressure: {self.dynamics!r} needs one in GPa (1 bar is 0.0001), got "
                f"{self.pressure}"
            )

    @property
    def total(self) -> int:
        """Number of steps, equilibration included."""
        return self.equilibration + self.steps

    @property
    def every(self) -> int:
        """Steps between two records, as they are."""
        return min(self.interval, self.steps)

    def is_recorded(self, step: int) -> bool:
        """Whether a step has its row in ``md.csv``."""
        return (step - self.equilibration) % self.every == 0

    def temperature_at(self, step: int) -> float | None:
        """Temperature (K) of the thermostat during the step that follows ``step`` others."""
        if self.end_temperature is None or self.temperature is None:
            return self.temperature
        part = min(max(step - self.equilibration, 0) / self.steps, 1.0)
        return self.temperature + part * (self.end_temperature - self.temperature)

    def identity(self) -> dict[str, Any]:
        """What must be the same where a run continues: all that the outcome depends on.

        A run at constant temperature may become longer.
        """
        found = asdict(self)
        del found["checkpoint_seconds"]
        if self.end_temperature is None:
            del found["steps"]
            found["interval"] = self.every
        return found
