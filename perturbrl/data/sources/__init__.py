"""Where cells come from; ``perturbrl.registry`` says which module registers which source."""
