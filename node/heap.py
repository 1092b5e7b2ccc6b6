"""Two settings of memory, for processes that move messages of a mebibyte and must not pause."""

import ctypes
import gc
from typing import Final

__all__ = ["keep_message_memory", "settle"]

# From glibc's malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

_MAPPED_ABOVE: Final = 4 << 20  # bytes; messages and their copies are smaller, vectors are mapped
_KEPT_AT_MOST: Final = 16 << 20  # bytes of free heap: what a few messages under way need


def keep_message_memory() -> bool:
    """Let freed messages be used again rather than given back; False: no such setting here.

    By default glibc returns each freed mebibyte to the system and gets zeroed pages for the next,
    250 page faults a message: half of the time a link takes (measured by benchmarks/link_speed.py).
    Call it once, as the process starts.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mapped = mallopt(_M_MMAP_THRESHOLD, _MAPPED_ABOVE)
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_MOST) and mapped)


def settle() -> None:
    """Take what is loaded by now out of garbage collection: it stays for good.

    A full collection over all imported modules stops the event loop for some 40 ms, and a frame
    of many small arrays can set one off. Call it once, when everything is imported.
    """
    gc.collect()
    gc.freeze()
