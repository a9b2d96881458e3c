"""Generators of perturbed cells; they see tensors of cells and conditions, never data."""
