"""The `zoo` command. Each sub-command names the function that runs it, imported only then."""

from __future__ import annotations

import importlib
import shlex
import sys

from absl.flags import argparse_flags

from scaling_rules.errors import ZooError
from zoo import search_parser

EPILOG = "Results go to standard output, progress and warnings to standard error. Exit code 2: bad input."

COMMANDS = {
    "list": ("zoo.commands:list_", "names with parameters, MACs and weights"),
    "info": ("zoo.commands:info", "all that is known of one model"),
    "cost": ("zoo.commands:cost", "MACs, parameters and activations by stage or block"),
    "cite": ("zoo.commands:cite", "BibTeX and the published results with their tables"),
    "predict": ("zoo.predict:predict", "classify pictures"),
    "download": ("zoo.transfer:download", "fetch weights, for a machine without internet"),
    "benchmark": ("zoo.benchmark.command:benchmark", "time networks, engines and other libraries in turns"),
    "export": ("zoo.export_command:export", "write a model for another engine"),
    "scale": ("training.scale_command:scale", "enlarge a network to a budget of MACs by a rule"),
    "search": ("", "find a network by training supernets"),  # each of zoo.search_parser's has a function
    "publish": ("zoo.transfer:publish", "put a saved network on a hub or into a folder"),
}


class _Parser(argparse_flags.ArgumentParser):
    """argparse's parser whose errors are one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="zoo", description="A Keras 3 model zoo whose networks come out of scaling rules.", epilog=EPILOG
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    parts = {name: commands.add_parser(name, help=text, description=text) for name, (_, text) in COMMANDS.items()}

    for name in ("list", "info", "cost", "cite", "predict", "benchmark"):
        parts[name].add_argument("--json", action="store_true", help="print JSON instead of a table")
    for name in ("info", "cost", "cite"):
        parts[name].add_argument("model", metavar="NAME", help="a model name, or NAME.TAG")
    parts["list"].add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="'ghostnet*', or a part of a name"
    )
    parts["list"].add_argument("--family", help="models of one family")
    parts["list"].add_argument(
        "--max_macs", "--max-macs", metavar="N", help="at most N multiply-adds: 600M, 4.4G or a number"
    )
    parts["list"].add_argument(
        "--max_latency_ms",
        "--max-latency-ms",
        type=float,
        metavar="MS",
        help="at most MS a call, of what `zoo benchmark --save` measured on this machine",
    )
    parts["list"].add_argument("--engine", help="that of --max_latency_ms; default: the fastest")
    parts["list"].add_argument("--batch", type=int, default=1, metavar="N", help="pictures a call (default: 1)")
    parts["list"].add_argument("--pretrained", action="store_true", help="every tag of weights that can be loaded")
    parts["cost"].add_argument("--blocks", action="store_true", help="by block instead of by stage")
    parts["cost"].add_argument("--dialect", help="in another release's dialect; see zoo info")
    fetch = parts["download"]
    fetch.add_argument(
        "names", nargs="+", metavar="NAME", help="NAME, NAME.TAG, 'ghostnet*' in quotes, or hf://owner/repo"
    )
    fetch.add_argument("--to", metavar="DIR", help="into this folder, to copy and set ZOO_CACHE to; default: the cache")
    publish = parts["publish"]
    publish.add_argument("folder", metavar="MODEL_DIR", help="what zoo.save(model, MODEL_DIR, record) wrote")
    publish.add_argument("--to", required=True, metavar="PLACE", help="hf://owner/repo[@branch], or a new folder")
    publish.add_argument(
        "--license", metavar="ID", help="licence of the weights, such as apache-2.0, over the record's"
    )
    publish.add_argument("--recipe", metavar="FILE", help="how they were trained, over the record's")
    publish.add_argument("--tag", metavar="TAG", help="name this version, too: hf://owner/repo@TAG")
    publish.add_argument("--private", action="store_true", help="if the repository is new, let only you see it")
    export = parts["export"]
    export.add_argument("model", metavar="NAME", help="name, NAME.TAG, file, folder or hf://owner/repo")
    export.add_argument("--to", required=True, metavar="PATH", help="x.onnx, x.xml, x.tflite, x.keras or a new folder")
    export.add_argument("--format", help="onnx, openvino, litert, keras or saved_model; default: by the ending of PATH")
    export.add_argument("--precision", default="float32", help="of the stored weights (default: %(default)s)")
    export.add_argument("--calibration", metavar="DIR", help="pictures to measure the ranges of int8 on")
    export.add_argument("--batch", type=int, metavar="N", help="pictures a call; default: any number")
    export.add_argument("--size", type=int, metavar="PX", help="side of the pictures; default: what the weights want")
    export.add_argument("--bare", action="store_true", help="without the normalisation of pixels")
    timed = parts["benchmark"]
    timed.add_argument("names", nargs="+", metavar="NAME", help="model names; several are raced together")
    timed.add_argument(
        "--against",
        default="",
        metavar="PEERS",
        help="keras.applications,keras_hub,timm,torchvision, and hand: engine files made with OpenVINO's own converter",
    )
    timed.add_argument(
        "--engines", metavar="LIST", help="openvino,onnxruntime,litert,keras or auto; default: all that are installed"
    )
    timed.add_argument("--batch", default="1,16", metavar="N,...", help="pictures a call (default: %(default)s)")
    timed.add_argument("--size", metavar="PX,...", help="side of the pictures; default: each network's own")
    timed.add_argument("--threads", type=int, metavar="N", help="processors for each; default: all")
    timed.add_argument(
        "--precision", metavar="LIST", help="float32,bfloat16; default: float32 and what the processor has"
    )
    timed.add_argument("--rounds", type=int, default=9, metavar="N", help="(default: %(default)s)")
    timed.add_argument(
        "--seconds",
        type=float,
        default=0.3,
        metavar="S",
        help="a contestant and round, at least (default: %(default)s)",
    )
    timed.add_argument("--train", action="store_true", help="steps of training instead of answers")
    timed.add_argument("--plot", metavar="FILE", help="claimed accuracy against time, as .png, .svg or .pdf")
    timed.add_argument("--save", action="store_true", help="keep what zoo took for `zoo list --max_latency_ms`")
    _scale(parts["scale"])
    search_parser.define(parts["search"])
    predict = parts["predict"]
    predict.add_argument("images", nargs="+", metavar="PICTURE", help="files, folders, or globs in quotes")
    predict.add_argument(
        "--model",
        default="efficientnet-lite0",
        metavar="NAME",
        help="name, NAME.TAG, file, folder, hf://owner/repo or a saved .keras (default: %(default)s)",
    )
    predict.add_argument("--top", type=int, default=5, metavar="N", help="classes a picture (default: %(default)s)")
    predict.add_argument(
        "--batch", type=int, default=16, metavar="N", help="pictures per forward pass (default: %(default)s)"
    )
    predict.add_argument(
        "--engine", help="openvino, onnxruntime, litert, or auto for the fastest installed; default: Keras itself"
    )
    predict.add_argument("--precision", help="an engine's: float32, or bfloat16 where the processor has it")
    predict.add_argument("--threads", type=int, metavar="N", help="an engine's; default: its own choice")
    return parser


def _scale(parser: argparse_flags.ArgumentParser) -> None:
    parser.add_argument(
        "rule",
        choices=("compound", "greedy", "compare"),
        help="compound: depth, width and resolution together; greedy: stage by stage, where it scores best; "
        "compare: compound and each dimension alone, at one cost",
    )
    parser.add_argument("model", metavar="NAME", help="the baseline: a model name, or the file of a found one")
    parser.add_argument("others", nargs="*", metavar="OTHER", help="for compare: further networks to set beside")
    parser.add_argument("--budget", required=True, metavar="N", help="multiply-adds at most: 600M, 4.4G or a number")
    parser.add_argument("--resolution", type=int, metavar="PX", help="the baseline's input, instead of its own")
    parser.add_argument("--name", help="of what is found; default: NAME-RULE-BUDGET")
    parser.add_argument(
        "--to", metavar="DIR", help="folder for it; default: $ZOO_HOME/found, where names are looked for"
    )
    parser.add_argument("--plot", metavar="FILE", help="for compare: shares of MACs by stage, as .svg, .png or .pdf")
    how = parser.add_argument_group("greedy")
    how.add_argument("--steps", type=int, default=8, help="of the budget (default: %(default)s)")
    how.add_argument("--beam", type=int, default=1, help="networks kept a step (default: %(default)s)")
    how.add_argument("--moves", default="deeper,wider,resolution,uniform", help="(default: %(default)s)")
    for name, text in (("blocks", "blocks"), ("channels", "channels of any convolution")):
        how.add_argument(
            f"--max_{name}", f"--max-{name}", metavar="N,...", help=f"most {text}, by stage or one for all"
        )
    how.add_argument("--max_resolution", "--max-resolution", type=int, metavar="PX")
    grid = parser.add_argument_group("compound by a grid search, instead of the paper's bases")
    grid.add_argument("--grid", type=float, metavar="STEP", help="search alpha, beta, gamma in such steps")
    grid.add_argument("--tolerance", type=float, default=0.1, help="around twice the cost (default: %(default)s)")
    scores = parser.add_argument_group("scores")
    scores.add_argument("--scorer", default="proxy", help="proxy, table:FILE or module:function (default: %(default)s)")
    scores.add_argument("--dataset", help="the proxy's: openmoji, a data set of TFDS, or a folder of pictures")
    scores.add_argument("--data_dir", "--data-dir", help="where TFDS keeps its data sets")
    scores.add_argument("--recipe", default="small", help="the proxy's (default: %(default)s)")
    scores.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="over the recipe's: epochs=4")
    scores.add_argument("--few", type=int, metavar="N", help="train on so many pictures of each class")
    scores.add_argument("--shrink", type=float, default=1.0, help="train at this part of the resolution")
    scores.add_argument("--metric", default="top1", help="top1, or loss (default: %(default)s)")
    scores.add_argument("--start", default="", metavar="WEIGHTS", help="grow every network from these of a smaller one")
    scores.add_argument(
        "--seeds", default="0,1", metavar="N,...", help="the better half gets the next (default: %(default)s)"
    )
    scores.add_argument("--scores", metavar="FILE", help="where they are kept; default: beside what is found")
    scores.add_argument("--engine", default="serial", help="serial, processes or ray (default: %(default)s)")
    scores.add_argument("--workers", type=int, metavar="N", help="scores at a time; default: one a processor")
    scores.add_argument("--address", default="local", help="of the Ray cluster: auto, local, HOST:PORT")
    scores.add_argument("--timeout", type=float, metavar="S", help="give a score up after so many seconds")


def run(argv: list[str] | None = None) -> int:
    """Entry point of the console script: runs a command and returns its exit code."""
    parser = _parser()
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    args.said = shlex.join(["zoo", *argv])  # what a file that the command writes cites
    if args.version:
        import zoo

        print(f"zoo {zoo.__version__}")
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    runs = search_parser.SEARCHES[args.search] if args.command == "search" else COMMANDS[args.command]
    module, function = runs[0].split(":")
    try:
        return getattr(importlib.import_module(module), function)(args)
    except ZooError as error:
        print(f"zoo {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"zoo {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has left
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(run())
