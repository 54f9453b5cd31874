"""Before anything is done: sizes to time, memory and disk; how best to cut the data."""
