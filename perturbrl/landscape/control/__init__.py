"""Optimal control of gene regulatory networks, one page per method."""
