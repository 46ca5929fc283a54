"""Batches, workers, what is kept, and a process that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from ase_pet import PETCalculator
from ase_pet.workflows.phonons import PhononSettings, compute_phonons, evaluate_forces, make_workers
from ase_pet.workflows.phonons.store import Store

ROOT = Path(__file__).parents[4]
#: Four batches of two.
STRUCTURES = 7


def crystals() -> list[Atoms]:
    made = []
    for seed in range(STRUCTURES):
        atoms = bulk("C", cubic=True)
        atoms.rattle(0.02, seed=seed)
        made.append(atoms)
    return made


class Batched(Calculator):
    """EMT with ``compute``; remembers the sizes of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def compute(self, structures: list[Atoms]) -> list[dict]:
        self.batches.append(len(structures))
        return [{"forces": EMT().get_property("forces", atoms)} for atoms in structures]


class Failing(PETCalculator):
    """Gives up after two batches."""

    n_batches = 0

    def compute(self, structures: list[Atoms]) -> list[dict]:
        self.n_batches += 1
        if self.n_batches > 2:
            raise KeyboardInterrupt
        return super().compute(structures)


class Remembering(Executor):
    """Counts what is submitted and evaluates it in a thread."""

    def __init__(self) -> None:
        self.threads, self.n_submitted = ThreadPoolExecutor(2), 0

    def submit(self, *arguments: object, **options: object) -> Future:  # type: ignore[override]
        self.n_submitted += 1
        return self.threads.submit(*arguments, **options)


def test_batches_are_of_bounded_size() -> None:
    structures = [bulk("Cu", a=3.59).repeat(6) for _ in range(9)]  # 216 atoms each
    for atoms in structures:
        atoms.rattle(0.01, seed=1)
    calculator = Batched()
    forces, n_kept = evaluate_forces(calculator, structures)
    assert calculator.batches == [4, 4, 1]
    assert (len(forces), n_kept) == (9, 0)
    alone = evaluate_forces(EMT(), structures[:1], batch_atoms=1)[0]
    assert forces[0] == pytest.approx(alone[0])


def test_workers_give_the_same_bits(checkpoint: Path) -> None:
    calculator = PETCalculator(checkpoint)
    serial, _ = evaluate_forces(calculator, crystals(), batch_atoms=16)
    with make_workers(1) as workers:
        parallel, _ = evaluate_forces(calculator, crystals(), batch_atoms=16, executor=workers)
        with pytest.raises(Exception, match="does not know Cu"):
            evaluate_forces(calculator, [bulk("Cu")], executor=workers)
    np.testing.assert_array_equal(parallel, serial)
    assert not np.array_equal(serial[0], serial[1])


def test_workers_of_dask_give_the_same_bits(checkpoint: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    calculator = PETCalculator(checkpoint)
    serial, _ = evaluate_forces(calculator, crystals(), batch_atoms=16)
    cluster = {"n_workers": 1, "threads_per_worker": 2, "processes": False}
    with distributed.Client(**cluster, dashboard_address=None) as client:
        executor = client.get_executor()
        parallel, _ = evaluate_forces(calculator, crystals(), batch_atoms=16, executor=executor)
    np.testing.assert_array_equal(parallel, serial)


def test_the_number_of_workers_is_checked() -> None:
    with pytest.raises(ValueError, match="workers: expected at least 1, got 0"):
        make_workers(0)


def test_what_was_evaluated_is_not_evaluated_again(checkpoint: Path, tmp_path: Path) -> None:
    failing = Failing(checkpoint)
    store = Store(tmp_path / "forces", failing)
    with pytest.raises(KeyboardInterrupt):
        evaluate_forces(failing, crystals(), batch_atoms=16, store=store)
    assert len(list((tmp_path / "forces").iterdir())) == 2
    executor = Remembering()
    forces, n_kept = evaluate_forces(
        PETCalculator(checkpoint), crystals(), batch_atoms=16, store=store, executor=executor
    )
    assert (n_kept, executor.n_submitted) == (4, 2)
    expected, _ = evaluate_forces(PETCalculator(checkpoint), crystals(), batch_atoms=16)
    np.testing.assert_array_equal(forces, expected)


def test_forces_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    class Broken(Batched):
        def compute(self, structures: list[Atoms]) -> list[dict]:
            return [{"forces": np.full((len(atoms), 3), np.nan)} for atoms in structures]

    with pytest.raises(ArithmeticError, match="not finite"):
        evaluate_forces(Broken(), crystals())


SETTINGS = PhononSettings(supercell=(1, 1, 1), mesh=5.0, n_points=2, batch_atoms=8)
SCRIPT = """
import sys
import torch
from tests.unit.workflows.phonons.test_forces import crystals, SETTINGS
from ase_pet import PETCalculator
from ase_pet.workflows.phonons import compute_phonons
torch.set_num_threads(int(sys.argv[1]))
atoms = crystals()[0]
atoms.calc = PETCalculator(sys.argv[2])
compute_phonons(atoms, SETTINGS, sys.argv[3])
"""


def test_a_killed_run_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    forces = killed / "forces"
    arguments = [str(torch.get_num_threads()), str(checkpoint), str(killed)]
    victim = subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT)
    while len(list(forces.glob("*.npz"))) < 3 and victim.poll() is None:
        time.sleep(0.001)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in forces.glob("*.npz")}
    assert not (killed / "summary.json").exists()

    atoms = crystals()[0]
    atoms.calc = PETCalculator(checkpoint)
    resumed, unbroken = (compute_phonons(atoms, SETTINGS, out) for out in (killed, whole))
    assert (resumed.n_kept, unbroken.n_kept) == (len(kept), 0)
    assert len(kept) < resumed.n_supercells
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in ("phonopy_params.yaml", "bands.csv", "thermal.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in forces.iterdir()} == {
        p.name for p in (whole / "forces").iterdir()
    }
    np.testing.assert_array_equal(resumed.phonon.forces, unbroken.phonon.forces)
