"""The first schema: session, runs, events, log and columnar metrics."""

SQL = """
CREATE TABLE session (
    id TEXT PRIMARY KEY NOT NULL,
    project TEXT NOT NULL,
    created REAL NOT NULL
);
CREATE TABLE run (
    name TEXT PRIMARY KEY NOT NULL,
    parents TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    step INTEGER NOT NULL,
    epoch INTEGER NOT NULL
);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    run TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX event_kind ON event (kind, seq);
CREATE TABLE log (
    seq INTEGER PRIMARY KEY NOT NULL,
    time REAL NOT NULL,
    run TEXT NOT NULL,
    step INTEGER NOT NULL,
    level INTEGER NOT NULL,
    logger TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE TABLE metric_batch (
    seq INTEGER PRIMARY KEY NOT NULL,
    run TEXT NOT NULL,
    steps TEXT NOT NULL,
    times TEXT NOT NULL
);
CREATE TABLE metric_column (
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES metric_batch (seq),
    count INTEGER NOT NULL,
    nonfinite INTEGER NOT NULL,
    first_step INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    low REAL,
    low_step INTEGER,
    high REAL,
    high_step INTEGER,
    value_list TEXT NOT NULL,
    PRIMARY KEY (run, name, seq)
) WITHOUT ROWID;
CREATE INDEX metric_column_seq ON metric_column (seq);
CREATE TABLE metric_series (
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    last_value REAL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE VIEW metric AS
    SELECT c.run AS run, c.name AS name, s.value AS step, t.value AS time, v.value AS value
    FROM metric_column AS c
    JOIN metric_batch AS b ON b.seq = c.seq
    JOIN json_each(c.value_list) AS v
    JOIN json_each(b.steps) AS s ON s.key = v.key
    JOIN json_each(b.times) AS t ON t.key = v.key;
"""
