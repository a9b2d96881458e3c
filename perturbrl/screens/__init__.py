"""Perturbation screens: cells under named conditions, how they are split, and how a condition is described."""
