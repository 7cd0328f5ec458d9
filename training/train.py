"""Train a network of the zoo by a recipe, from random weights or from published ones.

    python -m training.train --model=efficientnet-lite0 --dataset=openmoji --recipe=small --work_dir=runs/openmoji
    python -m training.train --model=resnet-50 --dataset=imagenet2012 --recipe=resnet-50 --strategy=mirrored
    python -m training.train --model=efficientnet-b0 --dataset=~/pictures --recipe=mine.yaml --set epochs=50

The same command goes on where it was stopped, and ends in --work_dir with result.json, curves.png, log.csv and a folder
`model` that `zoo.load` opens and `zoo publish` takes.
"""

from __future__ import annotations

from absl import flags

from training import command

FLAGS = flags.FlagValues()
command.define_training(FLAGS, recipe=None, pretrained="")


def main(rest: list[str]) -> int:
    """Train one network."""
    return command.train(FLAGS, rest)


if __name__ == "__main__":
    command.run(FLAGS, __doc__, main)
