"""The kinds of split: what each holds out of a screen, for the test and, by the same rule, for validation.

A kind is called as ``build(config, screen, rng) -> SplitBuilder``. Its config is a ``ScreenSplitConfig`` with its own
settings.
"""
