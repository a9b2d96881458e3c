"""Optimal control of gene regulatory networks, one page per method.

- ``exact``: ``value_iteration``, the optimum of a Boolean fate task in every state (to about 20 genes), and what any
  policy is worth; ``expectation`` and ``choices`` are its two steps.
- ``attractors``: ``attractor_control``, the least expected number of flips between attractors.
- ``aeon``: ``control_sets``, all sets of genes that surely lead to a target (symbolic, some fifty genes).
- ``exhaustive``: every plan of a few perturbations by simulation; ``search``: good plans where they are too many.
- ``policies``: the rows optimum, one_step_best, greedy, random and do_nothing beside an agent.
"""
