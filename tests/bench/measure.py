"""What every measurement stands on: figures, rounds, progress.

Contract
  Figure            one line of the table; `met` compares value and target
  ratios(rounds, measure, peer)   calls both in turn, in changing order, and
      returns the median of the rounds' ratios measure/peer: what disturbs the
      machine for a while disturbs both
  say(text)         a line on stderr
  timed(argv)       seconds that a command took; CommandFailed when it failed
"""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from parts.process import CommandFailed, Ports, run

HERE = os.path.dirname(os.path.abspath(__file__))
PORTS = Ports()  # besides those of a lab
AT_LEAST, AT_MOST = "at least", "at most"


@dataclass
class Figure:
    name: str
    value: float
    target: float
    sense: str  # AT_LEAST or AT_MOST

    @property
    def met(self):
        if self.sense == AT_LEAST:
            return self.value >= self.target
        return self.value <= self.target


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def ratios(rounds, measure, peer):
    found = []
    for number in range(rounds):
        if number % 2:
            other, own = peer(), measure()
        else:
            own, other = measure(), peer()
        found.append(own / other)
    return statistics.median(found)


def timed(argv, stdin=None, timeout=600):
    """Seconds of one command's whole life; `stdin` is a path."""
    began = time.monotonic()
    if stdin is None:
        run(argv, timeout=timeout)
    else:
        with open(stdin, "rb") as data:
            done = subprocess.run(argv, stdin=data, capture_output=True,
                                  check=False, timeout=timeout)
        if done.returncode != 0:
            raise CommandFailed(f"{argv}: exit code {done.returncode}\n"
                                f"{done.stdout.decode()}"
                                f"{done.stderr.decode()}")
    return time.monotonic() - began
