"""`zoo list`, `info`, `cost` and `cite`: tables for people, --json for programs. Loads no Keras."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from rich.console import Console
from rich.table import Table

from scaling_rules.cost import human
from scaling_rules.errors import ZooError
from weights import manifest
from zoo import catalog, references, registry

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}


def console() -> Console:
    """A console that keeps rows whole when the output goes to a file or a pipe."""
    shown = Console(highlight=False)
    return shown if shown.is_terminal else Console(highlight=False, width=160)


def parse_count(text: str) -> float:
    """'600M', '4.4G', '4.4B' or '600000000' as a number. Raises ZooError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGBT]?)", text.strip().upper())
    if not match:
        raise ZooError(f"{text!r} is not a count; valid: 600M, 4.4G, or a plain number.")
    return float(match[1]) * UNITS[match[2]]


def _print(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def list_(args: argparse.Namespace) -> int:
    """Table of the listed names, or with --pretrained of every tag that loads; or a JSON list of objects."""
    names = catalog.list_models(
        args.pattern,
        family=args.family,
        max_macs=parse_count(args.max_macs) if args.max_macs else None,
        pretrained=True if args.pretrained else None,
        max_latency_ms=args.max_latency_ms,
        engine=args.engine,
        batch=args.batch,
    )
    rows = [_row(name) for name in names]
    if args.max_latency_ms is not None:
        for name, took in catalog.latencies(names, args.engine, args.batch).items():
            next(row for row in rows if row["name"] == name)["latency_ms"] = took
    if args.json:
        _print(rows)
        return 0
    if not rows:
        raise ZooError(f"no model matches {args.pattern!r} with these filters; `zoo list` shows all names.")
    console().print(_tags(rows) if args.pretrained else _names(rows))
    return 0


def _row(name: str) -> dict[str, Any]:
    network, total, pattern = catalog.spec(name), catalog.cost(name), registry.PATTERNS.get(name)
    records = {tag: manifest.record(name, tag) for tag in catalog.loadable_tags(name)}
    return {
        "name": name,
        "family": network.family,
        "resolution": network.input[0],
        "params": total.params,
        "macs": total.macs,
        "weights": {
            tag: {
                "resolution": record["preprocessing"]["crop"],
                **{key: record[key] for key in ("params", "macs", "license", "claimed", "measured")},
            }
            for tag, record in records.items()
        },
        "pattern": pattern.label if pattern else None,
        "members": pattern.members if pattern else None,
    }


def _table(*columns: str, right: tuple[int, ...]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for column in right:
        table.columns[column].justify = "right"
    return table


def _names(rows: list[dict[str, Any]]) -> Table:
    timed = ["ms"] if "latency_ms" in rows[0] else []
    table = _table("name", "family", "px", "params", "MACs", *timed, "weights", right=tuple(range(2, 5 + len(timed))))
    for row in rows:
        tags = list(row["weights"])
        best = ""
        if tags:
            record = row["weights"][tags[0]]
            size = f" at {record['resolution']} px" if record["resolution"] != row["resolution"] else ""
            best = f"{tags[0]} {_top1(record['claimed'])} claimed{size}"
        more = f", {len(tags) - 1} more" if len(tags) > 1 else ""
        pattern = f"one of {row['members']:,}: {row['pattern']}" if row["pattern"] else ""
        counts = [human(row["params"]), human(row["macs"])]
        if timed:
            counts.append(f"{row['latency_ms']:.2f}")
        table.add_row(row["name"], row["family"], str(row["resolution"]), *counts, f"{best}{more}" or pattern)
    return table


def _tags(rows: list[dict[str, Any]]) -> Table:
    """A row a tag: top-1 in percent, as its source claims it and as a command here measured it, at the px stated."""
    table = _table("name.tag", "px", "params", "MACs", "claimed", "measured", "licence", right=(1, 2, 3, 4, 5))
    for row in rows:
        for tag, record in row["weights"].items():
            table.add_row(
                f"{row['name']}.{tag}",
                str(record["resolution"]),
                human(record["params"]),
                human(record["macs"]),
                _top1(record["claimed"]),
                _top1(record["measured"]),
                record["license"],
            )
    return table


def _top1(results: list[dict[str, Any]]) -> str:
    return next((f"{result['value']:.1f}" for result in results if result["metric"] == "top1"), "")


def info(args: argparse.Namespace) -> int:
    """Everything about one model."""
    data = catalog.info(args.model)
    if args.json:
        _print(data)
        return 0
    height, width, channels = data["input"]
    facts = {
        "family": data["family"],
        "input": f"{height} x {width} x {channels}, {data['classes']} classes",
        "params": f"{data['params']:,} (and {data['buffers']:,} batch-norm statistics)",
        "MACs": f"{data['macs']:,}",
        "activations": f"{data['activations']:,}",
        "dialect": f"{data['dialect']} (of {', '.join(data['dialects'])})",
        "source": data["source"],
        "note": data["note"],
        "fingerprint": data["fingerprint"],
    }
    if data["pattern"]:
        facts["pattern"] = f"{data['pattern']['label']}, {data['pattern']['members']:,} names"
    table = Table(
        box=None,
        show_header=False,
        pad_edge=False,
        title=data["name"],
        title_justify="left",
        title_style="bold",
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in facts.items():
        if value:
            table.add_row(key, value)
    for record in data["weights"]:
        table.add_row("weights", _weights(data["name"], record))
    if data["published"]:
        rows = data["published"]
        shown = [f"{r['metric']} {r['value']} on {r['dataset']}: {r['label']}; {r['source']}" for r in rows[:5]]
        if len(rows) > 5:
            shown.append(f"and {len(rows) - 5} more: zoo cite {data['name']}")
        table.add_row("published", "\n".join(shown))
    console().print(table)
    return 0


def _weights(name: str, record: dict[str, Any]) -> str:
    """A weight's record in a few lines: where it is, its licence, what is claimed and what was measured."""
    if record["sources"]:
        lines = [
            f"{record['tag']}: zoo.load({name!r}, pretrained={record['tag']!r})",
            f"licence {record['license']}. {record['data_note']}",
        ]
    else:
        lines = [f"{record['tag']}: never published; recipe training/recipes/{record['recipe']}"]
    prepare = record["preprocessing"]
    lines.append(f"short side to {prepare['resize']} px ({prepare['interpolation']}), centre crop {prepare['crop']}")
    for kind in ("claimed", "measured"):
        found = [f"{r['metric']} {r['value']} on {r['dataset']} ({r['source']})" for r in record[kind]]
        lines.append(f"{kind}: {'; '.join(found) or 'none'}")
    return "\n".join([*lines, record["note"]])


def cost(args: argparse.Namespace) -> int:
    """Cost of a network, with its shares by stage or block."""
    network = catalog.spec(args.model, dialect=args.dialect)
    total = catalog.cost(network)
    parts = total.blocks if args.blocks else total.stages
    if args.json:
        _print(
            {
                "name": network.name,
                **{key: getattr(total, key) for key in ("macs", "params", "buffers", "activations")},
                "blocks" if args.blocks else "stages": {path: part._asdict() for path, part in parts.items()},
            }
        )
        return 0
    table = Table("part", "MACs", "%", "params", "%", "activations", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for path, part in parts.items():
        table.add_row(
            path,
            f"{part.macs:,}",
            f"{100 * part.macs / total.macs:.1f}",
            f"{part.params:,}",
            f"{100 * part.params / total.params:.1f}",
            f"{part.activations:,}",
        )
    table.add_section()
    table.add_row(network.name, f"{total.macs:,}", "", f"{total.params:,}", "", f"{total.activations:,}", style="bold")
    console().print(table)
    return 0


def cite(args: argparse.Namespace) -> int:
    """BibTeX and published results."""
    name, _ = catalog.split(args.model)
    if args.json:
        _print({"name": name, "bibtex": references.bibtex(name), "published": references.results(name)})
    else:
        print(references.cite(name))
    return 0
