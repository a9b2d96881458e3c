"""Steering a cell to a fate on an executable network."""
