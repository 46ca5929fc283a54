"""From ``results/*.json`` to ``results/REPORT.md``: goals, tables, figures.

``python benchmarks/report.py`` writes the report again without measuring anything;
``python benchmarks/report.py --docs`` writes ``docs/performance.md`` and its figures besides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, ROOT
from figures import draw

Row = dict[str, Any]
#: Message-passing layers of the goals' networks.
ONE, TWO = "PET, 1 layer", "PET, 2 layers"
GRIDS = ("grid of 84", "grid of 84, metatomic")
#: Ensembles that ``"auto"`` takes for more atoms than those of a small molecule.
TAKEN = {ONE: "local", "pet-si": "local", TWO: "shared", "PET of metatrain": "shared"}
#: Sections with tables of their own, in the order of the report.
TITLES = {"pet_metatrain": "PET of metatrain, bare", "tensornet": "TensorNet"}
#: Lines that say on what and how a file was measured.
MACHINE = ("processor", "gpu", "threads", "torch", "python")


def figure(value: Any) -> str:
    """A number with three digits, a word as it is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return "" if value is None else str(value).replace("|", "\\|")
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown; the first column to the left, the others to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "".join("| " + " | ".join(map(figure, line)) + " |\n" for line in lines)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent k of values ∝ sizesᵏ by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def slopes(rows: list[Row], least: int = 512, most: int = 4096) -> list[Row]:
    """Exponents of time and memory in the number of silicon atoms, from three sizes on."""
    found = []
    chosen = [r for r in measured(rows) if least <= r["atoms"] <= most and silicon(r)]
    for model, way in dict.fromkeys((r["model"], r["way"]) for r in chosen):
        mine = [r for r in chosen if (r["model"], r["way"]) == (model, way)]
        if len(mine) < 3:
            continue
        sizes = [r["atoms"] for r in mine]
        row = {"model": model, "way": way, "atoms": f"{min(sizes)} to {max(sizes)}"}
        row["time"] = slope(sizes, [r["ms"] for r in mine])
        if all(r.get("MB", 0.0) > 0.0 for r in mine):
            row["memory"] = slope(sizes, [r["MB"] for r in mine])
        found.append(row)
    return found


def measured(rows: list[Row]) -> list[Row]:
    """Without estimates."""
    return [r for r in rows if not r["estimated"]]


def silicon(row: Row) -> bool:
    """Whether a row belongs to the series of growing cells."""
    return str(row["structure"]).startswith("Si ")


def taken(rows: list[Row], model: str, structure: str, symmetry: str) -> Row | None:
    """What is taken where the ensemble is left open."""
    wanted = (model, structure, f"{symmetry}, {TAKEN[model]}")
    found = [r for r in rows if (r["model"], r["structure"], r["way"]) == wanted]
    return found[0] if found else None


def goals(data: dict[str, Any]) -> list[list[Any]]:
    """What was asked, what was measured, whether it is met; nothing where nothing was measured."""
    rows = data.get("price", {}).get("rows", [])
    found = ratio_goals(rows) + grid_goals(rows) + peer_goals(data) + overhead_goals(rows)
    for quantity in ("time", "memory"):
        known = [r for r in slopes(rows) if quantity in r and r["way"] not in GRIDS]
        if known:
            worst = max(known, key=lambda r: r[quantity])
            name = f"largest cost exponent, {worst['atoms']} atoms, {quantity}"
            where = f"{worst['model']}, {worst['way']}"
            found.append([name, "< 1.1", worst[quantity], verdict(worst[quantity] < 1.1), where])
    return found


def verdict(met: bool) -> str:
    """A word for the last but one column."""
    return "met" if met else "missed"


def ratio_goals(rows: list[Row]) -> list[list[Any]]:
    """Exact over bare."""
    asked = [(ONE, "water 192", "O(3)", 4.0), (ONE, "water 192", "SO(3)", 2.2)]
    asked += [(TWO, "Si 216", "O(3)", 12.0)]
    found = []
    for model, structure, symmetry, most in asked:
        row = taken(rows, model, structure, symmetry)
        if row is not None:
            met = "estimate" if row["estimated"] else verdict(row["ratio"] <= most)
            name = f"{symmetry} over bare, {model}, {structure}"
            found.append([name, f"≤ {most:g}", row["ratio"], met, row["way"]])
    return found


def grid_goals(rows: list[Row]) -> list[list[Any]]:
    """Averaging over a grid over exact, with both residuals."""
    found = []
    for grid in (r for r in rows if r["way"] in GRIDS):
        exact = taken(rows, grid["model"], grid["structure"], "O(3)")
        if exact is None or exact["estimated"]:
            continue
        times = grid["ms"] / exact["ms"]
        name = f"{grid['way']} over O(3), {grid['model']}, {grid['structure']}"
        residuals = [f"{r['residual']:.0e}" for r in (exact, grid) if "residual" in r]
        where = f"{exact['way']}; residuals {' and '.join(residuals)} eV/atom"
        met = "estimate" if grid["estimated"] else verdict(times >= 8.0)
        found.append([name, "≥ 8", times, met, where])
    return found


def peer_goals(data: dict[str, Any]) -> list[list[Any]]:
    """Other codes over ours, from 8 to 512 atoms, on one thread."""
    found = []
    for name, title in TITLES.items():
        others = [r for r in data.get(name, {}).get("rows", []) if other(r) and r["atoms"] <= 512]
        others = [r for r in others if r.get("threads", 1) == 1]
        for code in dict.fromkeys(r["code"] for r in others):
            closest = min((r for r in others if r["code"] == code), key=ahead)
            where = f"least at {closest['atoms']} atoms, {closest['model']}"
            times = ahead(closest)
            found.append([f"{code} over ours, {title}", "> 1", times, verdict(times > 1.0), where])
    return found


def other(row: Row) -> bool:
    """Whether a row is of another code."""
    return not row["code"].startswith(("ase_pet", "skin"))


def ahead(row: Row) -> float:
    """Another code's time over ours."""
    return 1.0 / float(row["ours / this"])


def overhead_goals(rows: list[Row]) -> list[list[Any]]:
    """Share of a step of dynamics that is not the network."""
    found = []
    for row in measured(rows):
        if row["structure"] == "Si 512" and row["way"] not in GRIDS and "stages" in row:
            times = row["stages"]
            share = 100 * (1 - (times["forward"] + times["backward"]) / sum(times.values()))
            name = f"all but the network, {row['model']}, 512 atoms, %"
            found.append([name, "< 5", share, verdict(share < 5.0), row["way"]])
    return found


def price(rows: list[Row]) -> str:
    """Tables of the price, one a model."""
    text = ""
    for model in dict.fromkeys(r["model"] for r in rows):
        columns = [
            "",
            "way",
            "copies",
            "ms a step",
            "fastest",
            "ratio",
            "ratio, processor",
            "turns",
        ]
        lines = []
        for r in (r for r in rows if r["model"] == model):
            ms = f"≈ {r['ms']:.2g}" if r["estimated"] else r["ms"]
            cells = [r.get(k) for k in ("fastest ms", "ratio", "ratio, cpu", "turns", "MB")]
            residual = f"{r['residual']:.0e}" if "residual" in r else ""
            lines.append([r["structure"], r["way"], r["copies"], ms, *cells, residual])
        text += f"### {model}\n\n{table([*columns, '+MB', 'residual, eV/atom'], lines)}\n"
    return text + (
        "≈ and open bars: estimated from the edges of the copies, not measured; above 512 atoms "
        "there is what auto takes. Pale bars are SO(3).\n"
    )


def stages(rows: list[Row]) -> str:
    """Table of the stages of a step."""
    chosen = [r for r in measured(rows) if "stages" in r]
    if not chosen:
        return ""
    names = list(chosen[0]["stages"])
    lines = [[f"{r['model']}, {r['structure']}", r["way"], *r["stages"].values()] for r in chosen]
    text = table(["", "way", *(f"{name}, ms" for name in names)], lines)
    return text + "\nMedians over the steps of the tables above.\n"


def beside(rows: list[Row]) -> str:
    """Table of codes: ms, times ours, difference of energies; by size."""
    text = ""
    for model, threads in dict.fromkeys((r["model"], r.get("threads", 1)) for r in rows):
        chosen = [r for r in rows if (r["model"], r.get("threads", 1)) == (model, threads)]
        sizes = list(dict.fromkeys(r["atoms"] for r in chosen))
        lines = []
        for code in dict.fromkeys(r["code"] for r in chosen):
            mine = {r["atoms"]: r for r in chosen if r["code"] == code}
            cells = [f"{figure(r['ms'])} ({ahead(r):.2f})" for r in mine.values()]
            worst = max(r["energy differs"] for r in mine.values())
            lines.append([code, *cells, *[""] * (len(sizes) - len(cells)), f"{worst:.0e}"])
        columns = ["ms (times ours)", *(f"{n} atoms" for n in sizes), "energy differs, eV/atom"]
        text += f"{model}, {threads} thread(s):\n\n{table(columns, lines)}\n"
    return text


def flat(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """What is not a dictionary within dictionaries, with its path; long lists are left out."""
    if isinstance(value, dict):
        return [leaf for key, v in value.items() for leaf in flat(v, (*path, str(key)))]
    return [] if isinstance(value, list) and len(value) > 6 else [(path, value)]


def anything(data: dict[str, Any]) -> str:
    """Tables of a file of results of any shape."""
    data, text = dict(data), ""
    columns, rows = data.pop("columns", None), data.pop("rows", None)
    if columns and rows:
        text += table(columns, rows) + "\n"
    elif rows and isinstance(rows[0], dict):
        names = [k for k, v in rows[0].items() if not isinstance(v, list | dict)]
        text += table(names, [[r.get(k) for k in names] for r in rows]) + "\n"
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for path, value in flat(data):
        groups.setdefault(path[:-1], {})[path[-1]] = value
    for names in dict.fromkeys(tuple(leaves) for leaves in groups.values()):
        mine = [(path, v) for path, v in groups.items() if tuple(v) == names]
        text += table(["", *names], [[", ".join(p), *v.values()] for p, v in mine]) + "\n"
    return text


def measured_on(data: dict[str, Any]) -> str:
    """A line about the machine, the date and the command."""
    machine = data.get("machine", {})
    parts = [f"{key} {machine[key]}" for key in MACHINE if machine.get(key)]
    return f"`{machine.get('command', '')}`, {machine.get('date', '')}: {'; '.join(parts)}.\n\n"


def sections(data: dict[str, Any]) -> list[str]:
    """Goals and all that belongs to the price, as Markdown."""
    text = []
    found = goals(data)
    if found:
        columns = ["", "asked", "measured", "", "where"]
        text.append(f"## Goals\n\n{table(columns, found)}")
    if "price" in data:
        rows = data["price"]["rows"]
        head = f"## Price of exact symmetry\n\n{measured_on(data['price'])}"
        text.append(
            f"{head}![steps](price_steps.png)\n\n![ratios](price_ratios.png)\n\n{price(rows)}"
        )
        exponents = [
            [r["model"], *(r.get(k) for k in ("way", "atoms", "time", "memory"))]
            for r in slopes(rows)
        ]
        if exponents:
            columns = ["model", "way", "atoms", "time ∝ Nᵏ, k", "memory ∝ Nᵏ, k"]
            text.append(f"## Scaling\n\n{table(columns, exponents)}")
        text.append(f"## Stages of a step\n\n![stages](price_stages.png)\n\n{stages(rows)}")
    for name, title in TITLES.items():
        if name in data:
            head = f"## {title}, beside other codes\n\n{measured_on(data[name])}"
            text.append(head + beside(data[name]["rows"]))
    return text


def load() -> dict[str, Any]:
    """All results, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def write_report() -> Path:
    """Write ``REPORT.md`` and its figures."""
    data = load()
    draw(data.get("price", {}).get("rows", []), RESULTS)
    run = data.pop("run", None)
    text = ["# Benchmarks\n"]
    if run:
        quick = "A quick run: no figure of it is to be quoted.\n\n" if run["quick"] else ""
        lines = "".join(f"* {line}\n" for line in run["missing"])
        ended = table(
            ["script", "", "s"], [[r["script"], r["state"], r["seconds"]] for r in run["rows"]]
        )
        text.append(f"{quick}{measured_on(run)}{ended}\n{lines}")
    text += sections(data)
    for name, found in data.items():
        if name != "price" and name not in TITLES:
            rest = {key: value for key, value in found.items() if key != "machine"}
            text.append(f"## {name}\n\n{measured_on(found)}{anything(rest)}")
    path = RESULTS / "REPORT.md"
    path.write_text("\n".join(text))
    return path


def write_docs() -> Path:
    """Write ``docs/performance.md`` and its figures."""
    data = load()
    folder = ROOT / "docs"
    draw(data.get("price", {}).get("rows", []), folder)
    how = "Measured by `make bench`, written by `python benchmarks/report.py --docs`.\n"
    path = folder / "performance.md"
    path.write_text("\n".join(["# Performance\n", how, *sections(data)]))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md too")
    print(write_report())
    if parser.parse_args().docs:
        print(write_docs())
