"""Effects of perturbations: as observed, and as the simple baselines predict them."""
