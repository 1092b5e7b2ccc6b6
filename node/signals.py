"""Signals of a running node: SIGTERM and Ctrl-C end it, SIGHUP makes it read its files again."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["signals"]


@contextmanager
def signals(reload: Callable[[], None]) -> Iterator[asyncio.Event]:
    """Yield what SIGTERM and Ctrl-C set; a second one ends the process at once.

    Args:
        reload: called at every SIGHUP, unless that came because the terminal of this process was
            closed: then the node ends as after SIGTERM.
    """
    loop = asyncio.get_running_loop()
    kinds = (signal.SIGTERM, signal.SIGINT)
    told = asyncio.Event()
    terminal = sys.stderr.isatty()

    def tell() -> None:
        told.set()
        for kind in kinds:
            loop.remove_signal_handler(kind)
            signal.signal(kind, signal.SIG_DFL)

    def hang_up() -> None:
        if terminal and not os.isatty(sys.stderr.fileno()):
            told.set()
        else:
            reload()

    for kind in kinds:
        loop.add_signal_handler(kind, tell)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    try:
        yield told
    finally:
        for kind in (*kinds, signal.SIGHUP):
            loop.remove_signal_handler(kind)
        signal.signal(signal.SIGINT, signal.default_int_handler)
