"""The tables of a session's database, as peewee models.

The models are bound to no database: a process may have many sessions open, so every query is
executed on the database it is meant for. The tables are made by `migrations`, not from here.
"""

import peewee


class Row(peewee.Model):
    """The base of all models."""


class SessionRow(Row):
    """The one row that says which session this is."""

    id = peewee.TextField(primary_key=True)
    project = peewee.TextField()
    created = peewee.FloatField()

    class Meta:
        table_name = "session"


class RunRow(Row):
    """A run, kept up to date with its events."""

    name = peewee.TextField(primary_key=True)
    parents = peewee.TextField()  # a JSON list of names
    created = peewee.FloatField()
    updated = peewee.FloatField()
    state = peewee.TextField()
    reason = peewee.TextField()
    step = peewee.IntegerField()
    epoch = peewee.IntegerField()

    class Meta:
        table_name = "run"


class EventRow(Row):
    """Any event that is neither metrics nor a log line; `body` is its JSON."""

    seq = peewee.IntegerField(primary_key=True)
    kind = peewee.TextField()
    run = peewee.TextField()
    body = peewee.TextField()

    class Meta:
        table_name = "event"


class LogRow(Row):
    """A line of the log."""

    seq = peewee.IntegerField(primary_key=True)
    time = peewee.FloatField()
    run = peewee.TextField()
    step = peewee.IntegerField()
    level = peewee.IntegerField()
    logger = peewee.TextField()
    text = peewee.TextField()

    class Meta:
        table_name = "log"


class MetricBatchRow(Row):
    """The steps and times of one `Metrics` event, as JSON lists of equal length."""

    seq = peewee.IntegerField(primary_key=True)
    run = peewee.TextField()
    steps = peewee.TextField()
    times = peewee.TextField()

    class Meta:
        table_name = "metric_batch"


class MetricColumnRow(Row):
    """One metric's values in one batch, with what is needed to draw it from afar.

    `low` and `high` are the extremes of the finite values, at `low_step` and `high_step`. Points
    after the step `until` were rewound: they are no longer part of the curve.
    """

    seq = peewee.IntegerField()
    run = peewee.TextField()
    name = peewee.TextField()
    size = peewee.IntegerField(column_name="count")
    nonfinite = peewee.IntegerField()
    first_step = peewee.IntegerField()
    last_step = peewee.IntegerField()
    low = peewee.FloatField(null=True)
    low_step = peewee.IntegerField(null=True)
    high = peewee.FloatField(null=True)
    high_step = peewee.IntegerField(null=True)
    values = peewee.TextField(column_name="value_list")  # a JSON list, null where not finite
    until = peewee.IntegerField(null=True)

    class Meta:
        table_name = "metric_column"
        primary_key = peewee.CompositeKey("run", "name", "seq")


class MetricSeriesRow(Row):
    """What is known of one metric of one run, kept up to date with its batches."""

    run = peewee.TextField()
    name = peewee.TextField()
    count = peewee.IntegerField()
    last_step = peewee.IntegerField()
    last_value = peewee.FloatField(null=True)

    class Meta:
        table_name = "metric_series"
        primary_key = peewee.CompositeKey("run", "name")
