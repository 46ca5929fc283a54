import csv
import io

from rich.console import Console

from ase_pet.training.report import Report, error_table, write_history


def text_of(action):
    stream = io.StringIO()
    action(Report(Console(file=stream, width=100)))
    return stream.getvalue()


def test_epoch_is_one_plain_line_with_units():
    row = {
        "epoch": 3, "elapsed": 12.0, "rate": 1e-3, "train_loss": 0.5, "validation_loss": 0.25,
        "validation_energy_mae": 0.004, "validation_forces_mae": 0.05,
        "validation_stress_mae": 0.001,
    }  # fmt: skip
    text = text_of(lambda report: report.epoch(row))
    assert text.count("\n") == 1
    for part in ("0.5 / 0.25", "energy meV/atom 4", "forces meV/Å 50", "stress GPa 0.1602"):
        assert part in text
    assert "\x1b" not in text


def test_no_progress_bar_without_terminal():
    assert text_of(lambda report: list(report.track([1, 2, 3], "epoch"))) == ""


def test_progress_bar_on_a_terminal():
    stream = io.StringIO()
    report = Report(Console(file=stream, force_terminal=True, width=80))
    assert list(report.track([1, 2, 3], "epoch 7")) == [1, 2, 3]
    assert "epoch 7" in stream.getvalue()


def test_table_leaves_out_what_no_set_has():
    rows = {"a": {"energy_mae": 0.001, "energy_rmse": 0.002}}
    stream = io.StringIO()
    Console(file=stream, width=100).print(error_table("errors", rows))
    assert "1 / 2" in stream.getvalue()
    assert "stress" not in stream.getvalue()


def test_history_is_csv(tmp_path):
    write_history(tmp_path / "history.csv", [{"epoch": 1, "a": 2.0}, {"epoch": 2, "b": 3.0}])
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"epoch": "1", "a": "2.0", "b": ""}, {"epoch": "2", "a": "", "b": "3.0"}]
