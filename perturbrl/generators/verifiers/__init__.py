"""Verifiers: scores of single generated cells, fitted on training cells, which post-training uses as rewards.

Each is a page that registers itself (``registry.verifiers``) with its settings in ``conf/verifier``; a verifier is
called as ``build(config) -> Verifier``, then ``fit(cells)`` and ``score(x, condition)``.
"""
