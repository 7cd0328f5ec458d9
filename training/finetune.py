"""Fine-tune published weights on another data set, or fit a classifier to their features, which takes minutes.

    python -m training.finetune --model=efficientnet-lite0 --dataset=oxford_flowers102 --work_dir=runs/flowers
    python -m training.finetune --model=efficientnet-lite0 --dataset=~/pictures --few=10 --probe
    python -m training.finetune --model=efficientnet-b0 --dataset=cifar100 --set bn=train --set layer_rates=0.7

The recipe is `transfer` unless --recipe says otherwise: --set bn=frozen|train|recalibrate, freeze='[stem, stage1]',
layer_rates=0.7, head_first_epochs=2. --probe trains nothing but the classifier, on the features of the pictures as they
are (no augmentation); --pretrained=WORK_DIR/model of such a run is a start for a fine-tuning.
"""

from __future__ import annotations

from absl import flags

from training import command

FLAGS = flags.FlagValues()
command.define_training(FLAGS, recipe="transfer", pretrained="default")
flags.DEFINE_bool("probe", False, "Fit the classifier alone, by logistic regression.", flag_values=FLAGS)


def main(rest: list[str]) -> int:
    """Fine-tune one network."""
    return command.train(FLAGS, rest)


if __name__ == "__main__":
    command.run(FLAGS, __doc__, main)
