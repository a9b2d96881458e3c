"""``python -m perturbrl``."""

from __future__ import annotations

from perturbrl.cli import main

if __name__ == "__main__":
    main()
