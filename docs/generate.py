"""Writes the tables of docs/ from the data the tests read. `python docs/generate.py`, or --check to compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scaling_rules.cost import cost, human
from weights import manifest
from zoo import catalog, references, registry

sys.path.insert(0, str(Path(__file__).parent))  # `python -P` leaves it out

from performance_tables import performance
from pooling_tables import pooling
from scaling_tables import scaling
from training_tables import training

HERE = Path(__file__).parent

NOTE = "<!-- Written by docs/generate.py; a test compares it. -->\n\n"

DEPTH_WIDTH = """ResNet-50's rows d=4 and w=2 fit the counts when exchanged (within 2 %): the stem and the projection
shortcuts are not repeated, so d=4 costs less than four times 4.09 G, and w=2 nearly four times. For B0 no
reading of d, w and r gives the printed figures of Table 7's first three rows; the compound row is exact."""


def models() -> str:
    """Every listed name with its cost and the tags of its weights."""
    lines = [
        "# Models",
        "",
        NOTE.strip(),
        "",
        f"{len(registry.NAMES)} names are listed; a row with a pattern stands for all its members. MACs are",
        "multiply-adds of convolutions and dense layers for one picture at the resolution given (the rule is in",
        "`scaling_rules/cost.py`).",
        "`zoo list`, `zoo info NAME` and `zoo cost NAME` print the same; [tags.md](tags.md) has the weights.",
        "",
        "| name | px | params | MACs | default weights | more tags |",
        "|---|---:|---:|---:|---|---|",
    ]
    for name in registry.NAMES:
        spec, total, pattern = catalog.spec(name), catalog.cost(name), registry.PATTERNS.get(name)
        first, *more = catalog.loadable_tags(name) or [""]
        if pattern:
            first = f"one of {pattern.members:,}: {pattern.label}"
        cells = (name, spec.input[0], f"{total.params:,}", human(total.macs), first, ", ".join(more))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def tags() -> str:
    """Every tag of weights with its results, licence and where it comes from."""
    lines = [
        "# Pretrained weights",
        "",
        NOTE.strip(),
        "",
        "`zoo.load(NAME, pretrained=TAG)`; a model's first tag is what `pretrained=True` loads. Claimed is the",
        "ImageNet validation top-1 that the source states, in percent, at the px given; measured is what a command of",
        "this repository printed, empty where none was run. The licence is of the weights. `zoo info NAME.TAG` says",
        "what they were trained on, how pictures are prepared, and where each figure stands; `zoo list --pretrained`",
        "prints this table.",
        "",
        "| name.tag | px | MACs | claimed | measured | licence | from |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for name in registry.NAMES:
        for tag in catalog.loadable_tags(name):
            record = manifest.record(name, tag)
            claimed, measured = (
                next((f"{r['value']:.1f}" for r in record[kind] if r["metric"] == "top1"), "")
                for kind in ("claimed", "measured")
            )
            source = record["sources"][0]
            place = {
                "hub": source.get("repo", ""),
                "https": source.get("url", "").removeprefix("https://").split("/")[0],
                "pypi": f"PyPI {source.get('package', '')}",
            }[source["kind"]]
            px, macs = record["preprocessing"]["crop"], human(record["macs"])
            cells = (f"{name}.{tag}", px, macs, claimed, measured, record["license"], place)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def compound() -> str:
    """Printed MACs of EfficientNet's tables beside those counted from our specs."""
    lines = [
        "# Compound scaling: the paper's cost columns and ours",
        "",
        NOTE.strip(),
        "",
        "Printed: `macs_m` of the paper's row in `zoo/references.json`. Counted: `zoo cost NAME`. The paper prints",
        "one to three digits. The gap is stated beside each; the specs follow the released code.",
        "",
    ]
    for table in ("Table 2", "Table 3", "Table 7"):
        lines += [f"## {table} (arXiv 1905.11946v5)", "", "| model | printed | counted | gap |", "|---|---:|---:|---:|"]
        for name in registry.NAMES:
            for row in references.results(name):
                if row["source"] == f"arXiv 1905.11946v5 {table}" and row["metric"] == "top1" and row["macs_m"]:
                    counted = cost(registry.architecture(name)).macs
                    gap = counted / (row["macs_m"] * 1e6) - 1
                    printed = f"{row['macs_m'] / 1000:g} G"
                    lines.append(f"| {name} | {printed} | {counted / 1e9:.3f} G | {100 * gap:+.1f} % |")
        lines.append("")
    lines += [
        DEPTH_WIDTH,
        "",
        "The paper prints compound coefficients for MobileNetV1 and B0 only (depth 1.4, width 1.2, resolution 1.3);",
        "for MobileNetV2 and ResNet-50 there is nothing to build. MobileNetV1 has no d=4 row; `mobilenet-v1-1.0x-d4`",
        "is ours by the same rule.",
        "",
    ]
    return "\n".join(lines)


def benchmarks() -> str:
    """What `make benchmark` wrote last."""
    lines = ["# Benchmarks", "", NOTE.strip(), ""]
    lines += [
        "Medians of interleaved rounds in one process, ratios round by round with their quartiles. Machines differ",
        "and are noisy: rerun it on yours.",
    ]
    for title, file in (("Building and running", "foundation"), ("Loading weights", "load_weights")):
        data = json.loads((HERE.parent / "benchmarks" / f"{file}.json").read_text(encoding="utf-8"))
        lines += [
            "",
            f"## {title}",
            "",
            f"`{data['command']}` on {data['date']}, {data['rounds']} rounds: {data['machine']}.",
            "",
            "| what | ours | peer | ratio (quartiles) | target |",
            "|---|---:|---:|---:|---|",
        ]
        for row in data["rows"]:
            unit, ratio = row["unit"], ""
            peer = f"{row['peer']:.3f} {unit}" if "peer" in row else ""
            if "ratio" in row:
                ratio = f"{row['ratio']:.2f} ({row['quartiles'][0]:.2f} to {row['quartiles'][1]:.2f})"
            lines.append(f"| {row['what']} | {row['ours']:.3f} {unit} | {peer} | {ratio} | {row['target']} |")
    return "\n".join([*lines, "", *fuzzing()])


def fuzzing() -> list[str]:
    """What `make fuzz` wrote last."""
    data = json.loads((HERE.parent / "benchmarks" / "fuzz.json").read_text(encoding="utf-8"))
    lines = [
        "## Damaged files",
        "",
        f"`make fuzz` on {data['date']}, {data['seconds']} s, {data['machine']}: small valid files are spoilt and",
        "read. Each must be read or refused in one line, in a second of processor time and 1 GiB, and leave nothing.",
        "Stopped: HDF5's C code went on without end, and its process was killed, which is one line too.",
        "",
        "| kind | files | read | refused | violations | slowest, s | peak, MiB | HDF5 crashed | HDF5 stopped |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in data["rows"]:
        peak = max(row["peak_mib"], row["hdf5_peak_mib"] or 0)
        cells = (row["kind"], row["files"], row["accepted"], row["refused"], row["violations"], row["slowest_seconds"])
        lines.append(f"| {' | '.join(map(str, (*cells, peak, row['hdf5_crashed'], row['hdf5_stopped'])))} |")
    return [*lines, ""]


PAGES = {
    "models.md": models,
    "tags.md": tags,
    "compound.md": compound,
    "benchmarks.md": benchmarks,
    "performance.md": performance,
    "training.md": training,
    "scaling.md": scaling,
    "pooling.md": pooling,
}


def main() -> int:
    """Write the pages, or with --check say which are not what would be written (exit code 1)."""
    stale = [name for name, page in PAGES.items() if not _same(HERE / name, page())]
    if "--check" in sys.argv:
        for name in stale:
            print(f"docs/{name} is stale: run python docs/generate.py")
        return 1 if stale else 0
    for name in stale:
        (HERE / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
