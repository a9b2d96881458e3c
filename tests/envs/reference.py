"""One cell at a time, in plain Python and numpy: what the batched environments must equal on the same uniforms."""

from __future__ import annotations

import numpy as np

from perturbrl.data.schema import CellTable
from perturbrl.envs.paper.continuous import PaperEnvConfig
from perturbrl.envs.paper.discrete import PaperDiscreteConfig

F = np.float32


def murmur_finaliser(x: int) -> int:
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)


def event(cell, u, prob, max_perturb):
    """Return the cell after at most one CRISPR event, gene by gene."""
    cell = cell.copy()
    if not u[0] < F(prob):
        return cell
    n = min(int(u[0] * (F(max_perturb) / F(prob))) + 1, max_perturb)
    key = (int(u[1] * 2**24) << 8) ^ int(u[2] * 2**24)
    for j in range(n):
        draw = murmur_finaliser((key + j * 0x9E3779B9) % 2**32) * 2 * len(cell) // 2**32
        gene, over_expressed = divmod(draw, 2)
        cell[gene] = cell[gene] * 2 if over_expressed else 0
    return cell


class OneCell:
    def __init__(self, config: PaperEnvConfig, table: CellTable, cells) -> None:
        self.config, self.table = config, table
        self.thresholds = np.zeros(table.n_features)
        self.by_time = sorted((int(c) for c in cells), key=lambda c: table.pseudotime[c])

    def reset(self, u):
        u = u[3:]
        time = self.table.pseudotime
        start = self.by_time[int(u[0] * F(len(self.by_time)))]
        later = [c for c in self.by_time if time[c] > time[start]]
        target = later[int(u[1] * F(len(later)))] if later else start
        self.start, self.target = self.table.x[start], self.table.x[target]
        self.previous = self.start
        self.cell = event(self.start, u[2:5], 1.0, self.config.max_perturb)
        if isinstance(self.config, PaperDiscreteConfig):
            self.gene = int(u[-1] * F(len(self.cell)))
        self.t = 0
        return self.cell

    def step(self, action, u):
        config = self.config
        self.cell = self.cell.copy()
        if isinstance(config, PaperDiscreteConfig):
            self.cell[action // 3] += F(config.step_size) * (action % 3 - 1)
        else:
            self.cell += F(config.step_size) * np.clip(action, -1, 1)
        self.cell = np.clip(self.cell, F(-config.clip), F(config.clip))
        self.cell = event(self.cell, u[:3], config.perturb_prob, config.max_perturb)
        reward = mse(self.previous, self.target) - mse(self.cell, self.target)
        for g in range(len(self.cell)):
            deviation = (float(self.cell[g]) - float(self.target[g])) ** 2
            self.thresholds[g] += config.threshold_rate * (deviation - self.thresholds[g])
        reward -= self.thresholds.mean()
        if isinstance(config, PaperDiscreteConfig):
            g = int(u[-2] * F(len(self.cell))) if config.reward_gene == "step" else self.gene
            better = (self.start[g] - self.target[g]) ** 2 - (self.cell[g] - self.target[g]) ** 2
            reward += config.reward_gene_weight * better
        self.previous = self.cell
        self.t += 1
        over = self.t == config.horizon
        final = self.cell
        obs = self.reset(u) if over else final
        return obs, reward, over and config.time_limit == "terminated", over and config.time_limit == "truncated", final


def mse(a, b):
    return float(np.mean((a.astype(np.float64) - b) ** 2))
