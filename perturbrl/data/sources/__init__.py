"""Where cells come from; a module registers the source of its name."""
