"""Agents, one page each; a module registers the agent of its name."""
