"""The one place that touches global random generators.

User code draws from torch's, numpy's and Python's global generators without asking. Around every
call into a task they are set from a seed and put back afterwards, so that the same seed gives the
same result and a task shifts no one else's draws.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["isolated"]

NUMPY_SEED_MASK = 0xFFFF_FFFF  # numpy's legacy generator takes 32 bits


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed all global generators, compute deterministically on one thread, then put all back.

    Args:
        seed: 63 bits, from `streams.seed_of`.
    """
    # set_deterministic_debug_mode does what use_deterministic_algorithms does, except that the
    # latter imports torch._inductor: one second and 70 MB on its first call (torch 2.13).
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch_state, numpy_state, python_state = (
        torch.random.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
    )
    cuda_states = torch.cuda.get_rng_state_all() if _cuda_in_use() else []
    if threads != 1:
        torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    torch.manual_seed(seed)  # noqa: TID251 - this is the place
    np.random.seed(seed & NUMPY_SEED_MASK)  # noqa: TID251
    random.seed(seed)  # noqa: TID251
    try:
        yield
    finally:
        torch.random.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        torch.set_deterministic_debug_mode(deterministic)
        if threads != 1:
            torch.set_num_threads(threads)
