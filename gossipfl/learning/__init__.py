"""Everything that learns: what a task is, one local pass, its measures. It needs torch.

A task of one's own begins with

    from gossipfl.learning import Place, Samples, Split, Task, hold_out, read_table

Each name is looked up when it is asked for: a daemon may import what is beside it without torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gossipfl.learning.measures import accuracy, auc
    from gossipfl.learning.numpy_task import NumpyTask
    from gossipfl.learning.scale import Scale
    from gossipfl.learning.sklearn_task import SklearnTask
    from gossipfl.learning.table import hold_out, read_table
    from gossipfl.learning.task import Place, Samples, Split, Task

__all__ = [
    "NumpyTask",
    "Place",
    "Samples",
    "Scale",
    "SklearnTask",
    "Split",
    "Task",
    "accuracy",
    "auc",
    "hold_out",
    "read_table",
]

_HOMES = {
    "NumpyTask": "numpy_task",
    "Place": "task",
    "Samples": "task",
    "Scale": "scale",
    "SklearnTask": "sklearn_task",
    "Split": "task",
    "Task": "task",
    "accuracy": "measures",
    "auc": "measures",
    "hold_out": "table",
    "read_table": "table",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
