"""`zoo export`: a model as a file for another engine."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    )
    parts = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.bin") if path.suffix == ".xml" else ()
    size = sum(file.stat().st_size for file in {path, *parts} if file.is_file())
    print(f"{path} ({size / 1e6:.1f} MB)")
    return 0
