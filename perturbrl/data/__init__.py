"""Cells: read or fetched, checked, preprocessed and split."""
