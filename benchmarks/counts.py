"""How many instructions the kernels take: numbers that repeat on a busy machine, unlike times.

    python benchmarks/counts.py              counts, and shows what changed against the record
    python benchmarks/counts.py --record     writes the record anew
    python benchmarks/counts.py --isa avx2   one instruction set

Needs CMake, Ninja and a C++ compiler, and valgrind or a system that lets programs read the
processor's counters. The record is benchmarks/results/instruction-counts.json, by instruction set
and compiler; tests/test_instruction_counts.py fails where a count has grown by more than
`TOLERANCE` since.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "tools"
RECORD = Path(__file__).parent / "results" / "instruction-counts.json"
TOLERANCE = 0.05
ISAS = ("avx2", "generic") if platform.machine() in ("x86_64", "AMD64") else ("generic",)
"""What is counted: valgrind does not know AVX-512."""

REGION = "recurra_counted_region"

Counts = dict[str, int]
"""Instructions by the case's name."""


class CannotCountError(Exception):
    """Something that counting needs is missing here; the message says what."""


@dataclass(frozen=True)
class Change:
    """A case whose count differs from the record: None where one of the two has no such case."""

    case: str
    recorded: int | None
    counted: int | None

    @property
    def growth(self) -> float:
        """Relative: 0.1 means ten percent more than recorded."""
        if not self.recorded or self.counted is None:
            return 0.0
        return self.counted / self.recorded - 1

    def __str__(self) -> str:
        if self.recorded is None:
            return f"{self.case}: {self.counted:,}, not recorded"
        if self.counted is None:
            return f"{self.case}: recorded, but there is no such case"
        return f"{self.case}: {self.recorded:,} -> {self.counted:,} ({self.growth:+.1%})"


def changes(recorded: Mapping[str, int], counted: Mapping[str, int]) -> list[Change]:
    """Every case whose count is not the recorded one, in the order of counting."""
    cases = [*counted, *(case for case in recorded if case not in counted)]
    every = [Change(case, recorded.get(case), counted.get(case)) for case in cases]
    return [change for change in every if change.recorded != change.counted]


def failures(recorded: Mapping[str, int], counted: Mapping[str, int]) -> list[Change]:
    """The changes that a test must not let pass: growth, and cases that one side lacks."""
    return [
        change
        for change in changes(recorded, counted)
        if change.recorded is None or change.counted is None or change.growth > TOLERANCE
    ]


def tool(name: str) -> str:
    """The path of a program, beside this Python or in PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise CannotCountError(f"{name} is not installed")
    return found


def build(isas: tuple[str, ...] = ISAS) -> dict[str, Path]:
    """Build the programs that run the cases; their paths by instruction set.

    Raises:
        CannotCountError: without CMake, Ninja or a compiler.
        RuntimeError: with the compiler's output, if it fails.
    """
    cmake, ninja = tool("cmake"), tool("ninja")
    if not (os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")):
        raise CannotCountError("there is no C++ compiler")
    options = ["-DRECURRA_ONLY_TOOLS=ON", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    names = [f"count_kernels_{isa}" for isa in isas]
    for command in (
        [cmake, "-S", ROOT, "-B", BUILD, "-G", "Ninja", *options],
        [cmake, "--build", BUILD, "--target", *names],
    ):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}")
    return {isa: BUILD / "tools" / name for isa, name in zip(isas, names, strict=True)}


def compiler_of(program: Path) -> str:
    """The compiler, its major version and what it compiles for, e.g. "gcc 12 x86_64"."""
    done = subprocess.run([program, "--compiler"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def count(program: Path) -> Counts:
    """Count the instructions of every case of one program.

    Raises:
        CannotCountError: if neither valgrind nor the processor's counters can be used.
    """
    if valgrind := shutil.which("valgrind"):
        return _count_with_valgrind(valgrind, program)
    done = subprocess.run([program, "--perf"], capture_output=True, text=True)
    if done.returncode == 3:
        raise CannotCountError(f"valgrind is not installed, and {done.stderr.strip()}")
    if done.returncode != 0:
        raise RuntimeError(f"{program} --perf: {done.stderr}")
    pairs = (line.rsplit(": ", 1) for line in done.stdout.splitlines())
    return {case: int(number) for case, number in pairs}


def _count_with_valgrind(valgrind: str, program: Path) -> Counts:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "count")
        options = ["--tool=callgrind", f"--callgrind-out-file={out}"]
        options += [f"--toggle-collect={REGION}", f"--dump-after={REGION}"]
        done = subprocess.run([valgrind, *options, program], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{program} under valgrind: {done.stderr}")
        return {
            case: _total(out.with_suffix(f".{number}"))
            for number, case in enumerate(done.stdout.splitlines(), 1)
        }


def _total(file: Path) -> int:
    for line in file.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise RuntimeError(f"{file} has no totals")


def load_record() -> dict[str, dict[str, Counts]]:
    """Counts by instruction set and compiler."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--record", action="store_true", help="write the record anew")
    parser.add_argument("--isa", choices=ISAS, action="append", help="default: each")
    arguments = parser.parse_args()
    record = load_record()
    try:
        for isa, program in build(tuple(arguments.isa or ISAS)).items():
            compiler = compiler_of(program)
            counted = count(program)
            recorded = record.get(isa, {}).get(compiler, {})
            changed = changes(recorded, counted)
            print(f"{isa}, {compiler}: {len(counted)} cases, {len(changed)} not as recorded")
            for change in changed:
                print(f"  {change}")
            record.setdefault(isa, {})[compiler] = counted
    except CannotCountError as error:
        sys.exit(f"cannot count instructions: {error}")
    if arguments.record:
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=False) + "\n")
        print(f"written: {RECORD.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
