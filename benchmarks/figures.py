"""Figures of the price of exact symmetry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from stages import STAGES

Row = dict[str, Any]
COLORS = plt.get_cmap("tab10").colors


def draw(rows: list[Row], folder: Path) -> None:
    """Draw all that there are rows for."""
    done = [r for r in rows if not r["estimated"]]
    if done:
        steps([r for r in done if r["structure"].startswith("Si ")], folder / "price_steps.png")
        stacked([r for r in done if "stages" in r], folder / "price_stages.png")
        ratios(rows, folder / "price_ratios.png")


def color(way: str, ways: list[str]) -> Any:
    """The same for a way in all panels."""
    return COLORS[ways.index(way) % len(COLORS)]


def steps(rows: list[Row], path: Path) -> None:
    """Time of a step against the number of atoms, a panel a model; slopes from 512 atoms on."""
    models = list(dict.fromkeys(r["model"] for r in rows))
    if not models:
        return
    ways = list(dict.fromkeys(r["way"] for r in rows))
    fig, axes = plt.subplots(
        1, len(models), figsize=(3.6 * len(models), 3.8), sharey=True, squeeze=False
    )
    for axis, model in zip(axes[0], models, strict=True):
        for way in ways:
            mine = [r for r in rows if (r["model"], r["way"]) == (model, way)]
            if not mine:
                continue
            n, ms = np.array([[r["atoms"], r["ms"]] for r in mine]).T
            large = n >= 512
            label = way
            if large.sum() > 2:
                label += f", N$^{{{np.polyfit(np.log(n[large]), np.log(ms[large]), 1)[0]:.2f}}}$"
            axis.loglog(n, ms, "o-", color=color(way, ways), label=label, markersize=4)
        axis.set(title=model, xlabel="atoms (Si)")
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("ms a step")
    save(fig, path)


def stacked(rows: list[Row], path: Path) -> None:
    """Shares of the stages of a step, for water and two sizes of silicon."""
    chosen = [r for r in rows if r["structure"] in ("water 192", "Si 64", "Si 512")]
    if not chosen:
        return
    labels = [f"{r['model']}, {r['structure']}, {r['way']}: {r['ms']:,.0f} ms" for r in chosen]
    shares = np.array([[r["stages"][stage] for stage in STAGES] for r in chosen])
    shares = 100 * shares / shares.sum(1, keepdims=True)
    fig, axis = plt.subplots(figsize=(9, 1.2 + 0.24 * len(chosen)))
    left = np.zeros(len(chosen))
    for k, stage in enumerate(STAGES):
        axis.barh(labels, shares[:, k], left=left, label=stage, color=COLORS[k])
        left += shares[:, k]
    axis.invert_yaxis()
    axis.margins(y=0.01)
    axis.tick_params(axis="y", labelsize=7)
    axis.set(xlabel="% of a step", xlim=(0, 100))
    axis.legend(ncols=len(STAGES), loc="lower center", bbox_to_anchor=(0.3, 1.0), frameon=False)
    save(fig, path)


def ratios(rows: list[Row], path: Path) -> None:
    """Cost over the bare network by structure and way; open bars are estimates."""
    rows = [r for r in rows if r["way"] != "bare"]
    models = list(dict.fromkeys(r["model"] for r in rows))
    if not models:
        return
    ways = list(dict.fromkeys(r["way"] for r in rows))
    fig, axes = plt.subplots(len(models), 1, figsize=(10, 2.2 * len(models)), squeeze=False)
    for axis, model in zip(axes[:, 0], models, strict=True):
        names = list(dict.fromkeys(r["structure"] for r in rows if r["model"] == model))
        width = 0.8 / len(ways)
        for r in (r for r in rows if r["model"] == model):
            tint = color(r["way"], ways)
            x = names.index(r["structure"]) + width * (ways.index(r["way"]) - (len(ways) - 1) / 2)
            face = "none" if r["estimated"] else tint
            axis.bar(x, r["ratio"], 0.9 * width, color=face, edgecolor=tint)
        axis.set(yscale="log", ylabel="over bare", title=model)
        axis.set_ylim(bottom=1.0)
        axis.set_xticks(range(len(names)), names)
        axis.grid(axis="y", alpha=0.3)
    handles = [plt.Rectangle((0, 0), 1, 1, color=color(way, ways)) for way in ways]
    fig.legend(handles, ways, ncols=4, loc="upper center", fontsize=8, frameon=False)
    save(fig, path, top=1 - 0.5 / fig.get_figheight())


def save(fig: Any, path: Path, top: float = 1.0) -> None:
    """Write and close a figure."""
    fig.tight_layout(rect=(0, 0, 1, top))
    fig.savefig(path, dpi=110)
    plt.close(fig)
