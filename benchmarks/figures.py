"""Figures of the price of exact symmetry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from stages import STAGES

Row = dict[str, Any]
COLORS = plt.get_cmap("tab10").colors
#: Ways that are in the figure of stages begin so.
STACKED = ("bare", "O(3)")


def draw(rows: list[Row], folder: Path) -> None:
    """Draw all that there are rows for."""
    folder.mkdir(parents=True, exist_ok=True)
    done = [r for r in rows if not r["estimated"]]
    steps([r for r in done if r["structure"].startswith("Si ")], folder / "price_steps.png")
    shares = [r for r in done if "stages" in r and r["way"].startswith(STACKED)]
    stacked(
        [r for r in shares if r["structure"] in ("water 192", "Si 512")],
        folder / "price_stages.png",
    )
    ratios([r for r in rows if r["way"] != "bare"], folder / "price_ratios.png")


def ordered(rows: list[Row], key: str) -> list[str]:
    """Different values in the order in which they come."""
    return list(dict.fromkeys(r[key] for r in rows))


def kind(way: str) -> str:
    """What is the same with and without reflections."""
    return way.removeprefix("SO(3), ").removeprefix("O(3), ")


def colors(rows: list[Row]) -> dict[str, Any]:
    """The same for an ensemble in all figures."""
    kinds = [k for k in dict.fromkeys(map(kind, ordered(rows, "way"))) if k != "bare"]
    return {"bare": "black", **{k: COLORS[n % 10] for n, k in enumerate(sorted(kinds))}}


def steps(rows: list[Row], path: Path) -> None:
    """Time of a step against the number of atoms, a panel a model; slopes from 512 atoms on."""
    models = ordered(rows, "model")
    if not models:
        return
    size = (3.8 * len(models), 4.2)
    fig, axes = plt.subplots(1, len(models), figsize=size, sharey=True, squeeze=False)
    for axis, model in zip(axes[0], models, strict=True):
        mine = [r for r in rows if r["model"] == model]
        for way in ordered(mine, "way"):
            n, ms = np.array([[r["atoms"], r["ms"]] for r in mine if r["way"] == way]).T
            large, label = n >= 512, way
            if large.sum() > 2:
                exponent = np.polyfit(np.log(n[large]), np.log(ms[large]), 1)[0]
                label += f", N$^{{{exponent:.2f}}}$"
            style = "--" if way.startswith("SO(3)") else "-"
            axis.loglog(n, ms, "o", ls=style, c=colors(rows)[kind(way)], label=label, ms=4)
        axis.set(title=model, xlabel="atoms (Si)")
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("ms a step")
    save(fig, path)


def stacked(rows: list[Row], path: Path) -> None:
    """Shares of the stages of a step."""
    if not rows:
        return
    rows = sorted(rows, key=lambda r: (ordered(rows, "model").index(r["model"]), r["atoms"]))
    labels = [f"{r['model']}, {r['structure']}, {r['way']}: {r['ms']:,.0f} ms" for r in rows]
    shares = np.array([[r["stages"][stage] for stage in STAGES] for r in rows])
    shares = 100 * shares / shares.sum(1, keepdims=True)
    fig, axis = plt.subplots(figsize=(9, 1.2 + 0.28 * len(rows)))
    left = np.zeros(len(rows))
    for k, stage in enumerate(STAGES):
        axis.barh(labels, shares[:, k], left=left, label=stage, color=COLORS[k])
        left += shares[:, k]
    axis.invert_yaxis()
    axis.margins(y=0.01)
    axis.tick_params(axis="y", labelsize=8)
    axis.set(xlabel="% of a step", xlim=(0, 100))
    axis.legend(ncols=len(STAGES), loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False)
    save(fig, path)


def ratios(rows: list[Row], path: Path) -> None:
    """Cost over the bare network by structure and way; open bars are estimates, SO(3) is pale."""
    models, ways = ordered(rows, "model"), ordered(rows, "way")
    if not models:
        return
    height = 2.2 * len(models) + 0.6
    fig, axes = plt.subplots(len(models), 1, figsize=(10, height), squeeze=False)
    width, found = 0.8 / len(ways), colors(rows)
    for axis, model in zip(axes[:, 0], models, strict=True):
        mine = [r for r in rows if r["model"] == model]
        names = ordered(mine, "structure")
        for r in mine:
            tint, pale = found[kind(r["way"])], 0.4 if r["way"].startswith("SO(3)") else 1.0
            x = names.index(r["structure"]) + width * (ways.index(r["way"]) - (len(ways) - 1) / 2)
            face = "none" if r["estimated"] else tint
            axis.bar(x, r["ratio"], 0.9 * width, color=face, edgecolor=tint, alpha=pale)
        axis.set(yscale="log", ylabel="over bare", title=model)
        axis.set_ylim(bottom=1.0)
        axis.set_xticks(range(len(names)), names)
        axis.grid(axis="y", alpha=0.3)
    kinds = [k for k in found if k != "bare"]
    handles = [plt.Rectangle((0, 0), 1, 1, color=found[k]) for k in kinds]
    fig.legend(handles, kinds, ncols=len(kinds), loc="upper center", fontsize=9, frameon=False)
    save(fig, path, top=1 - 0.3 / height)


def save(fig: Any, path: Path, top: float = 1.0) -> None:
    """Write and close a figure."""
    fig.tight_layout(rect=(0, 0, 1, top))
    fig.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(fig)
