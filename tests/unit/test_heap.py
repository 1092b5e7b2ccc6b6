"""The allocator's setting does what it is for."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from node.heap import keep_message_memory
if sys.argv[1] == "kept":
    assert keep_message_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(300):
    message = bytes(1 << 20)
    parts = [bytes(message[at : at + 262144]) for at in range(0, 1 << 20, 262144)]
    joined = b"".join(parts)
    del message, parts, joined
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", COUNT, mode], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_of_messages_is_used_again_without_page_faults() -> None:
    kept, given_back = faults("kept"), faults("default")
    assert kept < 10_000
    assert kept < given_back / 3  # the twin: without the setting they are paid again and again


def test_what_is_loaded_leaves_garbage_collection() -> None:
    code = "import gc, node.daemon, node.heap; node.heap.settle(); print(len(gc.get_objects()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # some 80,000 objects without it
