"""The examples for other host programs run as a user runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.io import read

from tests.optional import needs

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "ecosystem"


def command(*words: object, cwd: Path = ROOT) -> str:
    """What a Python program or an installed command prints."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "default"}
    arguments = [sys.executable, *map(str, words)]
    done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(text: str, pattern: str) -> list[float]:
    """All numbers in the line that starts with ``pattern``, behind it."""
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith(pattern)]
    found = re.findall(r"-?\d+\.\d+(?:e[+-]\d+)?", line.removeprefix(pattern))
    return [float(x) for x in found]


def script(name: str) -> Path:
    """A command of phonopy or phono3py beside the interpreter."""
    return Path(sys.executable).with_name(name)


@needs("dftd3")
def test_dispersion() -> None:
    text = command(FOLDER / "dispersion_d3.py")
    (alone, _), (both, energy) = numbers(text, "model:"), numbers(text, "sum:")
    assert 5.46 < alone < 5.48
    assert alone - 0.1 < both < alone - 0.02
    parts = numbers(text, "parts of the sum:")
    assert parts[1] < -0.1
    assert sum(parts) == pytest.approx(energy, abs=2e-6)  # digits printed


@needs("torch_sim")
def test_torch_sim() -> None:
    text = command(FOLDER / "torchsim_batch.py", "--device", "cpu", "--steps", 40)
    relaxed = numbers(text, "relaxed, eV/atom:")
    drifts = numbers(text, "change of the total energy, eV/atom:")
    assert np.ptp(relaxed) < 5e-3  # of some 50 meV before
    assert np.abs(drifts).max() < 1e-3
    assert len(relaxed) == len(drifts) == 4


@needs("ipi")
@pytest.mark.parametrize("driver", ["direct", "socket"])
def test_ipi(tmp_path: Path, driver: str) -> None:
    text = command(FOLDER / "ipi_beads.py", "--steps", 8, "--out", tmp_path, "--driver", driver)
    assert "4 beads, 9 frames" in text
    table = np.loadtxt(tmp_path / "run.out")
    assert np.ptp(table[:, 5]) > 1e-2  # the potential energy changes
    assert np.ptp(table[:, 2]) < 5e-3  # what is conserved does not
    ends = [read(tmp_path / f"run.pos_{k}.xyz", -1).positions for k in range(4)]
    assert np.std(ends, axis=0).max() > 1e-2


@needs("matcalc", "pymatgen")
def test_matcalc_and_pymatgen() -> None:
    text = command(FOLDER / "matcalc_properties.py", "--supercell", 2, "--steps", 10)
    assert "Fd-3m" in text
    assert numbers(text, "pymatgen's relaxer:")[0] == pytest.approx(5.469, abs=0.01)
    assert numbers(text, "RelaxCalc:")[0] == pytest.approx(5.469, abs=0.01)
    # Two ways to one bulk modulus, by energies and by stresses, GPa.
    by_energies = numbers(text, "EOSCalc: bulk modulus")[0]
    assert numbers(text, "ElasticityCalc: bulk modulus")[0] == pytest.approx(by_energies, rel=0.05)
    assert 18.0 < numbers(text, "PhononCalc: heat capacity at 300 K")[0] < 24.94  # 3 R
    assert numbers(text, "MDCalc: total energy")[0] > numbers(text, "RelaxCalc:")[1]


@pytest.fixture
def silicon(tmp_path: Path) -> Path:
    bulk("Si", a=5.469).write(tmp_path / "POSCAR")
    return tmp_path


def test_phonopy(silicon: Path) -> None:
    command(script("phonopy-init"), "-d", "--dim", 2, 2, 2, "-c", "POSCAR", cwd=silicon)
    assert "1 supercells of 16 atoms" in command(
        FOLDER / "displaced_forces.py", silicon / "phonopy_disp.yaml"
    )
    mesh = ("--mesh", 7, 7, 7, "-t", "--tmax", 300, "--tstep", 300)
    command(script("phonopy-load"), "phonopy_disp.yaml", *mesh, cwd=silicon)
    table = yaml.safe_load((silicon / "thermal_properties.yaml").read_text())
    assert 36.0 < table["thermal_properties"][-1]["heat_capacity"] < 49.88  # two atoms, 6 R


@needs("phono3py")
def test_phono3py(silicon: Path) -> None:
    init = ("-d", "--dim", 1, 1, 1, "--dim-fc2", 2, 2, 2, "-c", "POSCAR")
    command(script("phono3py-init"), *init, cwd=silicon)
    text = command(FOLDER / "displaced_forces.py", silicon / "phono3py_disp.yaml")
    assert "9 supercells of 2 atoms" in text
    assert "1 supercells of 16 atoms" in text
    mesh = ("--mesh", 3, 3, 3, "--br", "--ts", 300)
    text = command(script("phono3py-load"), "phono3py_disp.yaml", *mesh, cwd=silicon)
    conductivity = numbers(text, "300.0 ")
    assert conductivity[0] > 0.1
    assert np.allclose(conductivity, conductivity[0] * np.array([1, 1, 1, 0, 0, 0]), atol=2e-3)


@needs("openmm", "openmmml")
def test_openmm() -> None:
    text = command(FOLDER / "openmm_dynamics.py", "--steps", 40)
    potentials = [float(x) for x in re.findall(r"(\S+) kJ/mol potential", text)]
    totals = [float(x) for x in re.findall(r"total (\S+) kJ/mol", text)]
    assert abs(potentials[1] - potentials[0]) > 3.0
    assert abs(totals[1] - totals[0]) < 0.5


@pytest.mark.skipif(find_spec("ml_peg") is None, reason="ml-peg has an environment of its own")
def test_ml_peg(tmp_path: Path) -> None:
    found = {}
    for symmetry in ("O(3)", "none"):
        text = command(
            FOLDER / "mlpeg_physicality.py",
            *("--tests", "rotational", "translational", "jacobian"),
            *("--structures", "H2O", "CH4", "--symmetry", symmetry, "--out", tmp_path / symmetry),
        )
        found[symmetry] = numbers(text, "rotation, meV/Å:")
        assert max(numbers(text, "translation, meV/atom:")) < 1e-5
        assert max(numbers(text, "jacobian:")) < 1e-4
    assert max(found["O(3)"]) < 1e-5 < 1e-2 < min(found["none"])
