"""Options from a file, arguments by name, and what goes before what."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import ase.io
import pytest
import typer
from typer.testing import CliRunner

from ase_pet.cli.config import configurable
from ase_pet.cli.main import Commands
from ase_pet.workflows.provenance import provenance


@pytest.fixture
def ask(tmp_path: Path):
    """A command that tells what it was given."""
    seen: dict[str, Any] = {}
    told: dict[str, Any] = {}

    def command(
        model: Annotated[str, typer.Argument(metavar="MODEL")],
        structure: Annotated[Path, typer.Argument(metavar="STRUCTURE")],
        extra: Annotated[Path | None, typer.Argument()] = None,
        time_step: Annotated[float, typer.Option()] = 1.0,
        steps: Annotated[int, typer.Option()] = 7,
        repeat: Annotated[tuple[int, int, int], typer.Option()] = (1, 1, 1),
        where: Annotated[list[str] | None, typer.Option()] = None,
        relax: Annotated[bool, typer.Option()] = True,
        name: Annotated[str | None, typer.Option("--label", "-l")] = None,
    ) -> None:
        seen.update(locals())
        told.update(provenance()["arguments"])

    app = typer.Typer(cls=Commands)
    app.command("go")(configurable(command))
    app.callback()(lambda: None)

    def invoke(text: str, *arguments: object) -> dict[str, Any] | str:
        seen.clear()
        told.clear()
        path = tmp_path / "run.yaml"
        path.write_text(text)
        given = ["go", *map(str, arguments)]
        found = CliRunner().invoke(app, [*given, "--config", str(path)] if text else given)
        if found.exit_code:
            assert len(found.stderr.splitlines()) == 1
            return found.stderr.replace(f"{path}", "run.yaml")
        arguments = {k: str(seen[k]) for k in ("model", "structure", "extra") if seen[k]}
        assert told == arguments  # a summary tells them, wherever they come from
        assert provenance()["arguments"] == {}
        return {k: v for k, v in seen.items() if k not in ("seen", "told")}

    return invoke


DEFAULTS = {
    "extra": None, "time_step": 1.0, "steps": 7, "repeat": (1, 1, 1), "where": None,
    "relax": True, "name": None,
}  # fmt: skip


def test_a_file_gives_arguments_and_options_of_any_kind(ask) -> None:
    found = ask(
        "model: m\nstructure: s.cif\ntime-step: 5e-1\nsteps: 3\nrepeat: [2, 2, 1]\n"
        "where: [split=test, fold=1]\nrelax: false\nlabel: 12\n"
    )
    assert found == {
        "model": "m", "structure": Path("s.cif"), "extra": None, "time_step": 0.5, "steps": 3,
        "repeat": (2, 2, 1), "where": ["split=test", "fold=1"], "relax": False, "name": "12",
    }  # fmt: skip
    assert ask("time_step: 2\nwhere: one", "m", "s")["time_step"] == 2.0


def test_what_is_typed_goes_before_the_file(ask) -> None:
    text = "model: m\nstructure: s\nextra: e\nsteps: 3\nrelax: false\nwhere: [a]\n"
    found = ask(text, "--steps", 4, "--relax", "--where", "b", "--structure", "other")
    assert (found["steps"], found["relax"], found["where"]) == (4, True, ["b"])
    assert (found["model"], found["structure"]) == ("m", Path("other"))
    found = ask(text, "M", "S", "E")
    assert (found["model"], found["structure"], found["extra"]) == ("M", Path("S"), Path("E"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("m", "s"),
        ("--model", "m", "--structure", "s"),
        ("--model", "m", "s"),
        ("--structure", "s", "m"),
        ("m", "--structure", "s"),
    ],
)
def test_arguments_have_names(ask, arguments: tuple[str, ...]) -> None:
    assert ask("", *arguments) == {"model": "m", "structure": Path("s"), **DEFAULTS}


def test_typed_arguments_fill_what_the_file_leaves_open(ask) -> None:
    found = ask("model: m", "s")
    assert (found["model"], found["structure"]) == ("m", Path("s"))
    found = ask("structure: s", "m")
    assert (found["model"], found["structure"]) == ("m", Path("s"))


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", (), "MODEL: missing; give it here or by --model"),
        ("", ("m",), "STRUCTURE: missing; give it here or by --structure"),
        ("model: m", (), "STRUCTURE: missing"),
        ("", ("m", "s", "e", "--model", "x"), "e: MODEL given already"),
        ("model: m\nstructure: s\nextra: e", ("x",), "x: MODEL, STRUCTURE, EXTRA given already"),
        ("stepps: 3", ("m", "s"), "run.yaml: unknown key 'stepps'; did you mean 'steps'"),
        ("timestep: 3", ("m", "s"), "unknown key 'timestep'; did you mean 'time-step'"),
        ("qqq: 3", ("m", "s"), "unknown key 'qqq'; expected one of \\['extra', 'label', 'model'"),
        ("config: a", ("m", "s"), "unknown key 'config'"),
        ("steps: many", ("m", "s"), "run.yaml: steps: .*integer.* \\(got 'many'\\)"),
        ("steps: 1.5", ("m", "s"), "run.yaml: steps: .*integer.* \\(got 1.5\\)"),
        ("steps: true", ("m", "s"), "run.yaml: steps: expected a number, .* \\(got True\\)"),
        ("steps:", ("m", "s"), "run.yaml: steps: expected a number, .* \\(got None\\)"),
        ("steps: [1]", ("m", "s"), "run.yaml: steps: expected a number, .* \\(got \\[1\\]\\)"),
        ("relax: 1", ("m", "s"), "run.yaml: relax: expected true or false \\(got 1\\)"),
        ("repeat: [2, 2]", ("m", "s"), "run.yaml: repeat: expected a list of 3"),
        ("time-step: 1\ntime_step: 2", ("m", "s"), "run.yaml: 'time_step' is given twice"),
        ("- steps", ("m", "s"), "run.yaml holds no options; write lines like"),
        ("steps: [", ("m", "s"), "run.yaml is not YAML"),
    ],
)
def test_what_makes_no_sense_is_told(ask, text: str, arguments, message: str) -> None:
    assert re.search(message, ask(text, *arguments))


def test_a_file_that_is_not_there_is_told(ask) -> None:
    assert "--config: none.yaml cannot be read" in ask("", "m", "s", "--config", "none.yaml")


def test_a_command_runs_from_a_file_and_says_so_in_its_summary(
    run, checkpoint: Path, silicon: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "run.yaml", tmp_path / "out"
    path.write_text(f"model: {checkpoint}\nstructure: {silicon}\nsteps: 1\nfmax: 9\nout: {out}\n")
    found = run("relax", "--config", path, "--optimizer", "lbfgs", "--json")
    assert found.exit_code == 0, found.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["settings"]["fmax"] == 9.0
    assert summary["settings"]["optimizer"] == "lbfgs"
    assert summary["command"].endswith(f"relax --config {path} --optimizer lbfgs --json")
    assert len(summary["calculator"]["sha256"]) == 64
    assert len(ase.io.read(out / "relaxed.extxyz")) == 8


def test_a_recipe_keeps_its_own_file(run) -> None:
    found = run("train", "--config", "none.yaml")
    assert found.exit_code == 1
    assert "none.yaml" in found.stderr
