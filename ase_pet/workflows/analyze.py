"""From a trajectory file to tables, pictures and a summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ase_pet.units import THZ_IN_INVERSE_CM
from ase_pet.workflows.analysis import (
    MissingDataError,
    mean_squared_displacement,
    radial_distribution,
    vibrational_density_of_states,
)
from ase_pet.workflows.analysis_plots import plot_msd, plot_rdf, plot_vdos
from ase_pet.workflows.motion import Motion, read_motion
from ase_pet.workflows.output import write_csv, write_figure, write_json
from ase_pet.workflows.provenance import provenance

KINDS = ("rdf", "msd", "vdos")


def analyze(
    trajectory: str | Path,
    out_dir: str | Path,
    kinds: Sequence[str] | None = None,
    *,
    skip: int = 0,
    spacing: float | None = None,
    r_max: float = 6.0,
    window: tuple[float, float] | None = None,
    n_segments: int = 4,
) -> dict[str, Any]:
    """Analyse a trajectory; each kind leaves a table and a picture.

    Args:
        trajectory: Any file that ASE reads, or H5MD of ``ase-pet md``.
        out_dir: Folder for ``rdf.csv``, ``rdf.png`` and so on, and ``analysis.json``.
        kinds: Some of ``"rdf"``, ``"msd"``, ``"vdos"``; by default those for which the file has
            what they need.
        skip: Frames to leave out at the start.
        spacing: ps between two frames, for files that do not say.
        r_max: Å, reach of the radial distribution.
        window: Lags, ps, between which diffusion is fitted.
        n_segments: Of the spectrum of velocities.

    Returns:
        What was found; ``analysis.json`` has it too, with command, date and versions.

    Raises:
        ValueError: If the file cannot be read, a kind is unknown, or one that was asked for, or
            all, cannot be had.
    """
    unknown = sorted(set(kinds or ()) - set(KINDS))
    if unknown:
        raise ValueError(f"kinds: expected some of {KINDS}, got {unknown}")
    motion, out = read_motion(trajectory, spacing).after(skip), Path(out_dir)
    work = {
        "rdf": lambda: _rdf(motion, out, r_max),
        "msd": lambda: _msd(motion, out, window),
        "vdos": lambda: _vdos(motion, out, n_segments),
    }
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "trajectory": str(trajectory),
        "n_frames": len(motion),
        "n_atoms": len(motion.numbers),
        "spacing_ps": motion.spacing,
    }
    left_out: dict[str, str] = {}
    for kind in kinds or KINDS:
        with _unless_missing(left_out, kind, asked=bool(kinds)):
            found[kind] = work[kind]()
    if len(left_out) == len(KINDS):
        raise ValueError("; ".join(f"{kind}: {why}" for kind, why in left_out.items()))
    if left_out:
        found["left_out"] = left_out
    write_json(out / "analysis.json", {**provenance(), **found})
    return found


@contextmanager
def _unless_missing(left_out: dict[str, str], kind: str, *, asked: bool) -> Iterator[None]:
    """Say why a kind is left out that was not asked for by name."""
    try:
        yield
    except MissingDataError as error:
        if asked:
            raise
        left_out[kind] = str(error).removeprefix(f"{kind}: ")


def _rdf(motion: Motion, out: Path, r_max: float) -> dict[str, Any]:
    rdf = radial_distribution(motion, r_max)
    columns = {"distance_A": rdf.distances}
    columns |= {f"g_{name}": g for name, g in rdf.g.items()}
    columns |= {f"coordination_{name}": n for name, n in rdf.coordination.items()}
    write_csv(out / "rdf.csv", columns)
    write_figure(out / "rdf.png", plot_rdf(rdf))
    return {
        name: {"highest_peak_A": float(rdf.distances[g.argmax()]), "height": float(g.max())}
        for name, g in rdf.g.items()
    }


def _msd(motion: Motion, out: Path, window: tuple[float, float] | None) -> dict[str, Any]:
    msd = mean_squared_displacement(motion, window)
    columns = {f"msd_{name}_A2": values for name, values in msd.msd.items()}
    write_csv(out / "msd.csv", {"time_ps": msd.times, **columns})
    write_figure(out / "msd.png", plot_msd(msd))
    found: dict[str, Any] = {"window_ps": list(msd.window)}
    for name, (best, error) in msd.diffusion.items():
        found[name] = {"diffusion_cm2_per_s": best, "standard_error_cm2_per_s": error}
    return found


def _vdos(motion: Motion, out: Path, n_segments: int) -> dict[str, Any]:
    vdos = vibrational_density_of_states(motion, n_segments)
    columns = {"frequency_THz": vdos.frequencies}
    columns |= {"wavenumber_inverse_cm": vdos.frequencies * THZ_IN_INVERSE_CM}
    columns |= {f"dos_{name}_states_per_THz": dos for name, dos in vdos.dos.items()}
    write_csv(out / "vdos.csv", columns)
    write_figure(out / "vdos.png", plot_vdos(vdos))
    scale = THZ_IN_INVERSE_CM
    total = list(vdos.dos.values())[-1]  # of all atoms, or of the only element
    return {
        "resolution_inverse_cm": float(vdos.frequencies[1]) * scale,
        "highest_inverse_cm": float(vdos.frequencies[-1]) * scale,
        "highest_peak_inverse_cm": float(vdos.frequencies[total.argmax()]) * scale,
    }
