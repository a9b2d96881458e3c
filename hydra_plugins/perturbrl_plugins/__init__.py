"""What perturbrl adds to Hydra. ``hydra_plugins`` itself is a namespace package: it must hold no ``__init__.py``."""
