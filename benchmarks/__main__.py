"""The command: `python -m benchmarks`, which `make bench` runs."""

import argparse
import sys
from pathlib import Path

import torch

from benchmarks import machine, plot, report
from benchmarks.bench import Bench
from benchmarks.child import ROOT
from benchmarks.record import Section
from benchmarks.sections import SECTIONS
from benchmarks.sizes import CPU, CUDA, QUICK
from diffmamba.allocator import keep_freed_memory


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints tables, and writes them with a plot."""
    parser = _parser()
    options = parser.parse_args(arguments)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda finds no CUDA device here; --device cpu would do")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # as in training; both sides of every ratio profit
    names = options.only or list(SECTIONS)
    sizes = QUICK if options.quick else CUDA if device.type == "cuda" else CPU
    bench, load = Bench(device, sizes), machine.load()
    sections = [SECTIONS[name](bench) for name in SECTIONS if name in names]
    whole = not options.quick and options.only is None
    facts = machine.describe(device, load)
    if options.quick:
        facts["sizes"] = "tiny, so the numbers mean nothing"
    _publish(sections, facts, machine.slug(device), options.out if whole else options.out / "partial")


def _publish(sections: list[Section], facts: dict[str, str], name: str, directory: Path) -> None:
    print(report.terminal(sections, facts))
    picture = plot.draw(sections, facts["device"])
    contents = {
        f"{name}.md": report.markdown(sections, facts, f"{name}.png" if picture else None).encode(),
        f"{name}.json": report.as_json(sections, facts).encode(),
    }
    if picture:
        contents[f"{name}.png"] = picture
    for path in report.write(directory, contents):
        print(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures this package against its peers, its variants against each other, and both against "
        "floors. A full run takes about eight minutes on two CPU cores. Results are written at the end.",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one, else cpu")
    parser.add_argument("--only", type=_names, metavar="A,B,...", help=f"some sections of: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; numbers mean nothing")
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        metavar="DIR",
        help="where results go, as DEVICE.md, .json and .png; a run that is quick or not whole writes into DIR/partial",
    )
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads; default: as many as PyTorch takes")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no section; these are: {', '.join(SECTIONS)}")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads; 1 or more would do")
    return int(text)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; earlier results are as they were", file=sys.stderr)
        sys.exit(130)
