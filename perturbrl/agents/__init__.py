"""Agents; ``perturbrl.registry`` says which module registers which."""
