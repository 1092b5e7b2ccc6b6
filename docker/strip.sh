#!/bin/sh
# Removes from a site-packages directory what no node ever reads: headers, static libraries,
# programs, tests and type stubs of libraries. Bytecode stays, 120 MB of it: a node starts and
# answers its health check several times faster with it, and a read-only file system cannot make it
# again.
set -eu
cd "$1"
rm -rf torch/include torch/share torch/test numpy/_core/include
find torch/bin -type f ! -name torch_shm_manager -delete  # torch asks for this one when it starts
find torch/lib -name '*.a' -delete
find torch/lib -name '*_test.so' -delete
# Below these only: elsewhere a module named `tests` may be one that is imported.
for package in aiohttp networkx numpy sympy mpmath; do
  find "$package" -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +
done
find . \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -delete
