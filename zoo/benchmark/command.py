"""`zoo benchmark`: who is to be timed, then a table, JSON, a plot, and figures for `zoo list --max_latency_ms`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scaling_rules.errors import ZooError, unknown
from zoo import catalog, engines, metadata
from zoo.benchmark import files, latencies, peers, report
from zoo.benchmark.rounds import race
from zoo.benchmark.worker import Job
from zoo.commands import console

HAND = "hand"


def _list(text: str | None) -> list[str]:
    return [part for part in (text or "").split(",") if part]


def _counts(text: str | None, what: str) -> list[int]:
    parts = _list(text)
    if not all(part.isdigit() and int(part) for part in parts):
        raise ZooError(f"{what} must be whole numbers of at least 1 with commas between, not {text!r}.")
    return [int(part) for part in dict.fromkeys(parts)]


def _say(text: str) -> None:
    print(f"zoo benchmark: {text}", file=sys.stderr, flush=True)


def _engines(text: str | None) -> list[str]:
    asked = _list(text) or [*filter(engines.installed, engines.NAMES)]
    for name in asked:
        engines.check(name, None, None, None)
        if name in engines.FORMATS:
            metadata.needs(engines.MODULES[name])
    return list(dict.fromkeys(engines.fastest() if name == "auto" else name for name in asked))


def _precisions(text: str | None) -> tuple[str, ...]:
    """What is asked for, or all that the processor has, which OpenVINO knows."""
    valid: tuple[str, ...] = ("float32",)
    if engines.installed("openvino"):
        has = metadata.needs("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        valid = engines.openvino_precisions(has)
    for precision in _list(text):
        if precision not in valid:
            raise unknown("precision on this processor", precision, valid)
    return tuple(_list(text)) or valid


def _against(text: str) -> list[str]:
    found = []
    for peer in dict.fromkeys(_list(text)):
        if peer not in (*peers.MODULES, HAND):
            raise unknown("library to compare with", peer, (*peers.MODULES, HAND))
        if peer != HAND and not peers.installed(peer):
            _say(f"{peer} is not installed and is skipped: pip install 'zoo[peers]'")
            continue
        found.append(peer)
    return found


def benchmark(args: argparse.Namespace) -> int:
    """Time everything asked for; exit code 2 for bad input, 1 where nothing could be timed."""
    batches, sizes = _counts(args.batch, "--batch"), _counts(args.size, "--size")
    if args.rounds < 1 or args.seconds < 0 or (args.threads is not None and args.threads < 1):
        raise ZooError("--rounds and --threads must be at least 1, --seconds at least 0.")
    if not batches:
        raise ZooError("--batch must name at least one number of pictures.")
    if args.plot:
        report.check_plot(args.plot)
    names = list(dict.fromkeys(args.names))
    for name in names:
        network = catalog.spec(name)
        for size in sizes:
            replace(network, input=(size, size, network.input[2]))  # too small: refused now
    chosen, precisions, against = _engines(args.engines), _precisions(args.precision), _against(args.against)
    if args.train and args.save:
        raise ZooError("--save keeps the time of answers, not of --train.")
    with tempfile.TemporaryDirectory(prefix="zoo-benchmark-") as folder:
        contestants = []
        wanted: list[int | None] = [*sizes] or [None]
        for name in names:
            contestants += _contestants(name, sizes, chosen, precisions, against, args.threads, args.train, folder)
        results = race(
            contestants,
            [(batch, size) for size in wanted for batch in batches],
            rounds=args.rounds,
            seconds=args.seconds,
            say=_say,
        )
    if not results:
        _say("nothing could be timed")
        return 1
    if args.json:
        print(json.dumps(report.whole(results, args.rounds, args.seconds, args.threads, args.train), indent=1))
    else:
        console().print(report.table(results))
        for line in report.between(results):
            print(line)
    if args.plot:
        report.plot(results, Path(args.plot), _say)
    if args.save:
        _say(f"latencies kept in {latencies.save(report.rows(results))}")
    return 0


def _contestants(
    name: str,
    sizes: Sequence[int],
    chosen: Sequence[str],
    precisions: Sequence[str],
    against: Sequence[str],
    threads: int | None,
    train: bool,
    folder: str,
) -> list[tuple[str, Job]]:
    """Label and job of all that is to run a network; makes the engines' files."""
    own = catalog.spec(name).input[0]
    job = Job("zoo", name, "train" if train else "predict", own, threads=threads)
    found: list[tuple[str, Job]] = []
    wanted = {engine: metadata.SUFFIXES[engines.FORMATS[engine]] for engine in chosen if engine != "keras"}
    for size in [] if train or not wanted else sizes or [own]:
        _say(f"{name}: files for {', '.join(wanted)} at {size} px")
        failed = files.make("zoo", name, size, folder, *wanted.values())
        if failed:
            raise ZooError(f"{name} cannot be exported: {failed}")
    if not train:
        for engine, suffix in wanted.items():
            made = tuple((size, str(files.path_of(folder, name, size, suffix))) for size in sizes or [own])
            for precision in precisions if engine == "openvino" else ("float32",):
                each = replace(job, how="file", engine=engine, precision=precision, files=made)
                found.append((f"zoo {engine} {precision}", each))
    if "keras" in chosen or train:
        found.append((f"zoo keras {job.how}", job))
    for peer in against:
        if peer == HAND:
            found += [] if train else _by_hand(job, sizes or [own], precisions, folder)
        elif not peers.called(peer, name):
            _say(f"{peer} has no {name}")
        elif peer in peers.BUILDERS:
            found.append((f"{peer} {job.how}", replace(job, source=peer)))
        else:
            for precision in ("float32",) if train else precisions:
                for how in ("train",) if train else ("eager", "compile"):
                    found.append((f"{peer} {how} {precision}", replace(job, source=peer, how=how, precision=precision)))
    return found


def _by_hand(job: Job, sizes: Sequence[int], precisions: Sequence[str], folder: str) -> list[tuple[str, Job]]:
    metadata.needs("openvino")
    found = []
    for tool in ("keras", "timm"):
        if tool == "timm" and not (peers.installed("timm") and peers.called("timm", job.name)):
            continue
        for size in sizes:
            _say(f"{job.name}: files by hand from {tool} at {size} px")
            if failed := files.make(tool, job.name, size, folder):
                _say(f"left out: {job.name} by hand from {tool}: {failed}")
    for source in ("zoo", "keras.applications", "timm"):
        made = tuple((size, str(files.path_of(folder, job.name, size, ".xml", source))) for size in sizes)
        if all(Path(path).is_file() for _, path in made):
            for precision in precisions:
                each = replace(job, source=HAND, how="file", engine="openvino", precision=precision, files=made)
                found.append((f"hand {source} {precision}", each))
    return found
