"""Policy and value networks of S runs: layers, action distributions, the actor-critic."""
