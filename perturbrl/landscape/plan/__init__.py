"""Which perturbations take cells of one fate to another: candidates, probabilities, stability, reasons."""
