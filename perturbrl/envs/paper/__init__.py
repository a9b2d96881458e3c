"""The released task, continuous and discrete."""
