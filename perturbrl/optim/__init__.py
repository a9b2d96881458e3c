"""Optimisers by name, for any agent and for supervised parts."""
