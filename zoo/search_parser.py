"""The arguments of `zoo search`, a part of `zoo.cli`."""

from __future__ import annotations

from absl.flags import argparse_flags

SEARCHES = {
    "pooling": ("training.pooling_command:pooling", "where a ResNet downsamples, by a balanced mixture of supernets"),
}
"""What is searched for: the function that does it, imported only then, and a line of help."""


def define(parser: argparse_flags.ArgumentParser) -> None:
    """Give each search its own arguments."""
    searches = parser.add_subparsers(dest="search", metavar="WHAT", required=True, parser_class=type(parser))
    parts = {name: searches.add_parser(name, help=text, description=text) for name, (_, text) in SEARCHES.items()}
    for part in parts.values():
        _data(part)
    _pooling(parts["pooling"])


def _data(parser: argparse_flags.ArgumentParser) -> None:
    """What all searches share."""
    parser.add_argument("model", metavar="NAME", help="a model name, or the file of a found one")
    parser.add_argument("--dataset", required=True, help="openmoji, a data set of TFDS, or a folder of pictures")
    parser.add_argument("--data_dir", "--data-dir", help="where TFDS keeps its data sets")
    parser.add_argument("--few", type=int, metavar="N", help="train on so many pictures of each class")
    parser.add_argument("--recipe", default="small", help="of the supernets (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="over the recipe's: epochs=40")
    parser.add_argument("--resolution", type=int, metavar="PX", help="of the network, instead of its own")
    parser.add_argument("--budget", metavar="N", help="multiply-adds at most: 600M, 4.4G or a number")
    parser.add_argument("--seed", type=int, default=0, help="of weights, draws, order and augmentation")
    parser.add_argument("--threads", type=int, metavar="N", help="of an operation of TensorFlow")
    parser.add_argument("--name", help="of what is found; default: NAME, the search and the budget")
    parser.add_argument(
        "--to", metavar="DIR", help="folder for it; default: $ZOO_HOME/found, where names are looked for"
    )


def _pooling(parser: argparse_flags.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=4, metavar="M", help="supernets; 1 is single-path one-shot")
    parser.add_argument("--downsamplings", type=int, metavar="N", help="default: the network's own number")
    parser.add_argument("--stem", help="cifar or imagenet; default: the network's own")
    parser.add_argument(
        "--method",
        default="balanced",
        help="balanced, unbalanced (no equal shares of the models), or uniform (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature", type=float, default=100.0, help="of the draw at the end (default: %(default)g)"
    )
    parser.add_argument("--score_decay", "--score-decay", type=float, default=0.9, help="(default: %(default)g)")
    parser.add_argument(
        "--rule", default="best", help="score all pairs at the end (best), or each in its likely model (likely)"
    )
    parser.add_argument(
        "--candidates", type=int, default=0, metavar="N", help="score only the N best so far; default: all"
    )
