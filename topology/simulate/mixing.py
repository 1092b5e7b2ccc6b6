"""One mixing rule for all nodes at once.

A rule that works coordinate by coordinate does the same to many models laid end to end as to each
alone, so a block of nodes with equally many answers is one call of the very code that nodes run.
Other rules are called node by node. Weighted means of dense graphs and of small models are one
product of matrices. On a GPU the rules of the library are written with torch.
"""

import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gossipfl.mixing.mean import Mean
from gossipfl.mixing.median import Median
from gossipfl.mixing.rule import BLOCK, MixingRule
from gossipfl.mixing.trimmed_mean import TrimmedMean

__all__ = ["Mixer", "spans_of"]

DENSE_SHARE: Final = 8  # from an eighth of all pairs on, a dense product is faster (measured)
SMALL: Final = 2048  # parameters; below, the cost of calls outweighs that of a sparse product
SHARES: Final = 16  # of a round's work, taken by whoever is free
SPAN_FLOATS_MIN: Final = 1 << 16  # less work than a call to the pool costs
GPU_FLOATS_MAX: Final = 1 << 26  # gathered at once on a GPU: 256 MiB of float32

Array: TypeAlias = npt.NDArray[Any]


class Mixer:
    """Mixes the models of all nodes by one rule.

    Args:
        rule: how.
        sources: for each node the rows of its neighbors in a table of models, in member order.
        weights: likewise, of a rule that uses them; else None.
        cap: a model of more than this many times max(1, own norm) does not count.
        pool: runs blocks side by side.
    """

    def __init__(
        self,
        rule: MixingRule,
        sources: Sequence[Sequence[int]],
        weights: Sequence[Sequence[float]] | None,
        *,
        cap: float,
        pool: Executor,
    ) -> None:
        self._rule, self._sources, self._cap, self._pool = rule, sources, cap, pool
        self._weights = weights if rule.uses_weights else None
        self._groups = [list(group) for group in _by_degree(sources)]
        self._matrices: list[Tensor] = []

    def mix(self, table: Tensor, out: Tensor) -> None:
        """Write each node's mixed model.

        Args:
            table: the nodes' own models, then what else `sources` names; shape (rows, size).
            out: shape (at least nodes, size); other memory.
        """
        doubtful = self._doubtful(table)
        if table.device.type != "cpu":
            self._on_device(table, out, clean=not doubtful)
        elif self._weights is not None and type(self._rule) is Mean:
            if self._one_product(table):
                self._product(table if not doubtful else _numbers(table), out)
            else:
                self._sums(table, out)
        else:
            self._in_blocks(table.numpy(), out.numpy())
        for node, kept in doubtful.items():
            self._one(table, out, node, kept)

    def _doubtful(self, table: Tensor) -> dict[int, list[int]]:
        """Return which answers count, for nodes that do not count them all."""
        parts = self._pool.map(
            lambda span: torch.linalg.vector_norm(table[span], dim=1), spans_of(table)
        )
        norms = torch.cat(list(parts)).double().cpu().numpy()
        count = len(self._sources)
        caps = self._cap * np.maximum(1.0, norms[:count])
        if norms.max() <= caps.min():  # false for NaN too
            return {}
        found = {}
        for node, sources in enumerate(self._sources):
            kept = [place for place, row in enumerate(sources) if norms[row] <= caps[node]]
            if len(kept) < len(sources):
                found[node] = kept
        return found

    def _one(self, table: Tensor, out: Tensor, node: int, kept: Sequence[int]) -> None:
        sources = self._sources[node]
        rows = [table[sources[place]].cpu().numpy() for place in kept]
        weights = None
        if self._weights is not None:
            weights = [self._weights[node][place] for place in kept]
        mixed = self._rule(table[node].cpu().numpy(), rows, weights)
        out[node] = torch.from_numpy(mixed).to(out.device)

    # --- products ------------------------------------------------------------------------------

    def _one_product(self, table: Tensor) -> bool:
        return self._dense() or table.shape[1] < SMALL

    def _dense(self) -> bool:
        edges = sum(map(len, self._sources))
        return edges * DENSE_SHARE > len(self._sources) ** 2

    def _product(self, table: Tensor, out: Tensor) -> None:
        """Mix by one product with the matrix of weights."""
        spans = spans_of(out[: len(self._sources)])
        if not self._matrices:
            self._matrices = [self._weight_matrix(table, span) for span in spans]

        def multiply(matrix: Tensor, span: slice) -> None:
            target = out[span]
            if matrix.layout == torch.strided:
                torch.mm(matrix, table, out=target)
            else:
                torch.addmm(target, matrix, table, beta=0, out=target)

        list(self._pool.map(multiply, self._matrices, spans))

    def _weight_matrix(self, table: Tensor, span: slice) -> Tensor:
        """Return some rows of the matrix of weights, shape (nodes, rows of the table)."""
        assert self._weights is not None
        starts, columns, values = [0], [], []
        for node in range(span.start, span.stop):
            sources, weights = self._sources[node], self._weights[node]
            row = {**dict(zip(sources, weights, strict=True)), node: max(0.0, 1 - sum(weights))}
            columns += sorted(row)
            values += [row[column] for column in sorted(row)]
            starts.append(len(columns))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            matrix = torch.sparse_csr_tensor(
                torch.tensor(starts),
                torch.tensor(columns),
                torch.tensor(values, dtype=table.dtype),
                size=(span.stop - span.start, len(table)),
                device=table.device,
                check_invariants=False,
            )
        return matrix.to_dense() if self._dense() else matrix

    # --- the rule itself -----------------------------------------------------------------------

    def _in_blocks(self, table: Array, out: Array) -> None:
        together = self._rule.coordinatewise and self._weights is None
        size = max(1, BLOCK // table.shape[1]) if together else 1
        blocks = [
            group[start : start + size]
            for group in self._groups
            for start in range(0, len(group), size)
        ]
        share = max(
            1, len(blocks) // SHARES
        )  # few calls to the pool, and no worker idle at the end
        shares = [blocks[start : start + share] for start in range(0, len(blocks), share)]
        list(self._pool.map(lambda some: self._blocks(some, table, out), shares))

    def _blocks(self, blocks: list[list[int]], table: Array, out: Array) -> None:
        scratch: dict[int, Array] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for block in blocks:
                if len(block) == 1:
                    self._node(block[0], table, out)
                else:
                    self._block(block, table, out, scratch)

    def _node(self, node: int, table: Array, out: Array) -> None:
        rows = [table[row] for row in self._sources[node]]
        self._rule.mix(table[node], rows, self._shares(node), out[node])

    def _shares(self, node: int) -> list[float] | None:
        return None if self._weights is None else list(self._weights[node])

    def _sums(self, table: Tensor, out: Tensor) -> None:
        """Mix by weighted sums, each neighbor in one pass over a node's own vector."""
        assert self._weights is not None
        shares = self._weights

        def add(span: slice) -> None:
            for node in range(span.start, span.stop):
                target = out[node]
                torch.mul(table[node], max(0.0, 1 - sum(shares[node])), out=target)
                for row, share in zip(self._sources[node], shares[node], strict=True):
                    target.add_(table[row], alpha=share)

        list(self._pool.map(add, spans_of(out[: len(self._sources)])))

    def _block(self, block: list[int], table: Array, out: Array, scratch: dict[int, Array]) -> None:
        """Mix several nodes in one call: each neighbor place is one long vector."""
        size = table.shape[1]
        degree = len(self._sources[block[0]])
        room = scratch.get(degree)
        if room is None or room.shape[1] < len(block):
            room = scratch[degree] = np.empty((degree + 2, len(block), size), table.dtype)
        index = np.array([[node, *self._sources[node]] for node in block])
        for place in range(degree + 1):  # "clip": numpy copies twice where it has to check
            np.take(table, index[:, place], axis=0, out=room[place, : len(block)], mode="clip")
        own, *rows = [room[place, : len(block)].reshape(-1) for place in range(degree + 1)]
        mixed = room[degree + 1, : len(block)]
        self._rule.mix(own, rows, None, mixed.reshape(-1))
        out[index[:, 0]] = mixed

    # --- on a GPU ------------------------------------------------------------------------------

    def _on_device(self, table: Tensor, out: Tensor, *, clean: bool) -> None:
        rule = self._rule
        if type(rule) is Mean and self._weights is not None:
            self._product(table if clean else _numbers(table), out)
        elif type(rule) in (TrimmedMean, Median):  # one's own that is made of them may differ
            self.sorted_mix(table, out)
        else:
            for node, sources in enumerate(self._sources):
                self._one(table, out, node, range(len(sources)))

    def sorted_mix(self, table: Tensor, out: Tensor) -> None:
        """Mix by a trimmed mean or median written with torch, which any device has."""
        b = self._rule.byzantine
        for group in self._groups:
            degree = len(self._sources[group[0]])
            size = max(1, GPU_FLOATS_MAX // (table.shape[1] * (max(degree, 2 * b + 1) + 1)))
            for start in range(0, len(group), size):
                block = torch.tensor(group[start : start + size], device=table.device)
                index = torch.tensor(
                    [self._sources[node] for node in group[start : start + size]],
                    device=table.device,
                    dtype=torch.int64,
                ).view(len(block), degree)
                own = table[block].unsqueeze(1)
                filled = own.expand(-1, max(0, 2 * b + 1 - degree), -1)
                rows = torch.cat((table[index], filled), dim=1)
                if isinstance(self._rule, Median):
                    rows = torch.cat((rows, own), dim=1).sort(dim=1).values
                    drop = (rows.shape[1] - 1) // 2
                    out[block] = rows[:, drop : rows.shape[1] - drop].mean(dim=1)
                else:
                    kept = rows.sort(dim=1).values[:, b : rows.shape[1] - b]
                    out[block] = (kept.sum(dim=1) + own.squeeze(1)) / (kept.shape[1] + 1)


def spans_of(models: Tensor) -> list[slice]:
    """Cut the rows of a table into a few spans for the pool, none of them too small to pay."""
    count = len(models)
    least = max(1, SPAN_FLOATS_MIN // max(1, models.shape[1]))
    size = max(least, -(-count // SHARES))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _numbers(table: Tensor) -> Tensor:
    """Return a table whose products are numbers: 0 times NaN would reach who never heard it."""
    return torch.nan_to_num(table, nan=0.0, posinf=0.0, neginf=0.0)


def _by_degree(sources: Sequence[Sequence[int]]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for node, rows in enumerate(sources):
        groups.setdefault(len(rows), []).append(node)
    return list(groups.values())
