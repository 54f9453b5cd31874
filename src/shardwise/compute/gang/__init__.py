"""Gangs: members that run together and talk to each other, on any engine that can start them together."""
