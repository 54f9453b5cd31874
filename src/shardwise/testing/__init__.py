"""Conformance kits that others subclass; tiny data."""
