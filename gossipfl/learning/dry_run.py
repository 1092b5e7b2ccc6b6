"""A task tried without a network, on one member's data.

Each probe looks for one kind of mistake that would otherwise show up as a node that learns nothing.
A mistake that would stop a node is a fault; what may be on purpose is a warning.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from gossipfl.errors import TaskError
from gossipfl.learning.advice import advice
from gossipfl.learning.findings import DryRun, described
from gossipfl.learning.isolation import isolated
from gossipfl.learning.local import evaluate, figures, local_pass
from gossipfl.learning.overlap import overlap
from gossipfl.learning.session import Session, blamed, read_data
from gossipfl.learning.task import Place, Samples, Split, Task, initial

__all__ = ["dry_run"]

PROBE_SEED: Final = 0
PROBE_ROWS: Final = 8  # enough that a row has neighbors, few enough to cost nothing
LEARNING_BATCHES: Final = 8  # of rows that a trial of learning takes
LEARNING_ROUNDS: Final = 3  # on them: a loss that falls at all has fallen by then
SAME: Final = 1e-3  # relative: float32 sums in another order differ by 1e-6, mistakes by far more


def dry_run(task: Task, place: Place) -> DryRun:
    """Try a task on one member's data.

    Args:
        task: what is learned.
        place: whose data.

    Raises:
        TaskError: there is no model or no data to go on with.
    """
    session = Session(task, place)
    split = session.split
    found = described(session)
    probes: list[Callable[[], None]] = [
        lambda: _same_data(task, place, split),
        lambda: _same_model(task, place),
        lambda: _one_batch(session, found),
        lambda: _sizes(session),
        lambda: _each_row(session, found),
        lambda: _measured(session, found),
        lambda: overlap(split, found),
        lambda: _one_answer(split, found),
        lambda: _learns(session, found),
    ]
    for number, probe in enumerate(probes):
        try:
            probe()
        except TaskError as error:
            found.faults.append(error)
            if number in (2, 3):  # without right batches, all that follows says the same again
                break
    return found


def _same_data(task: Task, place: Place, split: Split) -> None:
    again = read_data(task, place)
    for part in ("train", "held_out"):
        one, other = getattr(split, part), getattr(again, part)
        if not (_equal(one.inputs, other.inputs) and _equal(one.targets, other.targets)):
            raise TaskError(
                f"`data` gave other {part.replace('_', '-')} rows when it was called again",
                fix="Split with hold_out(samples, place), or draw from torch's global generator or "
                "one that is seeded with place.seed: a node that starts again must find what it "
                "held out.",
            )


def _same_model(task: Task, place: Place) -> None:
    with blamed(task, "building the model again"):
        one, other = (dict(initial(task, place.seed).state_dict()) for _ in range(2))
    if one.keys() != other.keys():
        raise TaskError(
            "`model` built other tensors when it was called again",
            fix="Build the same layers each time: all members must have the same model.",
        )
    for name, item in one.items():
        if not _equal(item, other[name]):
            raise TaskError(
                f"`model` built another {name} from the same seed when it was called again",
                fix="Draw from torch's global generator only, or from none: a generator of its "
                "own, a clock or a counter gives each member another start.",
            )


def _equal(one: object, other: object) -> bool:
    return not isinstance(one, Tensor) or (isinstance(other, Tensor) and torch.equal(one, other))


def _one_batch(session: Session, found: DryRun) -> None:
    """Compute the loss of one batch and its gradient, and count what that keeps in memory."""
    task, model, train = session.task, session.model, session.split.train
    if not _descends(task):
        return
    size = min(task.batch_size or len(train), len(train))
    inputs, targets = train.inputs[:size], train.targets[:size]
    kept: dict[int, int] = {}

    def keep(item: Tensor) -> Tensor:
        kept[item.data_ptr()] = item.numel() * item.element_size()
        return item

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with _in_mode(model, training=True), isolated(PROBE_SEED):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda item: item):
                loss = _loss(task, model, inputs, targets)
            _check_loss(loss)
            found.loss = float(loss.detach())
            with blamed(task, "computing the gradient"):
                loss.backward()  # type: ignore[no-untyped-call]
            _check_gradients(model)
    model.zero_grad()
    found.step_bytes = sum(kept.values())
    for warning in said:
        if "target size" in str(warning.message):  # torch's losses, before they broadcast
            raise _wrong_shapes(str(warning.message).partition(". ")[0], inputs, targets)
    if not math.isfinite(found.loss):
        raise TaskError(
            f"the loss of the first batch is {found.loss}",
            fix="Look for a logarithm or division of zero in `loss`, and scale the inputs.",
        )


def _loss(task: Task, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    try:
        with blamed(task, f"computing the loss of {len(inputs)} rows"):
            return task.loss(model, inputs, targets)
    except TaskError as error:
        if isinstance(error.__cause__, RuntimeError | ValueError | IndexError):
            raise _wrong_shapes(error.message, inputs, targets, advice(error.__cause__)) from error
        raise


def _wrong_shapes(said: str, inputs: Tensor, targets: Tensor, fix: str | None = None) -> TaskError:
    def of(item: Tensor) -> str:
        return f"{tuple(item.shape)} {str(item.dtype).removeprefix('torch.')}"

    return TaskError(
        f"{said}; the batch's inputs are {of(inputs)}, its targets {of(targets)}",
        fix=fix
        or "Make the first layer take one row's shape, and let the model's answers have the shape "
        "the loss wants: model(inputs).squeeze(1) for targets of one number each, int64 codes "
        "for cross_entropy.",
    )


def _check_loss(loss: object) -> None:
    if not isinstance(loss, Tensor):
        raise TaskError(
            f"`loss` returned {type(loss).__name__}, not a scalar tensor",
            fix="Return what torch computed from `model(inputs)`, without float() or .item().",
        )
    if loss.ndim != 0:
        raise TaskError(
            f"`loss` returned shape {tuple(loss.shape)}, not a scalar",
            fix="Return the mean over the batch: .mean().",
        )
    if not loss.requires_grad:
        raise TaskError(
            "`loss` returned a scalar without a gradient",
            fix="Compute it from `model(inputs)` with torch alone, without detach or no_grad, and "
            "leave the model some parameters to train.",
        )


def _check_gradients(model: nn.Module) -> None:
    for name, item in model.named_parameters():
        if item.grad is not None and not bool(torch.isfinite(item.grad).all()):
            raise TaskError(
                f"the gradient of {name} is not finite after the first batch",
                fix="Look for a root, logarithm or division of zero, and scale the inputs.",
            )


def _sizes(session: Session) -> None:
    """Let the model answer batches of all the sizes that a node gives it."""
    task, model, train = session.task, session.model, session.split.train
    if not _descends(task):
        return
    with _asked(model):
        for size in (1, 2, 3, PROBE_ROWS):
            _answers(task, model, train, slice(0, size))
        _answers(task, model, session.split.held_out, slice(None))
    last = len(train) % task.batch_size if task.batch_size else 0
    if last > 1 and len(train) > task.batch_size:
        with _in_mode(model, training=True), isolated(PROBE_SEED), torch.no_grad():
            _answers(task, model, train, slice(0, last))


def _each_row(session: Session, found: DryRun) -> None:
    """Each row's answer is its own, and the loss of all is the mean of theirs."""
    task, model, train = session.task, session.model, session.split.train
    if not _descends(task):
        return
    if not _draws_nothing(session):
        found.warnings.append(
            TaskError(
                "`loss` or the model draws at random also when it is measured",
                fix="Change inputs at random only `if model.training`.",
            )
        )
        return
    with _asked(model):
        together = _answers(task, model, train, slice(0, PROBE_ROWS))
        for size in (1, 2, 3):
            alone = _answers(task, model, train, slice(0, size))
            if together is None or alone is None:
                continue
            if not torch.allclose(alone[0], together[0], rtol=SAME, atol=SAME):
                raise TaskError(
                    "the model's answer for a row depends on the other rows of its batch, also "
                    "when it is not training",
                    fix="Do not compute over the batch (x.mean(0), x.std(0), softmax(dim=0)): "
                    "scale by fixed numbers, or use LayerNorm, or BatchNorm with its own "
                    "statistics.",
                )
    _mean_of_rows(session, found)


def _draws_nothing(session: Session) -> bool:
    """Whether a batch has the same loss from another seed: else no two can be compared."""
    task, model, rows = session.task, session.model, slice(0, PROBE_ROWS)
    inputs, targets = session.split.train.inputs[rows], session.split.train.targets[rows]
    losses = []
    for seed in (PROBE_SEED, PROBE_SEED + 1):
        with _asked(model, seed), blamed(task, "computing the loss"):
            losses.append(float(task.loss(model, inputs, targets)))
    return losses[0] == losses[1] or math.isnan(losses[0])


def _answers(task: Task, model: nn.Module, rows: Samples, which: slice) -> Tensor | None:
    """Return what the model itself answers while the loss is computed, None if it is not called."""
    inputs, targets = rows.inputs[which], rows.targets[which]
    answers: list[Tensor] = []

    def listen(module: nn.Module, given: object, answer: object) -> None:
        if isinstance(answer, Tensor) and answer.ndim and len(answer) == len(inputs):
            answers.append(answer.detach())

    handle = model.register_forward_hook(listen)
    try:
        with _one_size(task, len(inputs)):
            task.loss(model, inputs, targets)
    finally:
        handle.remove()
    return answers[0] if answers else None


@contextmanager
def _one_size(task: Task, count: int) -> Iterator[None]:
    """Say that a model takes one size of batch: it took the first, and does not take this one."""
    try:
        with blamed(task, f"computing the loss of {count} rows"):
            yield
    except TaskError as error:
        cause = error.__cause__
        raise TaskError(
            f"the model takes one size of batch only: {error.message}",
            fix=(cause and advice(cause))
            or "Do not write the size of a batch into the model: x.flatten(1), not x.view(32, -1), "
            "and .squeeze(1), not .squeeze(); batches of one row and of all held-out rows come "
            "too.",
        ) from cause


def _mean_of_rows(session: Session, found: DryRun) -> None:
    """A mean loss of all rows is the mean of the losses of its halves; a broadcast one is not."""
    task, model, train = session.task, session.model, session.split.train
    count = min(len(train), 2 * PROBE_ROWS) // 2 * 2
    if count < 2:
        return
    half = count // 2
    with _asked(model):
        answer = _answers(task, model, train, slice(0, count))
        with blamed(task, "computing the loss"):
            whole, first, second = (
                float(task.loss(model, train.inputs[rows], train.targets[rows]))
                for rows in (slice(0, count), slice(0, half), slice(half, count))
            )
    mean = (first + second) / 2
    if math.isclose(whole, mean, rel_tol=SAME, abs_tol=SAME):
        return
    targets = train.targets[:count]
    summed = math.isclose(whole, first + second, rel_tol=SAME, abs_tol=SAME)
    if answer is None or summed:
        pass
    elif answer.ndim == 2 and answer.shape[1] == 1 and targets.ndim == 1:
        raise _wrong_shapes(
            f"the model answers {tuple(answer.shape)} and `loss` compares each answer with every "
            "target",
            train.inputs[:count],
            targets,
        )
    found.warnings.append(
        TaskError(
            f"the loss of {count} rows is {whole:.4g}, the mean of its halves' losses {mean:.4g}",
            fix="If `loss` should be the mean over rows, check the shapes it compares, and that it "
            "takes the mean and not the sum.",
        )
    )


def _measured(session: Session, found: DryRun) -> None:
    task, model, rows = session.task, session.model, session.split.held_out
    with blamed(task, "measuring"):
        found.measures = evaluate(task, model, rows)
        given = figures(task, model, rows)
    for name, value in given.items():
        if value is not None and not math.isfinite(value):
            found.warnings.append(
                TaskError(
                    f"`measures` gave {name} as {value}, which is shown as nothing",
                    fix="Return None for what cannot be computed, or mend the measure.",
                )
            )


def _one_answer(split: Split, found: DryRun) -> None:
    """Warn of targets that are all alike: right for some members, and often the wrong column."""
    targets = split.train.targets
    if len(targets) > 1 and bool((targets == targets[0]).all()):
        found.warnings.append(
            TaskError(
                "the target is the same in every row to train on: alone, this member learns to "
                "say that only",
                fix="If that is wrong, check the file and the column that is predicted.",
            )
        )


def _learns(session: Session, found: DryRun) -> None:
    task, model, train = session.task, session.model, session.split.train
    rows = train
    if task.batch_size:
        first = slice(0, task.batch_size * LEARNING_BATCHES)
        rows = Samples(train.inputs[first], train.targets[first])
    with blamed(task, "training"):
        with _asked(model):
            untrained = float(task.loss(model, rows.inputs, rows.targets))
        losses = [local_pass(task, model, rows, seed=number) for number in range(LEARNING_ROUNDS)]
    if math.isfinite(untrained) and not _descends(task):
        losses[0] = untrained  # some have learned all they can in their first pass
    before, after = losses[0], losses[-1]
    found.learned = before, after
    if not after < before:
        reach = float(train.inputs.abs().max()) if train.inputs.is_floating_point() else 0.0
        hint = f" (the inputs reach {reach:.4g}: scale them to about 1)" if reach > 10 else ""
        found.warnings.append(
            TaskError(
                f"the training loss on {len(rows)} rows did not fall in {LEARNING_ROUNDS} rounds: "
                f"{before:.4g} in the first, {after:.4g} in the last",
                fix=f"Lower learning_rate, or scale the inputs{hint}.",
            )
        )


def _descends(task: Task) -> bool:
    """Whether a task learns by gradients of its loss, and not in a way of its own."""
    return type(task).fit is Task.fit


@contextmanager
def _in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


@contextmanager
def _asked(model: nn.Module, seed: int = PROBE_SEED) -> Iterator[None]:
    """Let a model answer as it does when it is measured."""
    with _in_mode(model, training=False), isolated(seed), torch.no_grad():
        yield
