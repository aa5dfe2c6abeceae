"""Bundles of the predecessor, as its documentation describes them: a folder with a database."""

import json
import sqlite3
from pathlib import Path
from typing import Any, Dict

from .torchfiles import checkpoint

#: Milliseconds, as it wrote times.
BEGIN = 1_700_000_000_000

_SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, parent_run_id TEXT, project TEXT, name TEXT, created_at INTEGER
);
CREATE TABLE run_edges (child_run_id TEXT, parent_run_id TEXT);
CREATE TABLE metrics (
    run_id TEXT, step INTEGER, epoch INTEGER, loss REAL, val_loss REAL, accuracy REAL, lr REAL,
    grad_norm REAL, weight_norm REAL, activation_zero_frac REAL, throughput REAL, mem_vram REAL,
    gpu_util REAL, ts INTEGER
);
CREATE TABLE logs (
    id INTEGER PRIMARY KEY, run_id TEXT, session_id TEXT, level TEXT, text TEXT, phase TEXT,
    step INTEGER, epoch INTEGER, ts INTEGER
);
CREATE TABLE test_metrics (run_id TEXT, step INTEGER, loss REAL, ts INTEGER);
CREATE TABLE checkpoints (
    ckpt_id TEXT PRIMARY KEY, run_id TEXT, step INTEGER, path TEXT, created_at INTEGER
);
CREATE TABLE session_final_models (
    session_id TEXT PRIMARY KEY, run_id TEXT, ckpt_path TEXT, step INTEGER, avg_test_loss REAL,
    updated_at INTEGER
);
CREATE TABLE summaries (run_id TEXT PRIMARY KEY, final_loss REAL, val_loss REAL);
CREATE TABLE run_subsets (run_id TEXT PRIMARY KEY, indices TEXT);
CREATE TABLE report_loss_dist (
    run_id TEXT, subset_on TEXT, losses TEXT, sample_indices TEXT, note TEXT, at_step INTEGER,
    at_epoch INTEGER, samples INTEGER, created_at INTEGER
);
CREATE TABLE kv (k TEXT, v TEXT);
INSERT INTO runs VALUES ('r3', 'r1', 'digits', 'merge1', 1700000020000);
INSERT INTO runs VALUES ('r1', NULL, 'digits', 'baseline', 1700000000000);
INSERT INTO runs VALUES ('r2', 'r1', 'digits', 'baseline', 1700000010000);
INSERT INTO run_edges VALUES ('r2', 'r1'), ('r3', 'r1'), ('r3', 'r2'), ('r3', 'gone');
INSERT INTO logs VALUES (1, 'r1', 's1', 'warning', 'careful', 'train', 3, 1, 1700000000030);
INSERT INTO logs VALUES (2, NULL, 's1', 'info', 'of the session', 'info', NULL, NULL, 1700000000000);
INSERT INTO test_metrics VALUES ('r1', 4, 0.25, 1700000000050);
INSERT INTO checkpoints VALUES ('c1', 'r1', 2, 'checkpoints/c1.pt', 1700000000020);
INSERT INTO checkpoints VALUES ('c2', 'r1', 4, 'checkpoints/c2.pt', 1700000000040);
INSERT INTO session_final_models
    VALUES ('s1', 'r2', 'final_models/digits-final.pt', 6, 0.25, 1700000000060);
INSERT INTO run_subsets VALUES ('r2', '[1, 2]');
INSERT INTO report_loss_dist VALUES ('r1', 'train', '[]', '[]', '', 4, 2, 0, 1700000000);
"""


def predecessor(folder: Path, **files: bytes) -> Path:
    """A bundle in `folder` with three runs; `files` takes the place of checkpoints by their keys."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "final_models").mkdir()
    for name, path in paths().items():
        (folder / path).write_bytes(files.get(name, checkpoint(step=name)))
    connection = sqlite3.connect(str(folder / "runs.sqlite"))
    connection.executescript(_SCHEMA)
    for step in range(1, 5):
        row: Dict[str, Any] = {"loss": 1 / step, "lr": 0.5}
        if step == 2:
            row["val_loss"] = 0.75
        if step == 3:
            row["loss"] = float("inf")
        add_metrics(connection, "r1", step, 1 + step // 3, **row)
    add_metrics(connection, "r2", 5, 3, loss=0.125)
    connection.commit()
    connection.close()
    describe(folder)
    return folder


def add_metrics(
    connection: sqlite3.Connection, run: str, step: int, epoch: int, **values: float
) -> None:
    """Add a row of metrics."""
    row = {"run_id": run, "step": step, "epoch": epoch, "ts": BEGIN + 10 * step, **values}
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO metrics ({names}) VALUES ({marks})", list(row.values()))


def paths() -> Dict[str, str]:
    """Where the files lie, by key."""
    return {
        "c1": "checkpoints/c1.pt",
        "c2": "checkpoints/c2.pt",
        "s1": "final_models/digits-final.pt",
    }


def describe(folder: Path, **changes: Any) -> None:
    """Write its `bundle.json`."""
    found = paths()
    manifest = {
        "schema_version": "1.1",
        "sqlite": "runs.sqlite",
        "checkpoints": {key: path for key, path in found.items() if key.startswith("c")},
        "final_models": {"s1": found["s1"]},
        **changes,
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))
