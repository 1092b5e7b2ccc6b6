"""What to do about an exception of a task: torch's words, and what people mean by them."""

import re
from typing import Final

from pydantic import ValidationError

__all__ = ["advice"]

ADVICE: Final = (
    (
        "Expected more than 1 value per channel",
        "Batch normalization needs two rows in each batch: set batch_size to 2 or more and give "
        "this member more rows, or use LayerNorm.",
    ),
    (
        "index out of range in self",
        "Give nn.Embedding a row for each code there is on any member, from 0 to the largest.",
    ),
    (
        r"Target -?\d+ is out of bounds",
        "Number the classes from 0, as read_table(…, classes=[…]) does, and give the last layer "
        "one output for each.",
    ),
    (
        "expected scalar type Long|target dtype to be Long|not implemented for 'Float'|"
        "Expected floating point type for target with class probabilities",
        "cross_entropy wants int64 codes, one a row, as read_table(…, classes=[…]) gives, or "
        "float probabilities, a column for each class.",
    ),
    (
        "same dtype|should be the same|expected scalar type (Float|Double)|Found dtype",
        "Use float32 throughout: `.float()` on the inputs and targets in `data`, and no .double() "
        "or .half() in `model`.",
    ),
    (
        "two bool tensors|for 'Bool'|dtype Bool",
        "Return numbers from `data`: targets.float(), or .long() for cross_entropy.",
    ),
    (
        "backward through the graph a second time",
        "Return the loss without calling backward() on it: whoever asked for it does that.",
    ),
    (
        "not compiled with CUDA|Expected all tensors to be on the same device|No CUDA GPUs",
        "Name no device in a task, so no .cuda() and no .to(device): `device` in node.toml does.",
    ),
    (
        "does not have a deterministic implementation",
        "Use another operation: training must give the same again from the same seed.",
    ),
    (
        "meta tensor",
        'Build the model without device="meta": its values are what all members start from.',
    ),
    (
        "can't allocate memory|Unable to allocate|out of memory",
        "Read less data or build a smaller model, or use a machine with more memory.",
    ),
    ("No module named", "Install it on every member's machine, or do without it."),
)  # the first that is found in what an exception says, and what to do then

KEEPS: Final = (
    "A task keeps nothing in self: return the model or the rows, and put what the model needs into "
    "the model."
)


def advice(error: BaseException) -> str | None:
    """Return what to do about an exception, None where nothing better is known than to look."""
    if isinstance(error, ValidationError):
        return KEEPS if any(item["type"] == "frozen_instance" for item in error.errors()) else None
    said = str(error)
    return next((fix for pattern, fix in ADVICE if re.search(pattern, said)), None)
