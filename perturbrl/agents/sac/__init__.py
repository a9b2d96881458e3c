"""Soft actor-critic: the page ``sac``, its networks and policy, the replay buffer, and the loop that fills it."""
