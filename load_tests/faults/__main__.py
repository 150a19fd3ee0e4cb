"""Break a streamrec on this machine on purpose, and say whether anything was lost: python load_tests/faults

Example:

    python load_tests/faults --faults 50 --seconds 120 --seed 7 --json result.json

Starts Kafka, Redis and Triton of its own, and workers; the same seed gives the same schedule. Ends with 0
where nothing differs from what must hold, with 1 where something does, and then tells the smallest story of
the first shopper that differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Not the checkout's root: its folder `triton` on the path would shadow the package of that name.
sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.kinds import APART, KINDS, NOT_BUILT, terms
from faults.referee import LOSSES
from faults.report import in_words, summary
from faults.run import break_and_judge
from faults.schedule import Planned, plan
from stream.cli.progress import progress_bar
from stream.errors import StreamrecError
from stream.local.stack import Stack


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the command line says; return the exit code."""
    given = _parser().parse_args(arguments)
    for name in ("aiokafka", "asyncio"):  # brokers and topics that go away are what this is about
        logging.getLogger(name).setLevel(logging.CRITICAL)
    kinds = terms()
    if given.kinds:
        if unknown := set(given.kinds) - set(kinds):
            print(
                f"--kinds: no fault is called {', '.join(sorted(unknown))}; --help lists them",
                file=sys.stderr,
            )
            return 2
        for apart in APART.keys() & set(given.kinds):
            if losses := sorted(set(LOSSES) & set(given.kinds)):
                print(
                    f"--kinds: {apart} cannot be mixed with {', '.join(losses)}: "
                    f"once Redis forgot, {APART[apart]}; leave one of them out",
                    file=sys.stderr,
                )
                return 2
    kinds = {name: kinds[name] for name in given.kinds or kinds.keys() - APART.keys()}
    planned = plan(given.seed, given.faults, given.seconds, kinds)
    if given.plan:
        for one in planned:
            print(f"{one.at_s:8.1f} s  {one.kind:24s} for {one.hold_s:4.1f} s")
        return 0
    folder = given.folder or Path(tempfile.mkdtemp(prefix="streamrec-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        differences = _run(given, planned, folder.absolute())
    except (StreamrecError, TimeoutError) as error:
        print(f"{error}\nlogs: {folder}", file=sys.stderr)
        return 2
    if differences:
        print(f"logs: {folder}", file=sys.stderr)
    elif not given.folder:
        shutil.rmtree(folder)
    return 1 if differences else 0


def _run(given: argparse.Namespace, planned: Sequence[Planned], folder: Path) -> int:
    with Stack(folder / "stack") as stack, progress_bar("faults", len(planned)) as told:
        told(0, "starting servers")
        stack.up(owned=True)
        outcome = asyncio.run(
            break_and_judge(
                stack,
                folder,
                planned,
                seed=given.seed,
                workers=given.workers,
                events_a_second=given.events_a_second,
                alone=given.alone,
                give_up_s=given.give_up_after,
                command=shlex.split(given.worker) if given.worker else None,
                told=told,
            )
        )
    summed = summary(outcome, given.seed)
    print("\n".join(in_words(summed)))
    if given.json:
        given.json.write_text(json.dumps(summed, indent=1) + "\n")
    return int(summed["differences"])


def _parser() -> argparse.ArgumentParser:
    told = "\n".join(f"  {name:24s} {(kind.__doc__ or '').splitlines()[0]}" for name, kind in KINDS.items())
    told += f"\n\nonly where named by --kinds: {', '.join(APART)}"
    missing = "\n".join(f"  {one}" for one in NOT_BUILT)
    parser = argparse.ArgumentParser(
        prog="python load_tests/faults",
        description=__doc__,
        epilog=f"faults:\n{told}\n\nnot built:\n{missing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--faults", type=int, default=50, help="how many (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=120, help="the time over which they begin (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="chooses the schedule and the events")
    parser.add_argument("--kinds", type=lambda text: text.split(","), help="only these, joined by commas")
    parser.add_argument("--alone", action="store_true", help="one fault at a time, each recovered from")
    parser.add_argument("--workers", type=int, default=2, help="how many (default %(default)s)")
    parser.add_argument("--events-a-second", type=float, default=12.0, help="default %(default)s")
    parser.add_argument(
        "--give-up-after", type=float, help="seconds after which no further fault begins (default: never)"
    )
    parser.add_argument(
        "--worker",
        metavar="COMMAND",
        help="start this in the place of `streamrec worker`: a build to be judged",
    )
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--folder", type=Path, help="keep servers' data and logs here (default: thrown away)")
    parser.add_argument("--plan", action="store_true", help="print the schedule and break nothing")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
