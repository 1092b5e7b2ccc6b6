"""Figures for held-out data. A fraction lies in [0, 1]; None stands for what cannot be computed."""

import torch
from torch import Tensor

__all__ = ["accuracy", "auc", "mean_absolute_error", "r2"]


def accuracy(predicted: Tensor, targets: Tensor) -> float | None:
    """Return the share of equal entries; None without entries.

    Args:
        predicted: predicted classes, shape (n,).
        targets: true classes, shape (n,).
    """
    if len(targets) == 0:
        return None
    return float((predicted == targets).double().mean())


def auc(scores: Tensor, targets: Tensor) -> float | None:
    """Return the chance that a positive outscores a negative, ties counted half.

    Rank form of the Mann-Whitney statistic: (R₊ - n₊(n₊ + 1)/2) / (n₊ n₋), R₊ the sum of the
    positives' mid-ranks (Hanley and McNeil, Radiology 143, 1982).

    Args:
        scores: any real scores, shape (n,); higher means more likely positive.
        targets: 0 or 1, shape (n,).

    Returns:
        None with only one class present, or with a score that is NaN.
    """
    positive = targets > 0
    positives = int(positive.sum())
    negatives = len(targets) - positives
    if positives == 0 or negatives == 0 or bool(torch.isnan(scores).any()):
        return None
    _, group, count = torch.unique(scores, return_inverse=True, return_counts=True)
    middle = count.cumsum(0).double() - (count.double() - 1) / 2
    rank_sum = float(middle[group][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def mean_absolute_error(predicted: Tensor, targets: Tensor) -> float | None:
    """Return the mean distance from the targets, in their unit; None without entries.

    Args:
        predicted: shape (n,).
        targets: shape (n,).
    """
    if len(targets) == 0:
        return None
    return float((predicted.double() - targets.double()).abs().mean())


def r2(predicted: Tensor, targets: Tensor) -> float | None:
    """Return the share of the targets' variance that is explained: 1 is all, 0 no better than mean.

    Args:
        predicted: shape (n,).
        targets: shape (n,).

    Returns:
        None where all targets are equal: there is nothing to explain.
    """
    true = targets.double()
    spread = float(((true - true.mean()) ** 2).sum()) if len(true) else 0.0
    if spread == 0:
        return None
    return 1 - float(((predicted.double() - true) ** 2).sum()) / spread
