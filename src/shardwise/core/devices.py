"""The devices on which neural models are trained, by name."""

DEVICES = ("auto", "cpu", "cuda", "mps")
