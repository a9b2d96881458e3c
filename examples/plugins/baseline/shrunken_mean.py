from dataclasses import dataclass

from perturbrl.plugins import BaselineConfig, baselines, trained


@dataclass(frozen=True)
class Config(BaselineConfig):
    share: float


@baselines.register("shrunken_mean", Config)
class ShrunkenMean:
    """A share of the mean change of the training conditions."""

    def __init__(self, config, context):
        self.name, self.share = config.name, config.share

    def fit(self, table):
        self.train = trained(table)  # mean changes of the training conditions [M, G]

    def predict(self, conditions):  # indices of conditions [n]; a row of NaN is no prediction
        return self.share * self.train.mean_changes(conditions)
