"""What a picture of a landscape shows, computed: surfaces, attractors, trajectories. ``report/landscape`` draws it."""
