"""What was measured, for other programs: CSV, JSON lines, Parquet and TensorBoard's event files.

`export.export_metrics` reads a session batch by batch, in the order in which it was recorded, so that
memory does not depend on how much that is. Points that a rewind took out of the curves are left out
unless they are asked for.
"""
