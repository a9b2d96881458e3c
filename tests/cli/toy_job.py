"""A job as small as can be: stands in for `perturbrl.runner.hydra.main` where the command line is tested."""

from __future__ import annotations

import os
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from perturbrl.errors import UserError

DONE: list[tuple[str, int]] = []

CONF = {
    "config.yaml": """
        defaults: [_self_, agent: ppo, env: paper, experiment: null]
        seed: 0
        needed: 1
        hydra: {run: {dir: "${oc.env:TOY_OUT}/${seed}"}, sweep: {dir: "${oc.env:TOY_OUT}"}, output_subdir: null}
        """,
    "agent/ppo.yaml": "name: ppo\nlr: 1.0e-4\nnormalise: true\n",
    "agent/trpo.yaml": "name: trpo\nmax_kl: 0.01\n",
    "agent/trpo_ppo.yaml": "defaults: [trpo@trpo, ppo@ppo, _self_]\nname: trpo_ppo\ntrpo: {max_kl: 0.02}\n",
    "env/paper.yaml": "name: paper\nmax_perturb: 5\nsteps: [1, 2]\n",
    "env/paper_discrete.yaml": "name: paper_discrete\nmax_perturb: 3\n",
    "experiment/smoke.yaml": "# @package _global_\nseed: 7\nbudget: 10\n",
}


def write_conf(folder: Path) -> Path:
    for name, text in CONF.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(line.strip() for line in text.splitlines()))
    return folder


def refuse() -> None:
    raise UserError("refuse: says no")


OmegaConf.register_new_resolver("refuse", refuse, replace=True)


def job(config: DictConfig) -> None:
    if config.seed == 13:
        raise UserError("seed: 13 brings bad luck")
    if config.seed == 14:
        raise ZeroDivisionError("deep\ninside")
    if config.seed == 15:
        raise KeyboardInterrupt
    DONE.append((str(config.agent.name), int(config.seed) * int(config.needed)))


def main() -> None:
    hydra.main(config_path=os.environ["TOY_CONF"], config_name="config", version_base="1.3")(job)()
