"""Runs that were rewound: which of a column's points still belong to its curve.

`until` is the last step that does; points after it were recorded before the run went back.
"""

SQL = """
ALTER TABLE metric_column ADD COLUMN until INTEGER;
DROP VIEW metric;
CREATE VIEW metric AS
    SELECT c.run AS run, c.name AS name, s.value AS step, t.value AS time, v.value AS value,
        c.until IS NOT NULL AND s.value > c.until AS rewound
    FROM metric_column AS c
    JOIN metric_batch AS b ON b.seq = c.seq
    JOIN json_each(c.value_list) AS v
    JOIN json_each(b.steps) AS s ON s.key = v.key
    JOIN json_each(b.times) AS t ON t.key = v.key;
"""
