"""What every agent stands on: the loop, rollouts, losses and natural steps, and how a recipe becomes an agent."""
