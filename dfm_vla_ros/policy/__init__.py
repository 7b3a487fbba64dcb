"""Observation -> Chunk, the same for live nodes, evaluation and replay."""
