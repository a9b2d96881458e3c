"""First-order preconditioning (Moskovitz et al. 2019, arXiv 1910.08461), reference [22] of arXiv 2510.13018.

PPO whose gradient g of each layer is multiplied by a matrix M M' before the optimiser's step, and M itself goes down
the gradient of the loss. Letters: S runs, n parameters, I inputs of a layer (with its bias), O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.heads import Model
from perturbrl.agents.model.networks import Branches, Layer, Mlp, Sequential
from perturbrl.agents.ppo import PPO
from perturbrl.agents.settings.fop import FOPConfig
from perturbrl.config import require
from perturbrl.rng import Streams


@agent("fop", FOPConfig)
class FOP(PPO):
    """PPO with a learned matrix between the gradient and the optimiser."""

    def __init__(self, configs: Sequence[FOPConfig], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        require(isinstance(model, ActorCritic), "agent", "fop needs the built-in networks, whose layers it knows")
        assert isinstance(model, ActorCritic)
        rate = self.c.hyper_lr if self.c.normalised else self.c.hyper_lr * self.c.lr
        self.preconditioner = Preconditioner(model, rate, self.c.normalised)
        self.stateful["preconditioner"] = self.preconditioner

    def descend(self, active: Tensor | None) -> None:
        """Take the step of PPO down the preconditioned gradient."""
        self.preconditioner.apply(self.model.grad, active)
        super().descend(active)


class Preconditioner:
    """A matrix M [S, O, O] for each layer, from the identity on; it mixes the gradients of the layer's outputs.

    Where theta_t = theta_t-1 - lr g_t-1 M M', the loss at theta_t has the derivative -lr (g_t-1' g_t + g_t' g_t-1) M
    in M; so M rises along that product, at ``rate`` [S, 1]. If ``normalised``, gradients count by their directions and
    M keeps the norm of the identity: Adam takes no notice of the scale of a gradient, so nothing would hold that of M.
    The log standard deviation of continuous actions is no layer and keeps its gradient.
    """

    def __init__(self, model: ActorCritic, rate: Tensor, normalised: bool) -> None:
        self.rate, self.normalised = rate.unsqueeze(-1), normalised
        self.layers = [layer for net in (model.policy_net, model.value_net) for layer in dense_layers(net)]
        runs = len(model.theta)
        identity = (torch.eye(o, dtype=model.theta.dtype, device=model.theta.device) for _, (_, o) in self.layers)
        self.m = [eye.repeat(runs, 1, 1) for eye in identity]
        self.previous = torch.zeros_like(model.grad)

    def apply(self, grad: Tensor, active: Tensor | None) -> None:
        """Improve every M, then replace the gradients of layers within ``grad`` [S, n] by g M M'.

        Runs that are not ``active`` [S] keep their M (None: all are).
        """
        old = self.previous if active is None else torch.where(active[:, None], self.previous, 0.0)  # 0: M stays
        now = grad.clone()
        for (columns, shape), m in zip(self.layers, self.m, strict=True):
            g, g_before = (x[:, columns].view(-1, *shape) for x in (now, old))
            product = g_before.mT @ g
            if self.normalised:
                product /= (frobenius(g) * frobenius(g_before)).clamp_min(torch.finfo(m.dtype).tiny)
            m += self.rate * (product + product.mT) @ m
            if self.normalised:
                m *= shape[1] ** 0.5 / frobenius(m)
            grad[:, columns] = (g @ (m @ m.mT)).flatten(1)
        self.previous.copy_(now if active is None else torch.where(active[:, None], now, self.previous))

    def state(self) -> dict[str, Tensor]:
        """Return the matrices by the number of their layer, and the last gradient."""
        return {f"m{k}": m for k, m in enumerate(self.m)} | {"previous": self.previous}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def frobenius(x: Tensor) -> Tensor:
    """Return the Frobenius norm of matrices [S, I, O], [S, 1, 1]."""
    norm: Tensor = torch.linalg.matrix_norm(x, keepdim=True)
    return norm


def dense_layers(network: Layer) -> Iterator[tuple[slice, tuple[int, int]]]:
    """Yield the columns of theta that hold the weights and biases of each dense layer, and their shape (I, O)."""
    if isinstance(network, Mlp):
        start = network.chain.start
        for i, o in pairwise(network.chain.sizes):
            yield slice(start, start + (i + 1) * o), (i + 1, o)
            start += (i + 1) * o
    else:
        assert isinstance(network, Sequential | Branches)
        for part in network.layers if isinstance(network, Sequential) else network.networks:
            yield from dense_layers(part)
