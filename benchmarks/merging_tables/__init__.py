"""What merging does on real data: one file a table, and what they share."""
