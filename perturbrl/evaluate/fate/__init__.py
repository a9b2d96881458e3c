"""Scores of policies that steer cells to fates, beside the optimum and simple rules."""
