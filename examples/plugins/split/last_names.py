from dataclasses import dataclass

from perturbrl.plugins import Fraction, ScreenSplitConfig, SplitBuilder, splits


@dataclass(frozen=True)
class Config(ScreenSplitConfig):
    test_fraction: Fraction


@splits.register("last_names", Config)
def build(config, screen, rng):
    """Hold out the perturbations that come last in the alphabet."""
    builder = SplitBuilder(screen)  # at first every perturbed condition trains; conditions are sorted by name
    n_test = max(1, round(config.test_fraction * len(builder.train)))
    builder.hold_out(builder.train[-n_test:], "test", "single")
    builder.validate_on_perturbations(config, rng)
    return builder
