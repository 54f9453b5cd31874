"""Learners behind one interface."""

from shardwise.core import startup

if startup.alone:
    startup.import_lightgbm()
