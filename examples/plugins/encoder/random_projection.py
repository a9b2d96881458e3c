from dataclasses import dataclass

import numpy as np

from perturbrl.plugins import encoders


@dataclass(frozen=True)
class Config:
    name: str
    out: int


@encoders.register("random_projection", Config)
def build(config, x, train, seed):
    weights = np.random.default_rng(seed).normal(size=(x.shape[1], config.out)) / config.out**0.5
    return np.asarray(x @ weights, dtype=np.float32), tuple(f"projection{k}" for k in range(config.out)), ()
