"""From a config to run directories: compose, group, train, evaluate, reproduce."""
