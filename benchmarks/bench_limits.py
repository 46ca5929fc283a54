"""What limits TensorNet on this processor: arithmetic or memory, and how much of each is reached.

One thread. The machine: products of large matrices and of tall ones like the model's, copies and
sums of an array beyond the caches. The model, TensorNet-MatPES-PBE on silicon: floating-point
operations of its matrix products (torch's counter) and bytes that its operations read and write,
every operand once an operation, whether or not a cache still held it. Rates over the machine's are
the fractions reached; that of memory may pass 1 where operands stay in the caches.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import numpy as np
import torch
from ase import Atoms
from bench_tensornet import MOVE, REPEATS, silicon
from common import milliseconds, show, write
from remote import MATPES, require
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ase_pet import PETCalculator


class Traffic(TorchDispatchMode):
    """Counts operations and the bytes of their operands; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation and add it up."""
        out = func(*args, **(kwargs or {}))
        # An expanded tensor is as large as what lies in memory.
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        places = {t.untyped_storage().data_ptr() for t in read}
        new = [t for t in made if t.untyped_storage().data_ptr() not in places]
        writes = bool(new) or func._schema.is_mutable
        if writes and not func.is_view:
            self.calls += 1
            self.bytes += sum(held(t) for t in (*read, *new))
        return out


def held(t: torch.Tensor) -> int:
    """Bytes that a tensor spans, repeated ones once."""
    sizes = [n for n, stride in zip(t.shape, t.stride(), strict=True) if stride]
    return int(np.prod(sizes)) * t.element_size() if t.numel() else 0


def machine() -> dict[str, float]:
    """Rates of this processor, GFLOP/s and GB/s."""
    out = {}
    for name, (m, k, n) in {
        "product 2048, GFLOP/s": (2048, 2048, 2048),
        "product 4500 x 128 x 128, GFLOP/s": (4500, 128, 128),
    }.items():
        a, b, c = torch.rand(m, k), torch.rand(k, n), torch.empty(m, n)
        ms = milliseconds(lambda a=a, b=b, c=c: torch.mm(a, b, out=c), repeats=15)
        out[name] = 2e-6 * m * k * n / ms
    a, b = torch.rand(2**26), torch.empty(2**26)
    out["copy, GB/s"] = 2e-6 * a.nbytes / milliseconds(lambda: b.copy_(a), repeats=15)
    out["sum, GB/s"] = 1e-6 * a.nbytes / milliseconds(lambda: a.sum(), repeats=15)
    return out


def evaluation(calc: PETCalculator, atoms: Atoms) -> dict[str, float]:
    """Time (ms), operations, floating-point operations and bytes of one evaluation."""
    rng = np.random.default_rng(0)
    start = atoms.positions.copy()
    atoms.calc = calc

    def evaluate() -> None:
        atoms.positions = start + rng.uniform(-MOVE, MOVE, start.shape)
        atoms.get_forces()

    ms = milliseconds(evaluate)
    traffic, flops = Traffic(), FlopCounterMode(display=False)
    with flops:
        evaluate()
    with traffic:
        evaluate()
    total = flops.get_total_flops()
    return {
        "ms": ms,
        "operations": traffic.calls,
        "GFLOP": 1e-9 * total,
        "GB": 1e-9 * traffic.bytes,
    }


def main() -> None:
    """Measure, print, write ``results/limits.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, nargs="+", default=list(REPEATS), choices=REPEATS)
    arguments = parser.parse_args()
    require(MATPES)
    torch.set_num_threads(1)
    load, rates = os.getloadavg(), machine()
    show("This processor, one thread", ["rate", "measured"], [[k, v] for k, v in rates.items()])
    product = max(rate for name, rate in rates.items() if "GFLOP" in name)
    calc = PETCalculator(MATPES, device="cpu", dtype="float32")
    rows = []
    for n_atoms in arguments.atoms:
        row = evaluation(calc, silicon(n_atoms))
        reached = {"GFLOP/s": 1e3 * row["GFLOP"] / row["ms"], "GB/s": 1e3 * row["GB"] / row["ms"]}
        of_rate = {
            "of product": reached["GFLOP/s"] / product,
            "of copy": reached["GB/s"] / rates["copy, GB/s"],
        }
        rows.append({"atoms": n_atoms, **row, **reached, **of_rate})
    columns = list(rows[0])
    show("TensorNet-MatPES-PBE, float32", columns, [list(row.values()) for row in rows])
    write("limits", {"load before": load, "rates": rates, "rows": rows})


if __name__ == "__main__":
    main()
