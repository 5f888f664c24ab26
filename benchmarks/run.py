"""Recurra beside its peers: the same layers, the same numbers, in one run.

    python benchmarks/run.py                      what docs/performance.md and the README show
    python benchmarks/run.py --parts shapes --shapes 0,3 --cells lstm --modes train --rounds 9
    python benchmarks/run.py --parts shapes --threads 1           every peer bound to one CPU

For every piece of work the peers' results are compared first; nothing is timed unless they agree.
Then the peers take turns (A B C D, B C D A, ...), and the medians are reported with the ratio
peer / Recurra: above 1, Recurra is faster.

Whole parts go to benchmarks/results/PART.json, and the documents are made from them anew. Where
something was left out or changed, results go to PART.local.json, and the documents stay.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from bench import Bench, Table
from peers import PEERS
from turns import DisagreementError, EndedError, allowed_cpus, machine
from work import SHAPES, Shape

PARTS = ("shapes", "padded", "options", "threads", "avx2", "scaling")
DEFAULT_PARTS = PARTS[:-1]
RESULTS = Path(__file__).parent / "results"


def part(name: str) -> Any:
    """The module of a part."""
    return importlib.import_module(f"parts.{name}")


def shapes(chosen: str) -> list[Shape]:
    """The shapes for numbers such as "0,3"."""
    try:
        numbers = [int(n) for n in chosen.split(",")]
    except ValueError:
        numbers = [-1]
    if not all(0 <= n < len(SHAPES) for n in numbers):
        raise argparse.ArgumentTypeError(
            f"expected numbers from 0 to {len(SHAPES) - 1}, as in 0,3; got {chosen}"
        )
    return [SHAPES[n] for n in numbers]


def folder(chosen: str) -> Path:
    """The path, once it is known that files can be written there: measuring takes minutes."""
    path = Path(chosen)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"nothing can be written to {path}: {error.strerror}. Name a folder where it can."
        ) from None
    return path


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The options; ends the program with a message if one of them cannot be followed."""
    cpus = len(allowed_cpus())
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--parts",
        default=",".join(DEFAULT_PARTS),
        help=f"some of {', '.join(PARTS)}; default: all but the last",
    )
    parser.add_argument("--cells", default="lstm,gru", help="default: %(default)s")
    parser.add_argument("--modes", default="forward,train", help="default: %(default)s")
    parser.add_argument(
        "--shapes",
        type=shapes,
        default=list(SHAPES),
        help="numbers of shapes: " + ", ".join(f"{i} = {s}" for i, s in enumerate(SHAPES)),
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, help="default: each part's own number")
    parser.add_argument(
        "--turn-seconds", type=float, help="of each peer's turn in a round; default: each part's"
    )
    parser.add_argument(
        "--threads", type=int, default=cpus, help="CPUs for each peer; default: all, %(default)s"
    )
    parser.add_argument(
        "--record",
        action=argparse.BooleanOptionalAction,
        help="whether results go to PART.json and the documents are made from them; default: "
        "if no other option than --parts is given",
    )
    parser.add_argument(
        "--results",
        type=folder,
        # As text: argparse then checks the default like anything else, and only if it is used.
        default=str(RESULTS),
        help="the folder for results; default: %(default)s",
    )
    options = parser.parse_args(given)
    for name, known in (
        ("parts", PARTS),
        ("cells", ("lstm", "gru")),
        ("modes", ("forward", "train")),
        ("peers", tuple(PEERS)),
    ):
        chosen = getattr(options, name).split(",")
        if unknown := [c for c in chosen if c not in known]:
            parser.error(f"--{name}: got {', '.join(unknown)}, expected some of {', '.join(known)}")
        setattr(options, name, chosen)
    if "recurra" not in options.peers:
        parser.error("--peers: recurra must be among them, the ratios are to it")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {options.rounds}")
    if options.turn_seconds is not None and not options.turn_seconds > 0:
        parser.error(f"--turn-seconds: expected more than 0, got {options.turn_seconds}")
    if not 1 <= options.threads <= cpus:
        parser.error(
            f"--threads: expected 1 to {cpus}, the CPUs that this process may use; "
            f"got {options.threads}"
        )
    if options.record is None:
        whole = {name: parser.get_default(name) for name in ("cells", "modes", "peers")}
        options.record = (
            all(getattr(options, name) == value.split(",") for name, value in whole.items())
            and options.shapes == list(SHAPES)
            and options.rounds is None
            and options.turn_seconds is None
            and options.threads == cpus
            and Path(options.results) == RESULTS
        )
    return options


def written(report: dict[str, Any]) -> str:
    """A report as JSON, a line per result."""
    head = json.dumps({k: v for k, v in report.items() if k != "results"}, indent=1)
    lines = ",\n".join(f"  {json.dumps(result)}" for result in report["results"])
    return f'{head[:-2]},\n "results": [\n{lines}\n ]\n}}\n'


def save(path: Path, report: dict[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(written(report))
    partial.replace(path)


def show(console: Console, table: Table) -> None:
    rich = RichTable(title=table.title)
    for heading in table.headings:
        rich.add_column(heading, justify="right")
    for row in table.rows:
        rich.add_row(*(cell.replace("**", "").replace("`", "") for cell in row))
    console.print(rich)


def run(console: Console, bench: Bench, name: str, command: str) -> dict[str, Any]:
    """Measure one part; its report."""
    module = part(name)
    jobs = list(module.jobs(bench))
    results, refused = [], []
    begin = time.monotonic()
    for number, job in enumerate(jobs, 1):
        try:
            results.append(job())
        except (DisagreementError, EndedError) as error:
            refused.append(str(error))
            if isinstance(error, EndedError):
                bench.processes.close()
            console.print(f"[{number}/{len(jobs)}] not timed: {error}", style="red", markup=False)
        else:
            line = f"[{number}/{len(jobs)}] {module.line(results[-1])}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    took = time.monotonic() - begin
    console.print(f"{name}: {took:.0f} s", highlight=False)
    report = {
        "part": name,
        "command": command,
        "rounds": bench.rounds or module.ROUNDS,
        "took": round(took),
        "machine": machine(bench.threads, bench.processes.started.values()),
        "not timed": refused,
        "results": results,
    }
    bench.processes.close()
    if results:
        for table in module.tables(results):
            show(console, table)
    return report


def main() -> None:
    options = arguments()
    console = Console()
    names = ("cells", "modes", "shapes", "peers", "rounds", "turn_seconds", "threads")
    bench = Bench(**{name: getattr(options, name) for name in names})
    failed = False
    try:
        for name in options.parts:
            command = f"make bench-{name}" if options.record else shlex.join(sys.argv)
            report = run(console, bench, name, command)
            failed = failed or bool(report["not timed"])
            path = options.results / f"{name}{'' if options.record else '.local'}.json"
            save(path, report)
            console.print(f"Written to {path}", highlight=False)
    finally:
        bench.processes.close()
    if options.record:
        import page

        for path in page.write():
            console.print(f"Written to {path}", highlight=False)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
