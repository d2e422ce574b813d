"""Speed of sluice, as ratios to a peer in the same run on the same machine.

    policy, map     requests/s of sluice-policyd at 50 connections, one request
                    in flight on each, over redis-benchmark's GET/s with as
                    many on the same Redis; and the 99th percentile
    milter          messages/s of Postfix with sluice-milter, over the same
                    Postfix with a libmilter filter that does nothing
    auth            messages/s of sluice-milter verifying SPF, DKIM and DMARC, over
                    opendkim and opendmarc in turn and over rspamd, straight and
                    through Postfix; time added by slow DNS; memory
    million         1,000,000 mailboxes: import and lock (without its fence)
                    over redis-cli --pipe loading the same records; memory of
                    Redis; sluice status
    monitor, audit  speed over a 1 GB Postfix log over grep -c's, and pflogsumm's;
                    memory
    cutover         1,000 mailboxes with a sync that does nothing: seconds
                    above its fences
    http            CPU time that a request for the status page costs policyd's loop
                    with 1,000,000 mailboxes, over 1 ms

Rounds of sluice and of its peer take turns, and the median ratio counts; so
nothing here depends on how fast the machine is, but a machine that is busy
with something else still blurs it. Absolute figures go to stderr.

Prints one table: name, value, target, met. Exit: 0 all targets are met, 1 one
is missed, 2 something could not be measured.
"""

import argparse
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(SOURCE, "contrib", "lab")]

import bench_auth  # noqa: E402
import bench_cutover  # noqa: E402
import bench_http  # noqa: E402
import bench_logs  # noqa: E402
import bench_milter  # noqa: E402
import bench_million  # noqa: E402
import bench_policyd  # noqa: E402
from measure import say  # noqa: E402
from parts.process import CommandFailed, Timeout  # noqa: E402

# Each has NAMES, the names of its figures, and measure(bindir, rounds, wanted)
# that returns those that are wanted.
BENCHES = (bench_policyd, bench_milter, bench_auth, bench_million,
           bench_cutover, bench_http,
           bench_logs)


def main():
    options = parse_options()
    bindir = os.environ["SLUICE_BINDIR"]
    figures, failed = [], False
    for bench in BENCHES:
        wanted = [name for name in bench.NAMES if options.k.search(name)]
        if not wanted:
            continue
        try:
            figures += bench.measure(bindir, options.rounds, wanted)
        except (CommandFailed, Timeout, OSError, RuntimeError) as error:
            say(f"not measured: {', '.join(wanted)}: {error}")
            failed = True
    show(figures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([as_json(figure) for figure in figures], file, indent=2)
            file.write("\n")
    if failed or not figures:
        return 2
    return 0 if all(figure.met for figure in figures) else 1


def parse_options():
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="PATTERN", default="", type=re.compile,
                        help="only figures whose name matches (a regex)")
    parser.add_argument("--json", metavar="FILE",
                        help="write the table there, as a list of objects")
    parser.add_argument("--rounds", type=int, default=5, metavar="N",
                        help="how often each is measured, default 5")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be positive")
    return options


def as_json(figure):
    return {"name": figure.name, "value": round(figure.value, 3),
            "target": figure.target, "met": figure.met}


def show(figures):
    rows = [("name", "value", "target", "met")]
    rows += [(figure.name, f"{figure.value:.3g}"
              if figure.value < 100 else f"{figure.value:.0f}",
              f"{figure.sense} {figure.target:g}",
              "yes" if figure.met else "NO") for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print(f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  "
              f"{row[2]:{widths[2]}}  {row[3]}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
