"""Exchanges: what some tasks make goes by its key to others, over an engine's own shuffle or files that all see."""
