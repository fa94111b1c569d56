"""A limit on the time of a computation that cannot be told to stop: it ends at the next pass of any network layer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook

__all__ = ["Stopped", "limited"]


class Stopped(Exception):
    """A computation that was ended because it took too long or nobody waits for it any more."""


@contextmanager
def limited(seconds: float, stop: threading.Event) -> Iterator[None]:
    """Context in which a network's pass, by this thread, raises `Stopped` after a time or when an event is set.

    Interpreters know no cancelling; all of them pass through layers of the classifier, most of them hundreds of times.

    Args:
        seconds: the limit.
        stop: set from another thread to end the computation.
    """
    thread, end = threading.get_ident(), time.monotonic() + seconds

    def look(module: Any, inputs: Any) -> None:
        if threading.get_ident() != thread:
            return
        if stop.is_set():
            raise Stopped("the explanation was stopped")
        if time.monotonic() > end:
            raise Stopped(f"stopped after {seconds:g} s; choose a faster method or a shorter sound")

    handle = register_module_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()
