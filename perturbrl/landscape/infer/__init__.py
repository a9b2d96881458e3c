"""Networks inferred from a user's cells: binarise, order, score pairs, and solve for rules."""

from perturbrl.landscape.infer.inference import Inferred, InferredEdge, infer_network
from perturbrl.landscape.infer.settings import InferConfig, settings
from perturbrl.landscape.infer.trajectory import Trajectory

__all__ = ["InferConfig", "Inferred", "InferredEdge", "Trajectory", "infer_network", "settings"]
