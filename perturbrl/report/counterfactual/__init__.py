"""The report's part on held-out perturbations: tables, claims and figures from ``evaluation`` folders."""
