"""Protocols, metrics and the rows that every table carries."""
