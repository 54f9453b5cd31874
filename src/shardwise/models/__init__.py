"""Learners behind one interface."""
