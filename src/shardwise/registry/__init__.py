"""Sealed folders with a manifest."""
