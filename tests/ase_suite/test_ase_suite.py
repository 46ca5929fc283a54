"""The runner of ASE's suite replaces EMT everywhere, stops in time, resumes and tells the truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ase.build import bulk
from ase.io import write

from ase_pet.formats import Model, native
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from tests.ase_suite import plugin, report
from tests.ase_suite.__main__ import Run
from tests.ase_suite.scan import find_tests


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    hypers = PETHypers(
        cutoff=3.5,
        cutoff_width=1.0,
        d_model=8,
        n_heads=2,
        d_feedforward=8,
        n_message_layers=1,
        n_attention_layers=1,
        head_width=4,
    )
    path = tmp_path_factory.mktemp("model") / "copper.pt"
    native.save(Model(Total(PET(hypers, (29,))), "float32", {"rotations": "atom"}), path)
    return path


def execute(run: Run, *arguments: str) -> str:
    run.output.mkdir(parents=True, exist_ok=True)
    environment = {**run.environment(), "PYTEST_CURRENT_TEST": "file.py::test (call)"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "lookup",
    [
        "from ase.calculators.emt import EMT",
        "import ase.calculators.emt as emt; EMT = emt.EMT",
        "from ase.calculators.calculator import get_calculator_class as f; EMT = f('emt')",
        "from ase._4.calculators.emt import EMT; EMT = EMT.wrapped_class",
    ],
)
def test_emt_is_replaced_however_it_is_found(lookup: str, checkpoint: Path, tmp_path: Path) -> None:
    code = f"{lookup}; print([c.__name__ for c in EMT.mro()][1]); EMT()"
    run = Run("pet", checkpoint, 10, tmp_path)
    assert execute(run, "-c", code).split() == ["PETCalculator"]
    assert run.uses() == {"file.py::test"}
    real = Run("emt", None, 10, tmp_path)
    assert execute(real, "-c", code).split() == ["Calculator"]
    assert real.uses() == {"file.py::test"}


def test_emt_is_replaced_on_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    write(tmp_path / "cu.xyz", bulk("Cu"))
    command = ["-m", "ase", "-T", "run", "emt", str(tmp_path / "cu.xyz"), "--after"]
    command += ["print(atoms.calc.name, len(atoms.get_forces()))"]
    assert "pet 1" in execute(Run("pet", checkpoint, 10, tmp_path), *command)


def test_time_limit_and_resumption(tmp_path: Path) -> None:
    file = tmp_path / "test_slow.py"
    file.write_text(
        "import time\n"
        "def test_busy():\n    while True: pass\n"
        "def test_waits():\n    time.sleep(1000)\n"
        "def test_quick():\n    open('ran', 'a').write('x')\n"
        "def test_wrong():\n    assert 1 == 2\n"
    )
    run = Run("emt", None, 0.3, tmp_path / "out")
    run.output.mkdir()
    for _ in range(2):
        command = [sys.executable, "-m", "pytest", "-p", "tests.ase_suite.plugin", "-q", str(file)]
        command += ["-c", str(Path(plugin.__file__).with_name("ase.ini")), f"--rootdir={tmp_path}"]
        subprocess.run(command, env=run.environment(), cwd=tmp_path, check=False)
    results = {test.partition("::")[2]: r for test, r in run.results().items()}
    assert {t: r["outcome"] for t, r in results.items()} == {
        "test_busy": "failed",
        "test_waits": "failed",
        "test_quick": "passed",
        "test_wrong": "failed",
    }
    assert all(plugin.TIMEOUT in results[t]["message"] for t in ("test_busy", "test_waits"))
    assert "assert 1 == 2" in results["test_wrong"]["message"]
    assert (tmp_path / "ran").read_text() == "x"
    with run.file("jsonl").open("a") as stream:
        stream.write('{"test": "cut sho')
    assert len(run.results()) == 4


def test_scan_reads_the_sources(tmp_path: Path) -> None:
    sources = {
        "test_class.py": "from ase.calculators.emt import EMT\n",
        "test_name.py": "names = ['abinit', 'emt']\n",
        "test_comment.py": "# EMT would do\nx = 1\n",
        "test_word.py": "text = 'temtation'\n",
        "test_doctests.py": "import doctest\nnames = 'ase.eos ase.no_such_module'\n",
        "below/conftest.py": "from ase.calculators.emt import EMT\n",
        "below/deep/test_other.py": "x = 1\n",
        "test_import.py": "from .test_class import *\n",
        "test_import_other.py": "from .test_word import text\n",
        "helper.py": "from ase.calculators.emt import EMT\n",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    expected = ["below/deep/test_other.py", "test_class.py", "test_doctests.py"]
    assert find_tests(tmp_path) == [*expected, "test_import.py", "test_name.py"]


def test_comparison() -> None:
    def results(**outcomes: str) -> dict[str, report.Result]:
        return {t: {"outcome": o.partition(" ")[0], "message": o} for t, o in outcomes.items()}

    emt = results(
        a="passed", b="passed", c="passed", d="passed", e="failed", f="skipped", g="passed"
    )
    slow = f"failed by the {plugin.TIMEOUT}"
    pet = results(a="passed", b="failed 1 != 2", c=slow, d="failed oops", e="failed", f="skipped")
    expected = {
        "a": report.Expected("numbers", "an old entry"),
        "b": report.Expected("numbers", "two is not one"),
        "c": report.Expected("time", "long"),
        "d": report.Expected("time", "long"),
        "z": report.Expected("numbers", "gone"),
    }
    found = report.compare(pet, emt, expected)
    assert found.passed == found.listed_but_passed == ["a"]
    assert set(found.explained) == {"b", "c"}
    assert set(found.also_emt) == {"e"}
    assert found.unexplained == {"d": "failed oops", "g": "was not run"}
    assert found.listed_but_absent == ["z"]
    assert found.n_failed == 5
    text = report.write(found, {"a", "b"}, ["heading"])
    assert "| passed | 1 | 1 |" in text
    assert "| failed | 5 | 1 |" in text
    assert "- d: failed oops" in text


@pytest.mark.parametrize("line", ["numbers | a", "colour | a | b", "time | a | "])
def test_table_of_failures_is_checked(line: str, tmp_path: Path) -> None:
    path = tmp_path / "expected.txt"
    path.write_text(f"# comment\n\nnumbers | x.py::test[a-b] | reason\n{line}\n")
    with pytest.raises(ValueError, match=r"expected.txt:4: expected 'kind \| test \| reason'"):
        report.read_expected(path)


def test_shipped_table_is_valid() -> None:
    expected = report.read_expected(Path(report.__file__).with_name("expected_failures.txt"))
    assert all(len(e.reason) > 10 for e in expected.values())
