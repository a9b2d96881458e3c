"""What env=counterfactual is made of: the parts of a split, coordinates of states and changes, rewards."""
