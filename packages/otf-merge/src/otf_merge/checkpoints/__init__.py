"""Checkpoint files: one format a module, all read lazily and written whole or not at all."""
