"""Draw how the shared ensemble works: docs/shared.png, without a network being evaluated.

Left, a rattled sheet of graphene: atoms are coloured by whose coordinate system counts most for
them; stars make them. Middle, how many Å worse a coordinate system scores for an atom the farther
away from it it was made, in rattled silicon. Right, a methane leaves another one: what the
coordinate systems that each atom of the first made count for its carbon, and those of the second.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase.build import graphene
from bench_smoothness import parting_path
from common import CHECKPOINTS, ROOT, rattled
from matplotlib.axes import Axes

from ase_pet import load
from ase_pet.data import Graph
from ase_pet.ecse import Symmetrized
from ase_pet.ecse.axis import fade_out
from ase_pet.ecse.settings import PRESETS, SmoothSettings
from ase_pet.ecse.shared import affinities
from ase_pet.potentials.base import Backbone
from ase_pet.testing.evaluators import graph_of

LEAN = PRESETS["lean"]


def counted(backbone: Backbone, graph: Graph) -> tuple[torch.Tensor, int]:
    """What frames that an atom [column] made count for another [row], and the number of copies."""
    ensemble = Symmetrized(backbone, ensemble="shared", weights=LEAN).ensemble(graph)
    frames, _ = Symmetrized(backbone, ensemble="shared", weights=LEAN).frames(graph)
    found = torch.zeros(graph.n_atoms, graph.n_atoms, dtype=torch.float64)
    owners = frames.owners[ensemble.reads]
    found.index_put_((ensemble.readers, owners), ensemble.coefficients.detach(), accumulate=True)
    return found, ensemble.n_copies


def sheet(axis: Axes, backbone: Backbone) -> None:
    """Who reads whose coordinate systems."""
    atoms = graphene(size=(14, 14, 1), vacuum=8.0)
    atoms.rattle(0.06, seed=3)
    shares, n_copies = counted(backbone, graph_of([atoms], backbone.cutoff))
    chosen = shares.argmax(1).numpy()
    makers = np.unique(chosen)
    place = {maker: k for k, maker in enumerate(makers)}
    x, y = atoms.positions[:, :2].T
    colors = plt.get_cmap("tab20")(np.array([place[k] % 20 for k in chosen]))
    axis.scatter(x, y, s=22, c=colors)
    stars = plt.get_cmap("tab20")(np.arange(len(makers)) % 20)
    axis.scatter(x[makers], y[makers], s=170, marker="*", c=stars, edgecolors="black", zorder=3)
    axis.set(title=f"{len(atoms)} atoms read {n_copies} copies", xlabel="x (Å)", ylabel="y (Å)")
    axis.set_aspect("equal")


def penalties(axis: Axes) -> None:
    """Penalty of distant coordinate systems."""
    assert isinstance(LEAN, SmoothSettings)
    atoms, cutoff = rattled("Si", (4, 4, 4)), 5.0
    graph = graph_of([atoms], cutoff)
    fade = fade_out(graph.vectors.norm(dim=1), cutoff, LEAN)
    distances = atoms.get_all_distances(mic=True)
    for hops in (1, 2, 3):
        i, a, walks = affinities(graph, fade, hops)
        own = i == 0
        r, worse = distances[0][a[own]], LEAN.distance_penalty * (1.0 / walks[own]).log1p()
        axis.plot(r, worse, ".", ms=4, label=f"h = {hops}", zorder=4 - hops)
    axis.set(
        title="penalty of distant systems",
        xlabel="distance to the atom that made it (Å)",
        ylabel="η ln(1 + 1/B) (Å)",
    )
    axis.legend()


def parting(axis: Axes, backbone: Backbone) -> None:
    """Shares in the energy of one atom as a molecule leaves."""
    path = next(iter(parting_path().values()))
    shares = [counted(backbone, graph_of([atoms], backbone.cutoff))[0][0] for atoms in path]
    x = [atoms.get_distance(0, 5) for atoms in path]
    y = torch.stack(shares).numpy()
    for maker in np.nonzero(y.max(0) > 0.01)[0]:
        molecule = "first" if maker < 5 else "second"
        style = "-" if maker < 5 else "--"
        label = f"{path[0].symbols[maker]}{maker}, {molecule}"
        axis.plot(x, y[:, maker], style, label=label)
    axis.set(title="CH4 leaves CH4", xlabel="C-C (Å)", ylabel="share in the energy of a carbon")
    axis.legend(fontsize=7)


def main() -> None:
    """Draw all three."""
    backbone = load(CHECKPOINTS / "pet-ch4.pt").potential.backbone
    fig, axes = plt.subplots(1, 3, figsize=(14, 4.4))
    sheet(axes[0], backbone)
    penalties(axes[1])
    parting(axes[2], backbone)
    fig.tight_layout()
    fig.savefig(ROOT / "docs" / "shared.png", dpi=100)


if __name__ == "__main__":
    main()
