"""One cell in plain Python: what the batched Boolean simulator must equal on the same draws."""

from __future__ import annotations

from perturbrl.landscape.network import Network


def word(key: int, counter: int) -> int:
    x = (key + (key >> 32 | 1) * counter) % 2**32
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)


class OneCell:
    """A cell whose rules are run by Python itself."""

    def __init__(self, network: Network, state: list[int], held: list[float] | None) -> None:
        self.genes = network.genes
        self.rules = [compile(rule, gene, "eval") for gene, rule in network.rules.items()]
        self.held = {g: int(h > 0) for g, h in enumerate(held or ()) if h == h}
        self.state = [self.held.get(g, s) for g, s in enumerate(state)]

    def value(self, g: int) -> int:
        values = {gene: bool(on) for gene, on in zip(self.genes, self.state, strict=True)}
        return int(eval(self.rules[g], {"__builtins__": {}}, values))

    def image(self) -> list[int]:
        return [self.held.get(g, self.value(g)) for g in range(len(self.genes))]

    def update(self, key: int, t: int) -> None:
        g = word(key, t) * len(self.genes) >> 32
        self.state[g] = self.held.get(g, self.value(g))

    def update_all(self) -> None:
        self.state = self.image()
