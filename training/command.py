"""What the commands of this package share: flags by absl, help, and errors of one line with exit code 2."""

from __future__ import annotations

import functools
import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from scaling_rules.errors import ZooError
from zoo.quiet import without_chatter

HELP = {"-h", "-help", "--help", "-helpshort", "--helpshort", "-helpfull", "--helpfull"}


def run(own: flags.FlagValues, about: str, main: Callable[[list[str]], int]) -> None:
    """Parse the command line with these flags (and --flagfile=FILE), give the rest to `main`, exit with its answer.

    about: the module's docstring, printed with the flags for --help.
    """
    if HELP & set(sys.argv[1:]):
        print(f"{about.strip()}\n\nFlags, also from a file with --flagfile=FILE:\n{_flags(own)}")
        sys.exit(0)
    spec = sys.modules["__main__"].__spec__
    name = f"python -m {spec.name}" if spec else f"python {sys.argv[0]}"
    logging.basicConfig(format="%(message)s")
    logging.getLogger("zoo").setLevel(logging.INFO)
    try:
        rest = own(sys.argv)
        code = main(rest[1:])
    except (flags.Error, ZooError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        code = 130
    sys.exit(code)


def define_training(own: flags.FlagValues, recipe: str | None, pretrained: str, several: bool = False) -> None:
    """Define the flags that all trainings share, with these defaults; several: for more than one network and seed."""
    string, integer = (functools.partial(make, flag_values=own) for make in (flags.DEFINE_string, flags.DEFINE_integer))
    number, boolean = (functools.partial(make, flag_values=own) for make in (flags.DEFINE_float, flags.DEFINE_bool))
    if not several:
        string("model", None, "A name of the zoo; `zoo list` shows them.")
        integer("seed", 0, "Of weights, order, augmentation and dropout.")
        string("fold", None, "i/k: minival is the i-th of k parts of the training pictures.")
    string("dataset", None, "openmoji, a data set of TFDS (cifar100, oxford_flowers102 ...), or a folder of pictures.")
    string("recipe", recipe, "A name in training/recipes, or a YAML file.")
    string("work_dir", None, "Where all files of the run go; default runs/ and names of the flags.")
    flags.DEFINE_multi_string("set", [], "KEY=VALUE over the recipe's, as in learning_rate.peak=0.1.", flag_values=own)
    string("pretrained", pretrained, "Weights to start from: default, a tag, a file or folder, hf://owner/repo; empty "
           "for random ones.")  # fmt: skip
    string("data_dir", None, "Where TFDS keeps its data sets.")
    integer("few", None, "Train on so many pictures of each class.")
    flags.DEFINE_enum("strategy", "one", ["one", "mirrored", "tpu", "hosts"], "Devices; docs/training.md has commands.",
                      flag_values=own)  # fmt: skip
    string("coordinator", None, "ADDRESS:PORT of the first process, for --strategy=hosts.")
    integer("hosts", None, "How many processes, for --strategy=hosts.")
    integer("host", None, "Which of them this is, from 0.")
    boolean("resume", True, "Go on from the last checkpoint in --work_dir.")
    number("eval_every", 1.0, "Epochs between measurements on minival.", lower_bound=0.001)
    integer(
        "checkpoint_every", 1000, "Steps between checkpoints; there is one at each measurement, too.", lower_bound=1
    )
    number("unreadable", 0.01, "Share of the pictures that may be damaged; they are skipped and counted.")
    integer("threads", None, "Threads of an operation; a run ends bit-equal only with the same number.", lower_bound=1)
    boolean("deterministic", False, "The same bits each time, on the same machine; slower on GPUs.")
    boolean("tensorboard", False, "Write events for TensorBoard.")


def train(own: flags.FlagValues, rest: list[str]) -> int:
    """What the flags say: a training, or a probe; the table of its result on standard output."""
    for name in ("model", "dataset", "recipe"):
        if not own[name].value:
            raise ZooError(f"give --{name}; --help shows more.")
    if rest:
        raise ZooError(f"unexpected {' '.join(rest)!r}: all is said by flags.")
    start(own.threads, own.deterministic)
    folder = own.work_dir or f"runs/{Path(own.model).name}-{Path(own.dataset).name}-{own.seed}"
    result = training(own, own.model, own.seed, own.fold, Path(folder), f"python -m {_module(own)}")
    from training.strategy import backend_loop

    if backend_loop().process()[0] == 0:
        show(result, folder)
    return 0


def start(threads: int | None = None, deterministic: bool = False) -> None:
    """Start TensorFlow without what it says of itself. It takes the number of threads at no other time."""
    with without_chatter():
        import tensorflow as tf

        if threads:
            try:
                tf.config.threading.set_intra_op_parallelism_threads(threads)
            except RuntimeError:
                raise ZooError(f"threads={threads} comes too late: TensorFlow already runs in this process.") from None
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        tf.constant(0)


def training(
    own: flags.FlagValues, model: str, seed: int, fold: str | None, folder: Path, program: str
) -> dict[str, Any]:
    """Train one network, or fit a probe, as the flags say; what `training.run.train` returns."""
    from training import recipe
    from training.job import Job

    told = recipe.load(own.recipe, own.set)
    pretrained = {"": False, "default": True}.get(own.pretrained, own.pretrained)
    job = Job(model, own.dataset, told, pretrained, seed, own.few, fold)
    said = f"{program} {shlex.join(sys.argv[1:])}"
    if "probe" in own and own.probe:
        from training.probe import probe

        return probe(job, folder, data_dir=own.data_dir, command=said)
    from training.run import train as run_training
    from training.strategy import strategy

    return run_training(
        job,
        folder,
        data_dir=own.data_dir,
        strategy=strategy(own.strategy, coordinator=own.coordinator, hosts=own.hosts, host=own.host),
        resume=own.resume,
        eval_every=own.eval_every,
        checkpoint_every=own.checkpoint_every,
        unreadable=own.unreadable,
        tensorboard=own.tensorboard,
        command=said,
    )


def show(result: dict[str, Any], folder: str) -> None:
    """Print what came out."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['job']['model']} on {result['job']['dataset']}", title_justify="left")
    for column in ("weights", "split", "pictures", "top-1, %", "95 % interval", "loss"):
        table.add_column(column, justify="left" if column in ("weights", "split") else "right")
    rows = [(name, "minival", found) for name, found in result["minival"].items()]
    for name, split, found in [*rows, (result["chosen"], result["test"]["split"], result["test"])]:
        low, high = found["top1_interval"]
        cells = (f"{found['count']:,}", f"{found['top1']:.2f}", f"{low:.2f} to {high:.2f}", f"{found['loss']:.3f}")
        table.add_row(name, split, *cells)
    Console().print(table)
    print(f"{result['seconds']:.0f} s; {folder}/model, {folder}/result.json, {folder}/curves.png")


def _module(own: flags.FlagValues) -> str:
    return "training.finetune" if "probe" in own else "training.train"


def _flags(own: flags.FlagValues) -> str:
    lines = []
    for name in sorted(own):
        flag = own[name]
        shown = f"--[no]{name}" if flag.boolean else f"--{name}"
        default = "" if flag.default in (None, [], False) else f" (default {flag.default_as_str})"
        lines.append(f"  {shown}: {flag.help}{default}")
    return "\n".join(lines)
