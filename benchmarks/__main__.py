"""The command: `python -m benchmarks`, which `make bench` runs."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import report, sections
from benchmarks.bench import Bench, sizes_of
from benchmarks.sections import SECTIONS
from diffmamba.allocator import keep_freed_memory
from diffmamba.ops import cuda
from diffmamba.reports import show

RESULTS = Path(__file__).parent / "results"
PARTIAL = "partial"  # the folder of what is not a whole run
CONFIGURATIONS = 4
"""How many of about eight configurations Triton's autotuner tries for each kernel. All of them would take minutes."""
WIDTH = 140  # columns of what is printed into a file


def main(arguments: list[str] | None = None) -> int:
    """Measures section by section, prints tables and writes them. Returns 1 if a section failed or was not started."""
    parser = _parser()
    options = parser.parse_args(arguments)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda finds no CUDA device here; use --device cpu")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # as in training; both sides of every ratio profit
    _try_few_configurations()
    bench, facts = Bench(device, sizes_of("quick" if options.quick else device.type)), report.facts(device)
    if options.quick:
        facts["sizes"] = "tiny, so the numbers mean nothing"
    name, found = report.stem(device), []
    for section in (section for section in SECTIONS if section in (options.only or SECTIONS)):
        found.append(sections.run(section, bench, options.limit))
        report.write(report.document(found, facts, name), options.out / PARTIAL, name)
    made = report.document(found, facts, name)
    show(made, Console(width=None if sys.stdout.isatty() else WIDTH))
    all_measured = all(section.records or section.left_out for section in found)
    whole = all_measured and not options.quick and options.only is None
    print(*report.write(made, options.out if whole else options.out / PARTIAL, name, with_pictures=True), sep="\n")
    if device.type == "cuda":
        print(f"operators: {cuda.describe()}", file=sys.stderr)
    return int(not all_measured)


def _try_few_configurations() -> None:
    with suppress(ImportError):
        from triton.runtime.autotuner import Autotuner

        Autotuner.prune_configs = lambda self, arguments: self.configs[:: max(1, len(self.configs) // CONFIGURATIONS)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures this package against its peers, its variants against each other, and both against "
        "floors. A full run takes about seven minutes on two CPU cores and five on a GPU. What is measured is "
        f"written after each section, into DIR/{PARTIAL}, and a whole run at its end into DIR.",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one, else cpu")
    parser.add_argument("--only", type=_names, metavar="A,B,...", help=f"some sections of: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; numbers mean nothing")
    out = f"where results go, as DEVICE.md and .json; a run that is quick or not whole writes into DIR/{PARTIAL}"
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help=out)
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads; default: as many as PyTorch takes")
    parser.add_argument("--limit", type=_positive, metavar="SECONDS", help="after these, start no further section")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no section; use some of {', '.join(SECTIONS)}")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; the sections that were done are written", file=sys.stderr)
        sys.exit(130)
