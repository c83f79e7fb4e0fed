"""Everything that Bakhshi (2024, arXiv:2409.15365) shows, with the numbers it leaves out.

Regenerates the paper's figures on the real MNIST and Fashion-MNIST with the paper's own rule
(`skff.recipes.BAKHSHI_2024`), and measures what it claims: accuracy beside backprop networks over
several seeds, and how well each one's map orders the pixels. Writes figures (PNG), tables (CSV),
all numbers (``results.json``) and one self-contained report (``report.html``)::

    python examples/reproduce_paper.py --quick
    python examples/reproduce_paper.py --data both

What is finished is kept in the output folder: a run that was interrupted goes on from there.
"""

import argparse
import sys
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).parent / "reproduction"),
    str(Path(__file__).parent / "benchmarks"),
]

from _common import DATA, print_machine
from _plan import FULL, QUICK, Plan
from _report import write_report
from _store import Store, run_all


def main():
    """Run what is missing, then write the report."""
    args = parse_arguments()
    datasets = DATA[:2] if args.data == "both" else [args.data]
    plan = Plan(**(QUICK if args.quick else FULL))
    plan.hours = args.hours or plan.hours
    plan.seeds = args.seeds or plan.seeds
    out = args.out / ("quick" if args.quick else "full")
    print_machine()
    store = Store(out, plan)
    run_all(store, plan, datasets)
    report = write_report(store, plan, datasets)
    print(f"The report is in {report}")


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=[*DATA, "both"], default="both")
    parser.add_argument("--quick", action="store_true", help="fewer images, epochs and seeds")
    parser.add_argument("--out", type=Path, default=Path("reproduction"), help="output folder")
    parser.add_argument("--seeds", type=int, help="runs per network")
    parser.add_argument("--hours", type=float, help="leave out what of the curve would end later")
    return parser.parse_args()


if __name__ == "__main__":
    main()
