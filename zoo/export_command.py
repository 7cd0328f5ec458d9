"""`zoo export`: a model as a file for another engine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scaling_rules.errors import ZooError
from zoo import metadata
from zoo.opening import open_model


def export(args: argparse.Namespace) -> int:
    """Write the file and print where it is and how large."""
    target = Path(args.to).expanduser()
    if args.format is None:
        metadata.format_of(target)  # a wrong ending must not cost the start of TensorFlow
    if not target.absolute().parent.is_dir():
        raise ZooError(f"no folder {str(target.parent)!r} to write {target.name!r} into.")
    model = open_model(args.model)
    from zoo.exporting import export as write

    path = write(
        model,
        target,
        args.format,
        precision=args.precision,
        batch=args.batch,
        size=args.size,
        include_preprocessing=not args.bare,
        calibration=args.calibration,
    )
    parts = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.bin") if path.suffix == ".xml" else ()
    size = sum(file.stat().st_size for file in {path, *parts} if file.is_file())
    print(f"{path} ({size / 1e6:.1f} MB)")
    if args.precision == "int8":
        _print_change(metadata.read(path)["int8"])
    return 0


def _print_change(found: dict[str, Any]) -> None:
    print(
        f"ranges from {found['calibrated_on']} pictures; on {found['compared_on']} others the first class is float32's "
        f"for {100 * found['same_first']:.1f} %, the mean error {100 * found['error']:.2f} % of the largest logit"
    )
    if "accuracy" in found:
        both = {precision: f"{100 * share:.1f} %" for precision, share in found["accuracy"].items()}
        print(f"accuracy on these: {both['int8']}, in float32 {both['float32']}")
