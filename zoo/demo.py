"""`make demo`: two real photographs and real ImageNet weights, each step shown as the command a user types."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from scaling_rules.errors import ZooError
from zoo import cli


def main() -> int:
    """Run the commands, printing each before its output. Returns the first exit code that is not 0."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise ZooError("the demo needs scikit-image's photographs: pip install 'zoo[demo,lite]'.")
    folder = Path(found.origin).parent / "data"
    pictures = [str(folder / name) for name in ("chelsea.png", "coffee.png")]
    commands = (
        ["list", "efficientnet-lite"],
        ["cost", "efficientnet-lite0"],
        ["predict", *pictures, "--model", "efficientnet-lite0", "--top", "3"],
    )
    for command in commands:
        print(f"\n$ zoo {' '.join(command)}", flush=True)
        code = cli.run(command)
        if code:
            return code
    print("\nThe same from Python: zoo.classify(zoo.load('efficientnet-lite0', pretrained=True), 'cat.jpg')")
    return 0


if __name__ == "__main__":
    sys.exit(main())
