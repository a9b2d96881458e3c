"""The optimisers that torch lacks, as ``torch.optim.Optimizer`` classes; they need nothing else of perturbrl.

from perturbrl.optim import ASGDAdam

optimizer = ASGDAdam(network.parameters(), lr=1e-4, lr_min=1e-7)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from perturbrl.errors import choice
from perturbrl.optim.formulas import Formula, formula
from perturbrl.optim.settings import NAMES, AsgdConfig, OptimizerConfig, PadamConfig
from perturbrl.optim.switch import Switch, switch

Params = Iterable[nn.Parameter] | Iterable[dict[str, Any]]


class _Stepped(torch.optim.Optimizer):
    """Steps by a formula, and a switch if there is one; ``weight_decay`` is that of AdamW."""

    def settings(self, group: dict[str, Any]) -> OptimizerConfig:
        """Return the settings of a group of parameters."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; see ``torch.optim.Optimizer.step``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            settings = self.settings(group)
            self._step_group(group, formula(settings), switch(settings))
        return loss

    def _step_group(self, group: dict[str, Any], rule: Formula, switched: Switch | None) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        directions = [self._direction(p, rule) for p in params]
        lr = torch.as_tensor(group["lr"], dtype=torch.float32, device=params[0].device).reshape(1, 1)
        rates = lr.expand(1, len(params))
        if switched is not None:
            flat = ({name: self.state[p][name].reshape(1, -1) for name in rule.tensors} for p in params)
            votes = torch.cat([switched.votes(one, [slice(None)]).to(lr.device) for one in flat], 1)
            at_max = switched.at_max(votes)
            group["share_at_max"] = float(at_max.float().mean())
            rates = switched.rates(at_max, lr)
        for p, direction, rate in zip(params, directions, rates[0], strict=True):
            rate = rate.to(p)
            if group["weight_decay"]:
                p.mul_(1 - rate * group["weight_decay"])
            p.sub_(direction.mul_(rate))

    def _direction(self, p: nn.Parameter, rule: Formula) -> Tensor:
        assert p.grad is not None
        if p.grad.is_sparse:
            raise RuntimeError(f"{type(self).__name__} takes no sparse gradients; use torch.optim.SparseAdam")
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), device=p.device)
            state.update({name: torch.zeros_like(p, memory_format=torch.preserve_format) for name in rule.tensors})
        state["step"] += 1
        return rule.direction(p, p.grad, state, state["step"].double())


class ASGDAdam(_Stepped):
    """Adam that switches between two learning rates; see ``perturbrl.optim.switch``.

    After a step ``param_groups[k]["share_at_max"]`` is the share of tensors that took ``lr``.

    Parameters
    ----------
    params
        Parameters, or groups of them.
    lr, lr_min
        The larger and the smaller learning rate (lr_max and lr_min of the paper).
    betas, eps
        As in ``torch.optim.Adam``.
    adaptive
        Factor of the count below the mean; 0 never switches.
    scope
        ``tensor`` (each tensor of its own) or ``global`` (all tensors of a group together).
    moment
        ``second``, or ``first`` (the variant of 2026, which has ``bias_correction=False`` and ``betas=(0.9, 0.9)``).
    bias_correction
        Whether moments are divided by 1 - beta^t.
    weight_decay
        Decoupled, as in ``torch.optim.AdamW``.
    """

    _name = "asgd_adam"

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        lr_min: float = 1e-7,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        adaptive: float = 0.5,
        scope: str = "tensor",
        moment: str = "second",
        bias_correction: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        choice(scope, ("tensor", "global"), "scope")
        choice(moment, ("second", "first"), "moment")
        switched = {"lr_min": lr_min, "adaptive": adaptive, "scope": scope, "moment": moment}
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "bias_correction": bias_correction}
            | switched,
        )

    def settings(self, group: dict[str, Any]) -> AsgdConfig:
        """Return the settings of a group of parameters."""
        keys = ("lr_min", "adaptive", "scope", "moment", "bias_correction")
        beta1, beta2 = group["betas"]
        return AsgdConfig(self._name, beta1, beta2, group["eps"], **{key: group[key] for key in keys})


class ASGDAMSGrad(ASGDAdam):
    """AMSGrad that switches between two learning rates; the parameters are those of ``ASGDAdam``."""

    _name = "asgd_amsgrad"


class Padam(_Stepped):
    """Partially adaptive momentum estimation (Chen et al. 2020): AMSGrad divided by v_hat^partial.

    Parameters
    ----------
    params
        Parameters, or groups of them.
    lr, betas, eps
        As in ``torch.optim.Adam``; ``eps`` is added to the root of v_hat.
    partial
        Between 0 (momentum) and 1/2 (AMSGrad).
    weight_decay
        Decoupled, as in ``torch.optim.AdamW``.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        partial: float = 0.125,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "partial": partial, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def settings(self, group: dict[str, Any]) -> PadamConfig:
        """Return the settings of a group of parameters."""
        beta1, beta2 = group["betas"]
        return PadamConfig("padam", beta1, beta2, group["eps"], group["partial"])


def by_name(name: str, params: Params, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """Return an optimiser for supervised training, with the default settings of its class; torch's where it has one.

    Parameters
    ----------
    name
        A name of ``agent.optimizer``; ``sgd`` has momentum 0.9.
    params
        Parameters, or groups of them.
    lr
        Learning rate; of ASGD the larger one.
    weight_decay
        As the class takes it: decoupled, but for ``adam``, ``amsgrad``, ``rmsprop`` and ``sgd`` part of the gradient.

    Raises
    ------
    UserError
        There is no optimiser of that name.
    """
    makes: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "amsgrad": lambda p, **more: torch.optim.Adam(p, amsgrad=True, **more),
        "asgd_adam": ASGDAdam,
        "asgd_amsgrad": ASGDAMSGrad,
        "padam": Padam,
        "rmsprop": torch.optim.RMSprop,
        "sgd": lambda p, **more: torch.optim.SGD(p, momentum=0.9, **more),
    }
    return makes[choice(name, NAMES, "optimizer")](params, lr=lr, weight_decay=weight_decay)
