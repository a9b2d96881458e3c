"""Tasks as batched tensors, and their gymnasium faces."""

from perturbrl.envs.factory import make, make_batched, make_vec

__all__ = ["make", "make_batched", "make_vec"]
