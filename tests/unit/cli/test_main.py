"""Every failure is one sentence on stderr and a non-zero exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner

from ase_pet import PETCalculator, __version__, training
from ase_pet.cli import app
from ase_pet.cli.main import _sentence
from ase_pet.errors import CheckpointError
from ase_pet.formats import Model, native

COMMANDS = (
    "eval", "relax", "eos", "elastic", "md", "phonons", "check", "info", "convert", "train",
    "evaluate",
)  # fmt: skip


def test_help_lists_every_command_and_each_has_help(run) -> None:
    listed = run("--help").stdout
    for command in COMMANDS:
        assert command in listed
        found = run(command, "--help")
        assert found.exit_code == 0
        assert "Usage" in found.stdout


@pytest.mark.parametrize(
    ("command", "texts"),
    [
        ("eval", ("Which structures of the file", "Extended XYZ file for the results")),
        ("relax", ("Largest force at which to stop", "Folder for the files")),
        ("md", ("Number of time steps", "Folder for the files")),
        ("phonons", ("(default: each at least 12 Å long)", "Folder for the files")),
    ],
)
def test_commands_on_structures_explain_their_options(
    run, command: str, texts: tuple[str, ...]
) -> None:
    found = run(command, "--help").stdout
    for text in (
        *texts,
        "MODEL",
        "STRUCTURE",
        "-o",
        "(default: the checkpoint's)",
        "Of neighbour lists, in Å",
    ):
        assert text in found
    assert "--no-json" not in found


def test_version(run) -> None:
    assert run("--version").stdout == f"ase-pet {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "none.pt"), "none.pt: no such file or folder"),
        (("eval", "{model}", "none.xyz"), "none.xyz: no such file"),
        (("eval", "{model}", "{model}"), "ASE cannot read it as a structure"),
        (("eval", "{model}", "{silicon}", "--index", "9"), "no structure of index 9 in it"),
        (("eval", "{model}", "{silicon}", "--index", "last"), "--index: expected a number or a"),
        (("eval", "{model}", "{folder}"), "a folder; give a file"),
        (("eval", "{model}", "{nothing}"), "the file is empty; write it again"),
        (("eval", "{model}", "{silicon}", "--symmetry", "O4"), "expected O3, SO3 or none"),
        (("eval", "{model}", "{silicon}", "--device", "tpu"), "device: expected 'auto'"),
        (("eval", "{model}", "{silicon}", "--dtype", "half"), "dtype: expected 'float32'"),
        (("eval", "{model}", "{copper}"), "the model does not know Cu"),
        (("eval", "{model}", "{empty}"), "no atoms"),
        (("md", "{model}", "{silicon}", "--dynamics", "nvt"), "dynamics: expected one of"),
        (("relax", "{model}", "{silicon}", "--cell", "free"), "cell: expected one of"),
        (("phonons", "{model}", "{molecule}", "--no-relax"), "phonons need a crystal"),
        (("phonons", "{model}", "{molecule}"), "phonons need a crystal"),
        (("eos", "{model}", "{molecule}"), "an equation of state needs a crystal"),
        (("elastic", "{model}", "{molecule}"), "elastic constants need a crystal"),
        (("md", "{model}", "{silicon}", "--dynamics", "bussi"), "give it in K (--temperature on"),
        (("analyze", "{molecule}", "--kinds", "msd"), "(--spacing on the command line)"),
        (("phonons", "{model}", "{silicon}", "--no-relax", "--fmax", "-1"), "fmax: expected"),
        (("md", "{model}", "{silicon}", "--seed", "-1"), "seed: expected 0 or more"),
        (("md", "{model}", "{silicon}", "--repeat", "-1", "1", "1"), "repeat: expected three"),
        (("md", "{model}", "{silicon}"), "(--temperature on the command line)"),
        (("check", "{model}", "--n-rotations", "0"), "n_rotations: expected 1 or more, got 0"),
        (("check", "{model}", "none.xyz"), "none.xyz: no such file"),
        (("check", "{model}", "{silicon}", "--structure", "x"), "si.extxyz: STRUCTURE given"),
        (("convert", "{model}", "{model}"), "exists; give another name or --force"),
        (("convert", "{model}", "new.pt", "--note", "x"), "--note: expected NAME=TEXT"),
        (("evaluate", "{model}", "{silicon}", "--where", "x"), "--where: expected NAME=VALUE"),
        (("train", "none.yaml"), "none.yaml: no such file; give the recipe"),
    ],
)
def test_failures_are_one_sentence(
    run, checkpoint: Path, silicon: Path, arguments, message: str
) -> None:
    folder = silicon.parent
    files = {"model": checkpoint, "silicon": silicon, "folder": folder}
    for name, text in {
        "copper": "1\nCu\nCu 0 0 0\n",
        "empty": "0\n\n",
        "nothing": "",
        "molecule": "2\nSi2\nSi 0 0 0\nSi 0 0 2.2\n",
    }.items():
        files[name] = folder / f"{name}.xyz"
        files[name].write_text(text)
    found = run(*(argument.format(**files) for argument in arguments))
    assert found.exit_code == 1
    assert found.stderr.startswith("error: ")
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "{model}", "{silicon}", "--out", "{folder}/no/x.xyz"), "no folder {folder}/no"),
        (("eval", "{model}", "{silicon}", "--out", "{folder}/x.foo"), "cannot write such a file"),
        (("eval", "{model}", "{silicon}", "--out", "."), "--out: . is a folder"),
        (("eval", "{model}", "{silicon}", "--out", "{silicon}/x.xyz"), "is a file, where"),
        (("relax", "{model}", "{silicon}", "--out", "{silicon}"), "is a file, where"),
        (("md", "{model}", "{silicon}", "--out", "{silicon}"), "is a file, where"),
        (("md", "{model}", "{silicon}", "--out", "{silicon}/md"), "is a file, where"),
        (("phonons", "{model}", "{silicon}", "--out", "{silicon}"), "is a file, where"),
        (("evaluate", "{model}", "{silicon}", "--out", "{silicon}"), "is a file, where"),
        (("convert", "{model}", "{folder}/no/x.pt"), "DESTINATION: no folder {folder}/no"),
        (("convert", "{model}", "{folder}", "--force"), "DESTINATION: {folder} is a folder"),
    ],
)
def test_where_to_write_is_checked_before_anything_is_computed(
    run, checkpoint: Path, silicon: Path, monkeypatch, arguments, message: str
) -> None:
    for owner, name in (
        (PETCalculator, "compute"),
        (training, "evaluate"),
        (native, "save"),
    ):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("computed already"))
    files = {"model": checkpoint, "silicon": silicon, "folder": silicon.parent}
    before = sorted(silicon.parent.iterdir())
    found = run(*(argument.format(**files) for argument in arguments))
    assert found.exit_code == 1
    assert message.format(**files) in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert sorted(silicon.parent.iterdir()) == before


def test_a_closed_pipe_is_no_error() -> None:
    code = "from ase_pet.cli import app; app()"
    for arguments in (("md", "--help"), ("info", "pet-si"), ("info", "pet-si", "--json")):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-c", code, *arguments]
        found = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(writer)
        assert found.stderr == ""


def test_wrong_usage_is_told_by_typer(run) -> None:
    found = run("md", "--stepps", 3)
    assert found.exit_code == 2
    assert "No such option" in found.stderr


def test_completion_is_for_every_shell(run, monkeypatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    for shell, mark in {"bash": "complete ", "zsh": "#compdef", "fish": "complete "}.items():
        assert mark in run("--show-completion", shell).stdout
    assert "--install-completion" in run("--help").stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("ase-pet relax pet-s", ["pet-si"]),
        ("ase-pet info --model pet-s", ["pet-si"]),
        ("ase-pet eval pet-si,tensornet-s", ["pet-si,tensornet-si"]),
        ("ase-pet relax pet-si x.c", []),
    ],
)
def test_names_of_shipped_models_are_completed(words: str, found: list[str]) -> None:
    asked = {
        "_ASE_PET_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    assert CliRunner().invoke(app, [], env=asked, prog_name="ase-pet").stdout.split() == found


def test_debug_raises(run) -> None:
    found = run("--debug", "info", "none.pt")
    assert isinstance(found.exception, CheckpointError)


def test_as_a_program() -> None:
    code = "from ase_pet.cli import app; app()"
    command = [sys.executable, "-c", code, "info", "none.pt"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.startswith("error: none.pt: no such file")
    assert found.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_told(model: Model, tmp_path: Path, monkeypatch) -> None:
    opened = Path.open

    def full(path: Path, mode: str) -> IO[bytes]:
        return opened(Path("/dev/full"), "wb") if mode == "xb" else opened(path, mode)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left on device") as failed:
        native.save(model, tmp_path / "new.pt")
    assert _sentence(failed.value).startswith("the disk is full ([Errno 28]")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_command_says_so(run, silicon: Path, monkeypatch) -> None:
    def interrupted(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ase_pet.cli.options.read_structures", interrupted)
    monkeypatch.setattr("ase_pet.cli.models.read_structures", interrupted)
    found = run("info", "pet-si", silicon)
    assert found.exit_code == 130
    assert found.stderr.startswith("interrupted\n")
