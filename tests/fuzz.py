"""Read thousands of spoilt files: each must be read or refused by a ZooError, soon, in little memory, without a trace.

    make fuzz        or: python tests/fuzz.py --files 10000 --kinds safetensors,pth,h5,config

For each kind, a worker process of its own spoils small valid files and reads them through `weights.files.read` (a
config through `weights.config.parse`). It runs in empty folders, as the working folder, HOME, cache and temporary
folder, which must be empty afterwards. A file is the same for the same --seed, kind and number. One that breaks a
rule is kept and named, and the exit code is 1. The results go to benchmarks/fuzz.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

SECONDS = 1.0
"""Processor time that a file may take, in this process and the one that reads HDF5 together."""

MIB = 1024
"""MiB that a file may add to the worker's or the HDF5 process' peak."""

GIVE_UP = 10.0
"""Processor time after which a worker is killed over one file."""

FOLDERS = ("run", "home", "cache", "temporary")
SUFFIX = {"safetensors": ".safetensors", "pth": ".pth", "h5": ".h5", "config": ".json"}
RESULTS = Path(__file__).parents[1] / "benchmarks" / "fuzz.json"


# -- the worker ----------------------------------------------------------------------------------------


def peak() -> float:
    """MiB of memory that this process has had at most."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def child_seconds() -> float:
    """Processor time of the processes that the HDF5 child forked and waited for; 0 where there is no /proc."""
    from weights import h5_file

    child = h5_file._child
    try:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split() if child else []
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def outcome(kind: str, path: Path) -> tuple[str, str]:
    """('accepted' | 'refused' | 'violation', why) for one file."""
    import numpy as np

    from scaling_rules.errors import ZooError
    from weights import config, files

    try:
        if kind == "config":
            config.parse(path.read_bytes())
        else:
            for array in files.read(path).tensors.values():
                np.asarray(array).sum()  # reads every byte: a file must not end before it
    except ZooError as error:
        message = str(error)
        if "\n" in message or len(message) > 2000:
            return "violation", f"a message of {len(message)} characters or several lines: {message[:200]!r}"
        if any(isinstance(cause, MemoryError) for cause in causes(error)):
            return "violation", f"asked for more than {MIB} MiB: {message[:200]!r}"
        return "refused", message
    except Exception as error:
        return "violation", f"{type(error).__name__} instead of ZooError: {str(error)[:200]!r}"
    return "accepted", ""


def limit_memory() -> None:
    """Let this process have 1 GiB more than it has now, where the system knows such a limit."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (MIB << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def work(kind: str, first: int, last: int, seed: int, folder: Path) -> None:
    """Spoil and read the files of these numbers, and print a line of JSON for each."""
    import numpy as np
    from mutations import SEEDS, spoilt

    from weights import h5_file

    np.seterr(all="ignore")  # sums of spoilt numbers
    seeds = SEEDS[kind](folder)
    path = folder / f"fuzzed{SUFFIX[kind]}"
    for content in seeds:
        path.write_bytes(content)
        verdict, why = outcome(kind, path)
        if verdict != "accepted":
            raise SystemExit(f"a seed of {kind} is not valid: {why}")
    spoilt(kind, random.Random(0), seeds)
    limit_memory()
    start = peak()
    for number in range(first, last):
        path.write_bytes(spoilt(kind, random.Random(f"{seed} {kind} {number}"), seeds))
        signal.setitimer(signal.ITIMER_PROF, GIVE_UP)
        before, child_before, peak_before = time.process_time(), child_seconds(), peak()
        verdict, why = outcome(kind, path)
        seconds = time.process_time() - before + child_seconds() - child_before
        signal.setitimer(signal.ITIMER_PROF, 0)
        if seconds > SECONDS:
            verdict, why = "violation", f"{seconds:.2f} s of processor time ({verdict} {why})"
        if peak() - peak_before > MIB:
            verdict, why = "violation", f"{peak() - peak_before:.0f} MiB more memory ({verdict} {why})"
        print(json.dumps([number, verdict, why, seconds, peak() - start]), flush=True)
    h5_file._stop()  # then the system says what its forks took
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps(["child MiB", child]), flush=True)


# -- the whole -----------------------------------------------------------------------------------------


def run(kind: str, count: int, seed: int, kept: Path, advance: Any) -> dict[str, Any]:
    """Read `count` spoilt files of a kind in workers, a new one after each that died, and sum up."""
    row: dict[str, Any] = {"kind": kind, "files": 0, "accepted": 0, "refused": 0, "violations": []}
    row |= {"slowest_seconds": 0.0, "peak_mib": 0.0, "hdf5_crashed": 0, "hdf5_stopped": 0, "hdf5_peak_mib": None}
    with tempfile.TemporaryDirectory(prefix="zoo-fuzz-") as scratch:
        root = Path(scratch)
        for name in (*FOLDERS, "files"):
            (root / name).mkdir()
        file = root / "files" / f"fuzzed{SUFFIX[kind]}"
        number = 0

        def violation(why: str) -> None:
            target = kept / f"{kind}-{seed}-{number}{SUFFIX[kind]}"
            kept.mkdir(parents=True, exist_ok=True)
            if file.exists():
                shutil.copy(file, target)
            row["violations"].append({"file": str(target), "why": why})

        while number < count:
            worker = start(kind, number, count, seed, root)
            assert worker.stdout is not None
            for line in worker.stdout:
                found = json.loads(line)
                if found[0] == "child MiB":
                    row["hdf5_peak_mib"] = round(found[1], 1) if kind == "h5" else None
                    if found[1] > MIB:
                        violation(f"the process that reads HDF5 took {found[1]:.0f} MiB")
                    continue
                number, verdict, why, seconds, mib = found
                row["files"] += 1
                row["slowest_seconds"] = max(row["slowest_seconds"], round(seconds, 3))
                row["peak_mib"] = max(row["peak_mib"], round(mib, 1))
                row["hdf5_crashed"] += "HDF5 crashed" in why
                row["hdf5_stopped"] += "HDF5 was stopped" in why
                if verdict == "violation":
                    violation(why)
                else:
                    row[verdict] += 1
                number += 1
                advance()
            code = worker.wait()
            left = [str(path.relative_to(root)) for name in FOLDERS for path in (root / name).rglob("*")]
            if left:
                violation(f"files were left behind: {', '.join(left[:5])}")
                break
            if code > 0:
                raise SystemExit(f"the worker of {kind} failed (exit code {code}).")
            if code < 0:
                row["files"] += 1
                violation(f"killed the process: {signal.Signals(-code).name}")
                number += 1
                advance()
    return row


def start(kind: str, first: int, last: int, seed: int, root: Path) -> subprocess.Popen[str]:
    """A worker in its own empty folders."""
    places = {
        "HOME": "home",
        "XDG_CACHE_HOME": "cache",
        "ZOO_CACHE": "cache",
        "HF_HOME": "cache",
        "TMPDIR": "temporary",
    }
    environment = os.environ | {name: str(root / place) for name, place in places.items()}
    command = [sys.executable, "-B", str(Path(__file__).resolve()), "--worker", str(first), "--files", str(last)]
    command += ["--kinds", kind, "--seed", str(seed), "--kept", str(root / "files")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root / "run", env=environment)


def main() -> int:
    """Run the workers, show progress, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="of each kind")
    parser.add_argument("--kinds", default=",".join(SUFFIX), help="some of the default, by comma")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "zoo-fuzz", help="for bad files")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    if unknown := set(kinds) - SUFFIX.keys():
        parser.error(f"unknown kinds {', '.join(sorted(unknown))}; valid: {', '.join(SUFFIX)}")
    if given.worker is not None:
        work(kinds[0], given.worker, given.files, given.seed, given.kept)
        return 0

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rows = []
    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    began = time.monotonic()
    with Progress(*columns) as progress:
        for kind in kinds:
            task = progress.add_task(kind, total=given.files)
            rows.append(run(kind, given.files, given.seed, given.kept, lambda task=task: progress.advance(task)))
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items() if name != "violations"))
        for violation in row["violations"]:
            print(f"  {violation['file']}: {violation['why']}")
    result = {
        "command": f"python tests/fuzz.py --files {given.files} --kinds {given.kinds} --seed {given.seed}",
        "seed": given.seed,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "seconds": round(time.monotonic() - began),
        "rows": [{**row, "violations": len(row["violations"])} for row in rows],
    }
    given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(any(row["violations"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
