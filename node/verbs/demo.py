"""`gossipfl demo`: four hospitals on this machine, as real nodes."""

from pathlib import Path
from typing import Annotated

import typer

from gossipfl.errors import ConfigError
from node.output import Result
from node.verbs import AsJson

__all__ = ["demo"]

NEIGHBORS = 3  # of each hospital; said here too, because what knows it is slow to import
SEEDS_MAX = 1000  # some hours
ROUNDS = 40  # ten steps each: the logistic model is at its optimum


def demo(
    seeds: Annotated[
        str, typer.Option(help="Which splits of the patients to play: 0, 0-4 or 1,3,5.")
    ] = "0",
    mixing: Annotated[
        str, typer.Option(help="How models are mixed: trimmed-mean, median or mean.")
    ] = "trimmed-mean",
    byzantine: Annotated[
        int, typer.Option(help="Lying neighbors to withstand (b); the mean withstands none.")
    ] = 1,
    liar: Annotated[str, typer.Option(help="The hospital that lies.")] = "switzerland",
    attack: Annotated[str, typer.Option(help="What it sends: bit-flip or gaussian.")] = "bit-flip",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in each act.")] = ROUNDS,
    out: Annotated[
        Path, typer.Option(help="Where the report, models and logs go; a new one each time.")
    ] = Path("demo-results"),
    as_json: AsJson = False,
) -> Result:
    """Show four hospitals that train one model without a server, and one that lies.

    The data are the UCI Heart Disease patients of four hospitals, in the package. Each hospital is
    a real node of two processes; they talk over TLS on this machine's loopback only.

    Example: gossipfl demo --seeds 0-4
    """
    import shutil
    import time

    from node.output import write_report

    began = time.monotonic()
    chosen = _seeds(seeds)
    _check(mixing, byzantine, attack)  # before the slow imports
    from gossipfl.tasks.heart_disease import HOSPITALS
    from node.demo.acts import Script, play
    from node.demo.story import report, sentences, table_rows
    from node.demo.view import Screen, final_page

    if liar not in HOSPITALS:
        raise ConfigError(
            f"--liar {liar}: there is no such hospital", fix="Use one of: " + ", ".join(HOSPITALS)
        )
    rule = _rule(mixing, byzantine)
    script = Script(rule, liar, {"kind": attack}, rounds, _new_directory(out))
    screen = Screen()
    played = {}
    for seed in chosen:
        screen.seed(seed, len(chosen))
        played[seed] = play(script, seed, screen)
    data = report(played) | {
        "seeds": chosen,
        "mixing": rule,
        "liar": liar,
        "attack": attack,
        "rounds": rounds,
        "seconds": round(time.monotonic() - began, 2),
        "out": str(script.out),
    }
    for name, path in played[chosen[-1]]["together"].models.items():
        shutil.copyfile(path, script.out / f"{name}.safetensors")
    write_report(script.out / "report.json", data)
    sizes = {name: hospital.patients for name, hospital in HOSPITALS.items()}
    page = final_page(table_rows(played), sizes, sentences(played), data)
    return Result(data, page)


def _rule(mixing: str, byzantine: int) -> dict[str, object]:
    return {"kind": mixing} if mixing == "mean" else {"kind": mixing, "b": byzantine}


def _check(mixing: str, byzantine: int, attack: str) -> None:
    from gossipfl.attacks.attack import load_attack
    from gossipfl.mixing.rule import check_degree, load_rule

    check_degree(load_rule(_rule(mixing, byzantine), key="--mixing"), NEIGHBORS)
    load_attack(attack, key="--attack")


def _seeds(text: str) -> list[int]:
    try:
        found: list[int] = []
        for part in text.split(","):
            first, _, last = part.partition("-")
            found += range(int(first), min(int(last or first), int(first) + SEEDS_MAX) + 1)
    except ValueError:
        found = []
    if not 0 < len(found) <= SEEDS_MAX or len(set(found)) != len(found):
        raise ConfigError(f"--seeds {text}: no list of seeds", fix="Write 0, 0-4 or 1,3,5.")
    return found


def _new_directory(out: Path) -> Path:
    """Return a directory that no earlier demo wrote to: `out`, else `out-2` and so on."""
    number, directory = 1, out
    while directory.exists():
        number += 1
        directory = out.with_name(f"{out.name}-{number}")
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            f"--out {out}: cannot be made: {error.strerror}", fix="Name a directory of your own."
        ) from error
    return directory
