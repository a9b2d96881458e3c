"""Agents; a module registers the agent of its name."""
