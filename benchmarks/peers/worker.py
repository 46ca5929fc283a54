"""One code in a process of its own: reads requests and writes answers as lines of JSON.

It runs in the environment of any of the codes, which needs ASE besides::

    python worker.py CODE MODEL DTYPE THREADS [OPTIONS]

CODE is a function of this file; OPTIONS are further arguments of its calculator as JSON. Every
quantity that goes through the pipe is in ASE's units: Å, eV, eV/Å, eV/Å³.

Requests:
    ``{"structure": {"numbers", "positions", "cell", "pbc"}}``: take this structure.
    ``{"positions": [[x, y, z], ...]}``: move the atoms, evaluate, answer with energy, forces,
    stress (where the code has it) and the seconds that it took, of the clock and of processors.
    ``{"memory": true}``: megabytes in memory now and at the peak.
    ``{"modules": true}``: what has been imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np


def ase_pet(model: str, dtype: str, **options: Any) -> Any:
    """The calculator of this project."""
    from ase_pet import PETCalculator

    return PETCalculator(model, device="cpu", dtype=dtype, **options)


def matgl(model: str, dtype: str, **options: Any) -> Any:
    """MatGL's; asked for what a dynamics with pressure needs."""
    import matgl as code

    if dtype == "float64":  # radial functions and element energies are made in this precision
        code.set_default_dtype("float", 64)
    from matgl.ext.ase import PESCalculator

    potential = code.load_model(model)
    if dtype == "float64":
        potential = potential.double()
    return PESCalculator(potential, stress_unit="eV/A3", use_voigt=True, **options)


def torchmdnet(model: str, dtype: str, **options: Any) -> Any:
    """TorchMD-NET's; in single precision only, without stress."""
    from torchmdnet.calculators import TMDNETCalculator

    if dtype != "float32":
        raise ValueError(f"TorchMD-NET's calculator casts positions to float32, got {dtype}")
    return TMDNETCalculator(model, **options)


def metatomic(model: str, dtype: str, batch_size: int = 0, **options: Any) -> Any:
    """metatomic's, of a model that was exported in the precision in which it computes.

    With a ``batch_size``, averaged over 84 orientations, so many at a time.
    """
    from metatomic_ase import MetatomicCalculator, SymmetrizedCalculator

    if dtype != "float32":
        raise ValueError(f"metatrain exports in the precision of training, float32; got {dtype}")
    calc = MetatomicCalculator(model, device="cpu", **options)
    return SymmetrizedCalculator(calc, batch_size=batch_size) if batch_size else calc


def pet_kokkos(model: str, dtype: str, **options: Any) -> Any:
    """pet-kokkos's, of a model that its converter made: a path without ``.json``."""
    from pet_kokkos.ase import PETCalculator

    if dtype != "float32":
        raise ValueError(f"pet-kokkos's wheel computes in float32, got {dtype}")
    return PETCalculator(model, **options)


CODES = {
    "ase_pet": ase_pet,
    "matgl": matgl,
    "torchmdnet": torchmdnet,
    "metatomic": metatomic,
    "pet_kokkos": pet_kokkos,
}


def memory() -> dict[str, float]:
    """Resident memory of this process now and at its peak, MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in lines)
    return {key: float(sizes[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM")}


def evaluate(atoms: Any, positions: list[list[float]]) -> dict[str, Any]:
    """Energy, forces and stress at new positions, as a user of ASE asks for them.

    Forces first: codes that would evaluate an energy alone have it from the same evaluation then.
    """
    stress = "stress" in atoms.calc.implemented_properties and atoms.cell.rank == 3
    clock, cpu = time.perf_counter(), time.process_time()
    atoms.positions = positions
    out = {"forces": atoms.get_forces(), "energy": atoms.get_potential_energy()}
    if stress:
        out["stress"] = atoms.get_stress()
    times = {"clock": time.perf_counter() - clock, "cpu": time.process_time() - cpu}
    return {**{key: np.asarray(value).tolist() for key, value in out.items()}, **times}


def main() -> None:
    """Answer until the input ends."""
    code, model, dtype, threads, *rest = sys.argv[1:]
    # Libraries talk on the standard output: answers keep it to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")

    from ase import Atoms

    if find_spec("torch"):
        import torch

        torch.set_num_threads(int(threads))
    calc = CODES[code](model, dtype, **json.loads(rest[0] if rest else "{}"))
    atoms = None

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    say({"ready": time.perf_counter()})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "structure" in request:
                atoms = Atoms(**request["structure"], info={"charge": 0})
                atoms.calc = calc
                say({"atoms": len(atoms)})
            elif "positions" in request:
                say(evaluate(atoms, request["positions"]))
            elif "memory" in request:
                say(memory())
            else:
                say({"modules": sorted(sys.modules)})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"[:500]})


if __name__ == "__main__":
    main()
