"""`otf session metrics`: what was measured, in other programs' files."""

import csv
import io
import json
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from otf_session.cli import app
from otf_session.events import Rewound, RunState
from otf_session.metrics import parquet, tensorboard
from otf_session.metrics.export import export_metrics
from otf_session.metrics.format import Format
from otf_session.store import SessionReader

from ..helpers.sessions import BEGIN, RUN, losses, make_session, metrics, started, state
from ..helpers.shell import invoke, modules_after

#: What the curves of the session are: run, name, step, value.
CURVES = [
    (RUN, "loss", 1, 0.75),
    (RUN, "loss", 2, None),
    (RUN, "accuracy", 2, 0.5),
    (RUN, "loss", 3, 0.125),
    (RUN, "loss", 4, 1e300),
    ("fork/1", "loss", 2, 0.3),
]
#: What a rewind from step 5 to step 2 took out of them.
REWOUND = [(RUN, "loss", 3, 9.0), (RUN, "loss", 5, 8.0)]


@pytest.fixture
def folder(home):
    store = make_session(
        home,
        started(),
        metrics([1, 2], loss=[0.75, None]),
        metrics([2], accuracy=[0.5]),
        metrics([3, 5], loss=[9.0, 8.0]),
        Rewound(time=BEGIN, run=RUN, step=2, epoch=1, left_step=5, checkpoint="c"),
        metrics([3, 4], loss=[0.125, 1e300]),
        started("fork/1", parents=[RUN], time=BEGIN + 1),
        metrics([2], run="fork/1", loss=[0.3]),
        state(RunState.FINISHED, step=4),
    )
    store.close()
    return store.folder


def export(*words):
    result = invoke(app, "metrics", "latest", *words)
    assert result.exit_code == 0, result.stderr
    return result


def refused(*words, code=1):
    result = invoke(app, "metrics", "latest", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")
    return result.stderr


def read_csv(text):
    """The rows as run, name, step, value; None where not finite."""
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        value = float(row["value"])
        point = None if math.isnan(value) else value
        rows.append((row["run"], row["name"], int(row["step"]), point))
        assert float(row["time"]) == BEGIN + int(row["step"])
    return rows


# Text


def test_csv_has_a_row_per_value_in_the_order_of_the_record(folder):
    result = export()
    assert result.stdout.splitlines()[0] == "run,name,step,time,value"
    assert read_csv(result.stdout) == CURVES
    assert result.stderr == ""


def test_the_numbers_are_those_that_were_recorded_to_the_last_bit(home):
    values = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0]
    make_session(home, started(), metrics(range(1, 6), loss=values)).close()
    found = [float(row["value"]) for row in csv.DictReader(io.StringIO(export().stdout))]
    assert [value.hex() for value in found] == [value.hex() for value in values]


def test_names_with_commas_quotes_and_line_breaks_are_quoted(home):
    run, name = 'a "b", c', "loss,\ntotal"
    make_session(home, started(run), metrics([1], run=run, **{name: [0.5]})).close()
    assert read_csv(export().stdout) == [(run, name, 1, 0.5)]
    (row,) = csv.DictReader(io.StringIO(export("--wide").stdout))
    assert (row["run"], row[name]) == (run, "0.5")


def test_json_lines_hold_the_same(folder):
    lines = export("--format", "jsonl").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [list(each) for each in found] == [["run", "name", "step", "time", "value"]] * 6
    assert [(e["run"], e["name"], e["step"], e["value"]) for e in found] == CURVES


def test_what_is_written_is_what_the_store_s_view_shows(folder):
    with SessionReader(folder) as reader:
        rows = reader.database.execute_sql(
            "SELECT run, name, step, value FROM metric WHERE NOT rewound ORDER BY run, name, step"
        ).fetchall()
    assert sorted(CURVES, key=str) == sorted(rows, key=str)


def test_rewound_points_come_when_asked_for_and_say_so(folder):
    found = list(csv.DictReader(io.StringIO(export("--rewound").stdout)))
    gone = [row for row in found if row["rewound"] == "1"]
    assert [(r["run"], r["name"], int(r["step"]), float(r["value"])) for r in gone] == REWOUND
    assert len(found) == len(CURVES) + len(REWOUND)
    lines = export("--rewound", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["rewound"] for line in lines].count(True) == 2


def test_runs_and_metrics_are_chosen(folder):
    assert read_csv(export("--run", "fork/1").stdout) == [CURVES[5]]
    assert read_csv(export("--metric", "accuracy").stdout) == [CURVES[2]]
    two = export("--metric", "accuracy", "--metric", "loss", "--run", RUN)
    assert read_csv(two.stdout) == CURVES[:5]
    assert read_csv(export("--metric", "accuracy", "--run", "fork/1").stdout) == []


def test_what_is_not_there_is_said_with_what_is(folder):
    assert f"It has: {RUN}, fork/1." in refused("--run", "fork")
    assert "It has: accuracy, loss." in refused("--metric", "acc")


def test_a_session_without_metrics_is_an_error(home):
    make_session(home, started()).close()
    assert "has no metrics yet" in refused()


def test_wide_rows_hold_a_step_each(folder):
    found = list(csv.DictReader(io.StringIO(export("--wide").stdout)))
    assert list(found[0]) == ["run", "step", "time", "accuracy", "loss"]
    assert [(r["run"], r["step"], r["accuracy"], r["loss"]) for r in found] == [
        (RUN, "1", "", "0.75"),
        (RUN, "2", "0.5", "nan"),
        (RUN, "3", "", "0.125"),
        (RUN, "4", "", "1e+300"),
        ("fork/1", "2", "", "0.3"),
    ]


def test_wide_rows_put_together_what_comes_in_batches_of_many_steps(home):
    steps = range(1, 1001)
    make_session(
        home,
        started(),
        metrics(steps, loss=[1.0] * 1000),
        metrics([1000], val_loss=[0.5]),
        metrics(steps, step_time=[0.25] * 1000),
    ).close()
    found = list(csv.DictReader(io.StringIO(export("--wide").stdout)))
    assert [int(row["step"]) for row in found] == list(steps)
    assert {(row["loss"], row["step_time"]) for row in found} == {("1.0", "0.25")}
    assert [row["val_loss"] for row in found if row["val_loss"]] == ["0.5"]


def test_wide_rows_of_a_long_session_are_let_go_in_order(home, monkeypatch):
    from otf_session.metrics import rows

    monkeypatch.setattr(rows, "_HELD", 10)
    make_session(home, started(), *(losses(n, n) for n in range(1, 101))).close()
    found = list(csv.DictReader(io.StringIO(export("--wide").stdout)))
    assert [int(row["step"]) for row in found] == list(range(1, 101))


def test_wide_rows_keep_both_what_was_rewound_and_what_was_measured_again(folder):
    found = list(csv.DictReader(io.StringIO(export("--wide", "--rewound").stdout)))
    of_three = [(row["rewound"], row["loss"]) for row in found if row["step"] == "3"]
    assert sorted(of_three) == [("0", "0.125"), ("1", "9.0")]


def test_a_metric_with_the_name_of_a_column_has_a_column_of_its_own(home):
    make_session(home, started(), metrics([1], step=[7.0], time=[8.0], loss=[1.0])).close()
    (row,) = csv.DictReader(io.StringIO(export("--wide").stdout))
    assert (row["step"], row["step (metric)"], row["time (metric)"]) == ("1", "7.0", "8.0")


# Files


def test_a_file_appears_whole_and_says_by_its_name_what_it_is(folder, tmp_path):
    target = tmp_path / "m.jsonl"
    result = export("-o", target)
    assert result.stdout == ""
    assert "6 values" in result.stderr
    assert target.read_text() == export("--format", "jsonl").stdout
    assert os.listdir(tmp_path) == ["m.jsonl"]


def test_a_file_that_is_there_is_replaced_only_by_force(folder, tmp_path):
    target = tmp_path / "m.csv"
    target.write_text("precious")
    assert "--force" in refused("-o", target)
    assert target.read_text() == "precious"
    export("-o", target, "--force")
    assert read_csv(target.read_text()) == CURVES


@pytest.mark.parametrize("name", ["no/such/folder/m.csv", "."])
def test_a_place_that_cannot_be_written_is_said(folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    message = refused("-o", name)
    assert "cannot be written" in message or "is a folder" in message
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
@pytest.mark.parametrize("words", [[], ["--format", "tensorboard"]])
def test_a_full_disk_leaves_nothing_behind(home, tmp_path, words):
    make_session(home, started(), losses(1, 20_000)).close()
    code = (
        "import resource, sys\nfrom otf_session.cli import app\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "app(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "metrics", "latest", "-o", str(tmp_path / "out"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be written: File too large. Nothing of it was left behind." in done.stderr
    assert os.listdir(tmp_path) == []


def test_an_export_that_is_killed_leaves_nothing_that_looks_finished(home, tmp_path):
    make_session(home, started(), *(losses(n, n + 99) for n in range(1, 20_000, 100))).close()
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from otf_session.metrics.export import export_metrics\n"
        "from otf_session.metrics.format import Format\n"
        "from otf_session.home import Home\n"
        "def report(done, total):\n"
        "    if done > 5000: os.kill(os.getpid(), signal.SIGKILL)\n"
        "folder = Home.find().session_folder('latest')\n"
        "export_metrics(folder, Format.CSV, Path(sys.argv[1]), report=report)"
    )
    target = tmp_path / "m.csv"
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode != 0
    assert not target.exists()
    assert all(name.startswith(".") for name in os.listdir(tmp_path))


def test_memory_does_not_depend_on_how_much_was_measured(home, tmp_path):
    def peak(count):
        store = make_session(home, started())
        for first in range(1, count, 100):
            store.append([losses(first, first + 99)])
        store.close()
        tracemalloc.start()
        with (tmp_path / "out").open("wb") as file:
            written = export_metrics(store.folder, Format.CSV, file)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert written.points == count
        return most

    peak(1000)
    assert peak(100_000) < 1.5 * peak(25_000)


def test_a_reader_that_has_seen_enough_is_no_error(home):
    make_session(home, started(), losses(1, 50_000)).close()
    code = "import sys; from otf_session.cli import app; app(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "metrics", "latest"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"run,name,step,time,value\n"
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_live_session_is_exported_as_it_is_now(home):
    store = make_session(home, started(), losses(1, 5))
    assert len(export().stdout.splitlines()) == 6
    store.append([losses(6, 10)])
    assert len(export().stdout.splitlines()) == 11
    store.close()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--format", "parquet"], "with -o"),
        (["--format", "tensorboard"], "with -o"),
        (["--format", "jsonl", "--wide"], "--wide is for csv and parquet"),
        (["--format", "tensorboard", "-o", "x", "--wide"], "--wide is for csv and parquet"),
        (["--format", "tensorboard", "-o", "x", "--rewound"], "one value at a step"),
    ],
)
def test_what_does_not_go_together_is_a_misuse(folder, words, why):
    assert why in refused(*words, code=2)


def test_an_unknown_format_is_a_misuse(folder):
    assert invoke(app, "metrics", "latest", "--format", "xml").exit_code == 2


def test_metrics_are_written_without_torch(folder):
    words = "import otf_session.cli as cli; cli.app(['metrics', 'latest', '--metric', 'accuracy'])"
    assert modules_after(words, ["torch", "pyarrow", "tensorboard"]) == []


# Parquet


def test_without_pyarrow_it_is_said_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = refused("-o", tmp_path / "m.parquet")
    assert 'pip install "otf-session[parquet]"' in message
    assert os.listdir(tmp_path) == []


def read_parquet(path):
    return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()


def test_parquet_holds_a_row_per_value(folder, tmp_path):
    pytest.importorskip("pyarrow")
    export("-o", tmp_path / "m.parquet")
    found = read_parquet(tmp_path / "m.parquet")
    assert [list(row) for row in found] == [["run", "name", "step", "time", "value"]] * 6
    points = [
        (r["run"], r["name"], r["step"], None if math.isnan(r["value"]) else r["value"])
        for r in found
    ]
    assert points == CURVES
    assert os.listdir(tmp_path) == ["m.parquet"]


def test_parquet_may_be_wide_and_tells_not_measured_from_not_finite(folder, tmp_path):
    pytest.importorskip("pyarrow")
    export("-o", tmp_path / "m.parquet", "--wide", "--rewound")
    found = read_parquet(tmp_path / "m.parquet")
    assert list(found[0]) == ["run", "step", "time", "rewound", "accuracy", "loss"]
    assert found[0]["accuracy"] is None
    assert math.isnan(found[1]["loss"])
    assert [row["rewound"] for row in found].count(True) == 2


def test_parquet_is_written_in_row_groups(home, tmp_path, monkeypatch):
    reading = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "_ROWS", 64)
    make_session(home, started(), losses(1, 200)).close()
    export("-o", tmp_path / "m.parquet")
    file = reading.ParquetFile(tmp_path / "m.parquet")
    assert (file.num_row_groups, file.metadata.num_rows) == (4, 200)


# TensorBoard


def test_the_checksum_is_crc32c_masked():
    # 32 bytes of zeros, of ones, ascending, descending: RFC 3720, B.4.
    known = {
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        bytes(range(31, -1, -1)): 0x113FDB5C,
    }
    for data, crc in known.items():
        masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        assert tensorboard._checksum(data) == masked.to_bytes(4, "little")


def curves_in(folder):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }, accumulator


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_recorded(folder, tmp_path):
    pytest.importorskip("tensorboard")
    out = tmp_path / "board"
    export("--format", "tensorboard", "-o", out)
    assert sorted(os.listdir(out)) == [RUN, "fork_1"]
    found, accumulator = curves_in(out / RUN)
    assert found["accuracy"] == [(2, 0.5)]
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4]
    values = [value for _, value in found["loss"]]
    assert values[0] == 0.75
    assert math.isnan(values[1])
    # Its numbers have 32 bits.
    assert values[2:] == [0.125, math.inf]
    assert accumulator.Scalars("loss")[2].wall_time == BEGIN + 3
    assert curves_in(out / "fork_1")[0] == {"loss": [(2, pytest.approx(0.3))]}


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_s_own_check_of_every_record_passes(home, tmp_path):
    reader = pytest.importorskip("tensorboard.compat.tensorflow_stub.pywrap_tensorflow")
    make_session(home, started(), losses(1, 500), losses(10**6, 10**6 + 500)).close()
    export("--format", "tensorboard", "-o", tmp_path / "board")
    (path,) = (tmp_path / "board" / RUN).iterdir()
    ended = pytest.importorskip("tensorboard.compat.tensorflow_stub.errors").OutOfRangeError
    records = reader.PyRecordReader_New(str(path))
    for _ in range(1 + 1001):
        records.GetNext()
    with pytest.raises(ended):
        records.GetNext()


def test_a_folder_that_holds_something_is_left_alone(folder, tmp_path):
    out = tmp_path / "board"
    out.mkdir()
    export("--format", "tensorboard", "-o", out)
    before = sorted(Path(out).rglob("*"))
    assert "is not empty" in refused("--format", "tensorboard", "-o", out)
    assert sorted(Path(out).rglob("*")) == before
    assert os.listdir(tmp_path) == ["board"]


def test_runs_whose_names_differ_only_in_what_folders_cannot_hold_stay_apart(home, tmp_path):
    names = ["a/b", "a:b", "A_B", "..", ""]
    events = [event for name in names for event in (started(name), losses(1, 2, run=name))]
    make_session(home, *events).close()
    export("--format", "tensorboard", "-o", tmp_path / "board")
    assert len(os.listdir(tmp_path / "board")) == len(names)
    assert {path.parent for path in (tmp_path / "board").iterdir()} == {tmp_path / "board"}
