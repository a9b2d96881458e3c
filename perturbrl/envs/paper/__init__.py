"""The released tasks (arXiv 2510.13018): continuous and discrete actions against CRISPR events."""
