"""A run on disk: one tidy table, a summary, the final models; and, until it is done, its state.

rounds.parquet       one row per node and measured round (rounds.csv without pyarrow)
summary.json         the figures, what decided them, and versions
models.safetensors   `models`, shape (nodes, parameters), in member order
state.safetensors    only of an unfinished run: from it the run goes on exactly
"""

import csv
import importlib.metadata
import importlib.util
import json
import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gossipfl import __version__
from gossipfl.errors import ConfigError, StoreError
from topology.simulate.run import Run
from topology.simulate.vectorized import Vectorized

__all__ = ["Kept", "Results", "has_parquet", "read_run", "versions"]

SUMMARY: Final = "summary.json"
PARQUET: Final = "rounds.parquet"
CSV: Final = "rounds.csv"
MODELS: Final = "models.safetensors"
STATE: Final = "state.safetensors"


def versions() -> dict[str, str]:
    """Return the versions that decide what comes out to the last bit."""
    packages = ("torch", "numpy", "networkx")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"gossipfl": __version__, "python": platform.python_version(), **found}


def has_parquet() -> bool:
    """Say whether the table can be written as Parquet."""
    return importlib.util.find_spec("pyarrow") is not None


@dataclass(frozen=True)
class Kept:
    """A run as it lies on disk.

    Attributes:
        path: its folder.
        config: what decided the outcome.
        summary: its figures.
        columns: of its table.
    """

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    columns: dict[str, list[Any]]


class Results:
    """The folder of one run.

    Args:
        folder: new, empty, or of an unfinished run of the same experiment.
        config: what decides the outcome.

    Raises:
        ConfigError: the folder is in use, or cannot be written to.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self._config = config
        try:
            folder.mkdir(parents=True, exist_ok=True)
            present = sorted(path.name for path in folder.iterdir())
        except OSError as error:
            raise ConfigError(
                f"--out {folder}: cannot be used: {error.strerror}",
                fix="Name a folder that you may write to.",
            ) from error
        self.unfinished = (folder / STATE).exists()
        if not present:
            return
        if not self.unfinished:
            raise ConfigError(
                f"--out {folder}: the folder is in use: it holds {', '.join(present[:5])}",
                fix="Name another folder, or empty this one.",
            )
        before = _summary(folder)["config"]
        if before != json.loads(json.dumps(config)):
            changed = [
                key for key in config if before.get(key) != json.loads(json.dumps(config[key]))
            ]
            raise ConfigError(
                f"--out {folder}: holds an unfinished run of something else: "
                f"{', '.join(changed)} differ",
                fix="Name another folder, or run what was begun there.",
            )

    def write(self, run: Run, simulation: Vectorized | None = None) -> None:
        """Write all there is; of an unfinished run also what it goes on from.

        Without `simulation` that is its beginning: the same seed does the same again.

        Raises:
            StoreError: the disk is full or gone.
        """
        try:
            self._table(run)
            unfinished = simulation is not None or run.rounds_done < run.experiment.rounds
            if unfinished:
                state = {} if simulation is None else simulation.state()
                save_file(state, self._new(STATE))
                self._done(STATE)
            if simulation is None:
                save_file({"models": torch.from_numpy(run.models).contiguous()}, self._new(MODELS))
                self._done(MODELS)
            summary = {"config": self._config, "versions": versions(), "summary": run.summary()}
            text = json.dumps(_plain(summary), indent=1, allow_nan=False) + "\n"
            self._new(SUMMARY).write_text(text)
            self._done(SUMMARY)
            if not unfinished:
                (self.folder / STATE).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.folder}: cannot be written: {error.strerror}", fix="Make room on the disk."
            ) from error

    def resume(self, simulation: Vectorized) -> Run:
        """Return the unfinished run, with the simulation where it ended.

        Raises:
            StoreError: its files cannot be read.
        """
        kept = read_run(self.folder)
        try:
            simulation.restore(load_file(self.folder / STATE))
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise StoreError(
                f"{self.folder / STATE}: cannot be read: {error}",
                fix="Begin anew in another folder.",
            ) from error
        run = Run(simulation.experiment, columns=kept.columns)
        run.seconds, run.rounds_done = kept.summary["seconds"], kept.summary["rounds"]
        return run

    def _table(self, run: Run) -> None:
        if not has_parquet():
            with self._new(CSV).open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(run.columns)
                writer.writerows(zip(*run.columns.values(), strict=True))
            self._done(CSV)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        about = {"config": self._config, "seed": self._config["seed"], "versions": versions()}
        table = pa.table(_typed(run.columns))
        table = table.replace_schema_metadata({"gossipfl": json.dumps(_plain(about))})
        pq.write_table(table, self._new(PARQUET), compression="zstd")
        self._done(PARQUET)

    def _new(self, name: str) -> Path:
        return self.folder / f".{name}.new"

    def _done(self, name: str) -> None:
        self._new(name).replace(self.folder / name)  # whole or not at all


def read_run(folder: Path) -> Kept:
    """Read a run's table and summary.

    Raises:
        ConfigError: there is no run in the folder.
        StoreError: its files are damaged.
    """
    summary = _summary(folder)
    try:
        columns = _columns(folder)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{folder}: its table cannot be read: {error}", fix="Run the simulation again."
        ) from error
    return Kept(folder, summary["config"], summary["summary"], columns)


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{folder}: there is no run in it",
            fix="Name a folder that `gossipfl simulate --out` wrote.",
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}", fix="Run it again.") from error
    if not isinstance(found, dict) or {"config", "summary"} - set(found):
        raise StoreError(f"{path}: is no summary of a run", fix="Run it again.")
    return found


def _columns(folder: Path) -> dict[str, list[Any]]:
    if (folder / PARQUET).exists():
        if not has_parquet():
            raise ConfigError(
                f"{folder / PARQUET}: needs pyarrow, which is not installed",
                fix="Install the extra: pip install 'gossipfl[plots]'.",
            )
        import pyarrow.parquet as pq

        columns: dict[str, list[Any]] = pq.read_table(folder / PARQUET).to_pydict()
        return columns
    with (folder / CSV).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [_read(name, row[name]) for row in rows] for name in (rows[0] if rows else ())}


def _read(name: str, text: str) -> Any:  # noqa: ANN401 - a cell
    match name:
        case "node":
            return text
        case "honest":
            return text == "True"
        case "round":
            return int(text)
        case _:
            return float(text) if text else None


def _typed(columns: dict[str, list[Any]]) -> dict[str, Any]:
    import pyarrow as pa

    kinds = {"node": pa.string(), "round": pa.int32(), "honest": pa.bool_()}
    return {
        name: pa.array(values, kinds.get(name, pa.float64()), from_pandas=True)
        for name, values in columns.items()
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value goes in and comes out
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case np.generic():
            return _plain(value.item())
    return value
