"""Measure weights on a data set, with pictures prepared as their record says, and compare with what is claimed.

python -m training.evaluate NAME[.TAG] --data=DIR
python -m training.evaluate efficientnet-lite0 --data=imagenet2012          needs ImageNet, see docs/training.md
python -m training.evaluate efficientnet-lite0 --data=imagenet2012_real     its labels of 2020
python -m training.evaluate runs/flowers/model --data=oxford_flowers102 --write
"""

from __future__ import annotations

import functools
import json
import shlex
import sys
from typing import Any

from absl import flags

from scaling_rules.errors import ZooError
from training import command

FLAGS = flags.FlagValues()
string = functools.partial(flags.DEFINE_string, flag_values=FLAGS)
boolean = functools.partial(flags.DEFINE_bool, flag_values=FLAGS)
string("data", None, "A folder of pictures, one folder a class, or a data set of TFDS.")
string("split", None, "Default: validation or test, what there is; of a folder without parts, all.")
string("data_dir", None, "Where TFDS keeps its data sets.")
string("engine", "keras", "What computes: keras, openvino, onnxruntime, litert, or auto.")
flags.DEFINE_integer("batch", 32, "Pictures a pass.", lower_bound=1, flag_values=FLAGS)
boolean("per_class", False, "Print each class's accuracy, too.")
boolean("json", False, "Print JSON.")
boolean("write", False, "Put the result into the record: a folder's config.json, a tag's manifest.")


def main(names: list[str]) -> int:
    """Measure one network."""
    if len(names) != 1 or not FLAGS.data:
        raise ZooError("give one NAME[.TAG], folder or hf://owner/repo, and --data; --help shows more.")
    command.start()
    from training.evaluation import evaluate, write

    found = evaluate(
        names[0],
        FLAGS.data,
        split=FLAGS.split,
        data_dir=FLAGS.data_dir,
        engine=FLAGS.engine,
        batch=FLAGS.batch,
    )
    told = found.told()
    per_class = [
        (name, int(pictures), 100 * int(right) / int(pictures))
        for name, right, pictures in zip(found.classes, found.measured.right, found.measured.pictures, strict=True)
        if pictures
    ]
    if FLAGS.json:
        print(json.dumps(told | ({"classes": per_class} if FLAGS.per_class else {}), indent=1))
    else:
        _print(told)
        if FLAGS.per_class:
            for name, pictures, share in per_class:
                print(f"{share:6.1f} % of {pictures:<7,}{name}")
    if FLAGS.write:
        arguments = [argument for argument in sys.argv[1:] if argument not in ("--write", "--json", "--per_class")]
        path = write(found, shlex.join(["python", "-m", "training.evaluate", *arguments]))
        print(f"written to {path}", file=sys.stderr)
    return 0


def _print(told: dict[str, Any]) -> None:
    measured = told["measured"]
    print(f"{told['name']} on {told['dataset']}, {told['split']}: {measured['count']:,} pictures")
    claims: dict[str, float] = told["claimed"].get(told["dataset"], {})
    others = "" if claims else "".join(f" (of {dataset}, which is not this)" for dataset in list(told["claimed"])[:1])
    claims = claims or next(iter(told["claimed"].values()), {})
    for metric in ("top1", "top5"):
        if metric in measured:
            low, high = measured[f"{metric}_interval"]
            line = f"{metric}  measured {measured[metric]:.2f} %, 95 % interval {low:.2f} to {high:.2f}"
            if metric in claims:
                gap = measured[metric] - claims[metric]
                line += f"; claimed {claims[metric]:.2f} %{others}; gap {gap:+.2f}"
            print(line)


if __name__ == "__main__":
    command.run(FLAGS, __doc__, main)
