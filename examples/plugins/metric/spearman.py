from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from perturbrl.plugins import metrics


@dataclass(frozen=True)
class Config:
    name: str


@metrics.register("spearman", Config)
def spearman(truth, prediction):  # both [n, G]; one number for each feature, [G]
    a, b = (rankdata(x, axis=0) - (len(x) + 1) / 2 for x in (truth, prediction))
    return (a * b).sum(0) / np.maximum(np.sqrt((a**2).sum(0) * (b**2).sum(0)), 1e-12)
