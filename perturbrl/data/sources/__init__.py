"""Where cells come from: importing this package registers every source that reads a file."""

from perturbrl.data.sources import file, iqcell, moignard, multiome, paul, pbmc68k, published

__all__ = ["file", "iqcell", "moignard", "multiome", "paul", "pbmc68k", "published"]
