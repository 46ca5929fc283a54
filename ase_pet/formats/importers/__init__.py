"""Readers of other projects' checkpoints, one format a file."""
