"""The inner loops of every agent, each in two twins: ``native`` (C, one core) and ``reference`` (torch, any device).

``configure`` chooses for what is built afterwards; a model keeps the ``Arithmetic`` that it was built with. What cannot
be had natively is done by torch. Products take float32, on a GPU also tf32, or bfloat16 rounded from float32 and summed
in float32; parameters, activations and optimisers stay float32.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from perturbrl.agents.kernels import native
from perturbrl.agents.kernels.arithmetic import Arithmetic
from perturbrl.agents.kernels.build import Unavailable
from perturbrl.config import choice
from perturbrl.errors import UserError

KERNELS = ("auto", "native", "torch")
PRECISIONS = ("auto", "float32", "tf32", "bf16")
BF16_EMULATED = "emulated, slower than float32: native kernels, or a processor that multiplies bfloat16, are missing"

_current = Arithmetic(None, "float32")


def begin(chosen: str) -> None:
    """Start building what ``configure`` will ask for, if need be, so that reading data does not wait for a compiler."""

    def build() -> None:
        with contextlib.suppress(Unavailable):  # configure meets it again, and says so
            native.load()

    if chosen != "torch":
        threading.Thread(target=build, daemon=True).start()


def current() -> Arithmetic:
    """Return the arithmetic that models, distributions and optimisers take when they are built."""
    return _current


def configure(kernels: str, precision: str) -> str:
    """Choose the arithmetic of models, distributions and optimisers that are built from now on.

    Parameters
    ----------
    kernels
        ``auto``, ``native`` or ``torch``.
    precision
        Of matrix products: ``float32``, ``tf32``, ``bf16``, or ``auto``: ``bf16`` where native kernels and a processor
        that multiplies it make that faster, otherwise ``float32``.

    Returns
    -------
    str
        ``native`` or ``torch``.

    Raises
    ------
    UserError
        An unknown choice, or ``kernels=native`` is not available here (the message says why).
    """
    global _current
    _current = _chosen(kernels, precision)
    torch.set_float32_matmul_precision(_current.matmul)  # products outside networks, in environments, follow it too
    return _current.name


@contextlib.contextmanager
def using(kernels: str, precision: str) -> Iterator[Arithmetic]:
    """Configure the arithmetic of what is built inside the context, and restore the former one after it.

    Parameters
    ----------
    kernels, precision
        As in ``configure``.

    Yields
    ------
    Arithmetic
        The one that is configured.

    Raises
    ------
    UserError
        As in ``configure``.
    """
    global _current
    before, matmul = _current, torch.get_float32_matmul_precision()
    configure(kernels, precision)
    try:
        yield _current
    finally:
        _current = before
        torch.set_float32_matmul_precision(matmul)


def _chosen(kernels: str, precision: str) -> Arithmetic:
    choice(kernels, KERNELS, "kernels")
    choice(precision, PRECISIONS, "precision")
    loaded = None
    if kernels != "torch":
        try:
            loaded = native.load()
        except Unavailable as error:
            if kernels == "native":
                raise UserError(f"kernels: native cannot be had here: {error}; use kernels=auto or torch") from None
    if precision == "auto":
        precision = "bf16" if loaded is not None and loaded.has_bf16 else "float32"
    return Arithmetic(loaded, precision)


def emulates_bf16() -> bool:
    """Whether products on this CPU are rounded to bfloat16 without instructions for it, which takes longer."""
    return _current.bf16 and (_current.native is None or not _current.native.has_bf16)


__all__ = ["KERNELS", "PRECISIONS", "Arithmetic", "begin", "configure", "current", "using"]
