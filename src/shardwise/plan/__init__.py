"""Sizes to time, memory, disk."""
