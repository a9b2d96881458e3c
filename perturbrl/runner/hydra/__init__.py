"""The only place that touches Hydra's internals."""
