"""What ECSE costs over the bare model: time and memory for water-like, Si and Cu, 8 to 512 atoms.

One message-passing layer, local ensemble, O(3), float32, energies + forces + stress. The weights do
not matter for the cost, so that a randomly initialised network of the shipped models' size is
measured.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from ase import Atoms
from common import milliseconds, rattled, show, water, write

from ase_pet.data import Graph
from ase_pet.derivatives import evaluate
from ase_pet.ecse import Symmetrized
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.neighbors import make_search
from ase_pet.potentials.pet import PET, PETHypers

CUTOFF = 5.0
MEMORY_BUDGET = 500_000_000


def systems() -> dict[str, list[Atoms]]:
    """Structures of increasing size."""
    repeats = [(1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (4, 2, 2), (4, 4, 2), (4, 4, 4)]
    return {
        "water": [water(n) for n in (1, 8, 27, 64, 125)],
        "Si": [rattled("Si", r) for r in repeats],
        "Cu": [rattled("Cu", r) for r in [*repeats[1:], (8, 4, 4)]],
    }


def network() -> PET:
    """An untrained network of the shipped models' size."""
    torch.manual_seed(0)
    hypers = PETHypers(cutoff=CUTOFF, d_model=64, n_heads=4, n_attention_layers=2)
    return PET(hypers, [1, 8, 14, 29]).eval().requires_grad_(False)


def graph_of(atoms: Atoms) -> Graph:
    """Neighbour list and vectors."""
    system = system_from_atoms([atoms])
    return Graph.build(system, make_search("auto")(system, CUTOFF))


def peak_memory(system: str, index: int, mode: str) -> float:
    """What one evaluation adds to the memory of a fresh process at its peak, MB."""
    call = [sys.executable, __file__, "--memory", system, str(index), mode]
    return float(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


def measure_memory(system: str, index: int, mode: str) -> None:
    """Print by how much one evaluation raises the peak memory of this process, MB."""
    structures = systems()
    pet, graph, small = (
        network(),
        graph_of(structures[system][index]),
        graph_of(structures["water"][0]),
    )
    potential = pet if mode == "bare" else Symmetrized(pet, memory_budget=MEMORY_BUDGET)
    evaluate(potential, small)  # what libraries load and keep
    before = resident("VmRSS")
    evaluate(potential, graph)
    print(max(0.0, resident("VmHWM") - before))


def resident(name: str) -> float:
    """A line of this process' status in Linux, MB: memory now or at its peak.

    The peak of ``getrusage`` is no use here: a new process inherits that of its parent.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main() -> None:
    """Measure all systems."""
    pet = network()
    symmetrized = Symmetrized(pet, memory_budget=MEMORY_BUDGET)
    rows = []
    for name, structures in systems().items():
        for index, atoms in enumerate(structures):
            graph = graph_of(atoms)
            bare = milliseconds(lambda graph=graph: evaluate(pet, graph))
            ecse = milliseconds(lambda graph=graph: evaluate(symmetrized, graph), repeats=3)
            copies = symmetrized.ensemble(graph).n_frames / len(atoms)
            memory = [peak_memory(name, index, mode) for mode in ("bare", "ecse")]
            row = [bare, ecse, ecse / bare, ecse / len(atoms), *memory]
            rows.append([name, len(atoms), copies, *row])
            print(*rows[-1], flush=True)
    columns = ["system", "atoms", "copies/atom", "bare ms", "ECSE ms", "ratio", "ECSE ms/atom"]
    columns += ["bare +MB", "ECSE +MB"]
    show("Cost of ECSE (local, O(3)) over the bare model", columns, rows)
    write("cost", {"columns": columns, "rows": rows})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
