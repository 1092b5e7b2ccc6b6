"""The text of the task that `gossipfl new task` writes, and its parts by kind of target."""

from typing import Final

__all__ = ["AMOUNT", "CLASSES", "SICK", "TASK", "YES_NO"]

TASK: Final = '''\
"""{title}

This file is the same on every machine: members whose files differ refuse each other.
Try it with `gossipfl check {file} --data {data}`.
"""

from torch import nn
from torch.nn.functional import {loss}

from gossipfl.learning import {imports}

# The inputs: heading in the CSV file, and the number that becomes 0 and the step that becomes 1.
{origin}COLUMNS = {{
{columns}}}
{extra}

class Mine(Task):
    # One round of a node: so many passes over its own rows, in steps of so many rows.
    # federation.toml may set them too, in its table [task]: epochs = 5
    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 0.1

    def model(self):
        """What is learned; all members start from the same one."""
        return nn.Sequential(
            Scale(COLUMNS.values()), nn.Linear(len(COLUMNS), 16), nn.ReLU(), nn.Linear(16, {width})
        )

    def data(self, place):
        """This machine's own rows; place.data is `data` of node.toml. A quarter is held out."""
        # What is missing becomes the column's middle; rows without {word} are left out.
        middles = {{heading: middle for heading, (middle, _) in COLUMNS.items()}}
        rows = read_table(
            place.data, target="{target}", columns=COLUMNS, missing=middles{options}
        )
        return hold_out(rows, place)

    def loss(self, model, inputs, targets):
        """How wrong the model is on a batch: one number to make smaller."""
        {loss_line}

    def measures(self, model, inputs, targets):
        """What people want to know, on the rows held out."""
{measures}
'''

SICK: Final = {
    "loss": "binary_cross_entropy_with_logits",
    "imports": "Scale, Task, accuracy, auc, hold_out, read_table",
    "width": "1",
    "loss_line": "return binary_cross_entropy_with_logits(model(inputs).squeeze(1), targets)",
    "measures": """\
        scores = model(inputs).squeeze(1)  # above 0: more likely 1 than 0
        return {"accuracy": accuracy(scores > 0, targets > 0), "auc": auc(scores, targets)}""",
    "options": "",
}
YES_NO: Final = {
    **SICK,
    "loss_line": """\
answers = model(inputs).squeeze(1)  # above 0: more likely the second class than the first
        return binary_cross_entropy_with_logits(answers, targets.float())""",
    "options": ", classes=CLASSES",
}
CLASSES: Final = {
    "loss": "cross_entropy",
    "imports": "Scale, Task, accuracy, hold_out, read_table",
    "width": "len(CLASSES)",
    "loss_line": "return cross_entropy(model(inputs), targets)",
    "measures": """\
        return {"accuracy": accuracy(model(inputs).argmax(1), targets)}""",
    "options": ", classes=CLASSES",
}
AMOUNT: Final = {
    "loss": "mse_loss",
    "imports": "Scale, Task, hold_out, read_table",
    "width": "1",
    "loss_line": """\
middle, spread = TARGET
        return mse_loss(model(inputs).squeeze(1), (targets - middle) / spread)""",
    "measures": """\
        middle, spread = TARGET
        wrong = model(inputs).squeeze(1) * spread + middle - targets
        return {"mean_error": float(wrong.abs().mean())}""",
    "options": "",
}
