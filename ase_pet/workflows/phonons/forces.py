"""Forces of many structures: in batches, kept as they come, spread over workers."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from functools import lru_cache

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from rich.console import Console

from ase_pet.workflows.phonons.store import Store
from ase_pet.workflows.progress import Progress


def evaluate_forces(
    calculator: Calculator,
    structures: Sequence[Atoms],
    *,
    batch_atoms: int = 1024,
    store: Store | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
) -> tuple[list[np.ndarray], int]:
    """Forces of structures of one size, in batches where the calculator takes them.

    Batches depend on nothing but the structures and ``batch_atoms``, so that forces are the same
    to the last bit with and without workers, interrupted or not, on one kind of machine and with
    one number of threads.

    Args:
        calculator: Any ASE calculator; one with ``compute`` is asked for many at a time.
        structures: What to evaluate.
        batch_atoms: How many atoms a batch has at most, unless one structure has more.
        store: Where the forces of each batch are kept, and looked for before.
        executor: Who evaluates the batches: any of ``concurrent.futures``, also that of
            ``dask.distributed.Client.get_executor()``. The calculator is sent along with each
            batch and unpacked once a process. This process evaluates them if None.
        console: Where progress is shown; silent if None.

    Returns:
        Forces [n_atoms, 3], eV/Å, of each structure; how many structures did not have to be
        evaluated.

    Raises:
        ArithmeticError: If forces are not finite.
    """
    size = max(1, batch_atoms // max(map(len, structures), default=1))
    batches = [list(structures[k : k + size]) for k in range(0, len(structures), size)]
    found: dict[int, np.ndarray] = {}
    for k, batch in enumerate(batches):
        kept = None if store is None else store.load(batch)
        if kept is not None:
            found[k] = kept["forces"]
    n_kept = sum(len(batches[k]) for k in found)
    missing = {k: batch for k, batch in enumerate(batches) if k not in found}
    with Progress(console, "supercells", len(structures)) as progress:
        if n_kept:
            progress.keep(f"{n_kept} of an earlier run", n_kept)
        for k, forces in _evaluate(calculator, missing, executor):
            if not np.isfinite(forces).all():
                raise ArithmeticError("the model gives forces that are not finite numbers")
            if store is not None:
                store.save({"forces": forces}, batches[k])
            found[k] = forces
            progress.advance(n_steps=len(forces))
    return [forces for k in range(len(batches)) for forces in found[k]], n_kept


def make_workers(n_workers: int) -> Executor:
    """Processes of this machine that share its threads; they end with this process.

    Raises:
        ValueError: If the number is not positive.
    """
    if n_workers < 1:
        raise ValueError(f"workers: expected at least 1, got {n_workers}")
    return ProcessPoolExecutor(
        n_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(max(1, torch.get_num_threads() // n_workers),),
    )


def _evaluate(
    calculator: Calculator, batches: Mapping[int, list[Atoms]], executor: Executor | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Number and forces [n_structures, n_atoms, 3] of each batch, as they come."""
    if executor is None:
        for k, batch in batches.items():
            yield k, _forces(calculator, batch)
        return
    packed = pickle.dumps(calculator)
    pending = {executor.submit(_remote_forces, packed, b): k for k, b in batches.items()}
    try:
        for done in as_completed(pending):
            yield pending[done], done.result()
    finally:
        for future in pending:
            future.cancel()


def _forces(calculator: Calculator, batch: list[Atoms]) -> np.ndarray:
    if hasattr(calculator, "compute"):
        return np.array([results["forces"] for results in calculator.compute(batch)])
    return np.array([calculator.get_property("forces", atoms) for atoms in batch])


def _remote_forces(packed: bytes, batch: list[Atoms]) -> np.ndarray:
    return _forces(_unpacked(packed), batch)


@lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> Calculator:
    """The calculator, which stays in a worker from one batch to the next."""
    return pickle.loads(packed)


def _begin(n_threads: int) -> None:
    """Set up a worker; one whose parent was killed would wait for work for ever."""
    torch.set_num_threads(n_threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
