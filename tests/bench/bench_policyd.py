"""Policy requests and map lookups of sluice-policyd over GETs of Redis.

tests/bench/load asks for managed mailboxes (home old, on the old side: one
HMGET and the history check each) over 50 connections on the service's unix
socket; redis-benchmark does GET, 50 connections, no pipelining, on the unix
socket of the same Redis. Load, policyd and Redis share the machine.

The 99th percentile is the median of the rounds'; the best round's, and
redis-benchmark's own, go to stderr: whatever else runs meanwhile adds to all.
"""

import json
import os
import statistics

from lab import DOMAIN, Lab
from measure import AT_LEAST, AT_MOST, Figure, ratios, say
from parts.process import CommandFailed, run

NAMES = ["policy_ratio", "policy_p99_ms", "map_ratio", "map_p99_ms"]
CONNECTIONS = 50
SECONDS = 1
GETS = 60000
SHARE = 3              # short rounds, so many of them
MAILBOXES = 1000
RATIO, P99_MS = 0.7, 2.0


def measure(bindir, rounds, wanted):
    figures = []
    with Lab(bindir=bindir) as lab:
        start(lab)
        for mode in ("policy", "map"):
            if any(name.startswith(mode) for name in wanted):
                figures += measure_service(lab, bindir, mode, rounds)
    return [figure for figure in figures if figure.name in wanted]


def start(lab):
    """Redis, and the old side with 1,000 mailboxes."""
    lab.wire_sluice()
    lab.redis.start()
    lab.old.sluice.write_config()
    lab.old.sluice.policyd.start()
    lab.old.postfix.start()
    lab.old.sluice.cli("init", check=True)
    lab.import_mailboxes([f"u{number}@{DOMAIN}"
                          for number in range(MAILBOXES)])


def measure_service(lab, bindir, mode, rounds):
    served, p99, gets, gets_p99 = [], [], [], []

    def service():
        result = load(bindir, mode, os.path.join(lab.old.sluice.sockets,
                                                 f"{mode}.sock"))
        served.append(result["per_second"])
        p99.append(result["p99_ms"])
        return result["per_second"]

    def peer():
        rate, milliseconds = redis_gets(lab.redis.socket)
        gets.append(rate)
        gets_p99.append(milliseconds)
        return rate

    ratio = ratios(rounds * SHARE, service, peer)
    middle = statistics.median
    say(f"{mode}: {middle(served):.0f} requests/s, "
        f"p99 {middle(p99):.2f} ms, at best {min(p99):.2f}; "
        f"redis-benchmark GET {middle(gets):.0f}/s, "
        f"p99 {middle(gets_p99):.2f} ms, at best {min(gets_p99):.2f}")
    return [Figure(f"{mode}_ratio", ratio, RATIO, AT_LEAST),
            Figure(f"{mode}_p99_ms", middle(p99), P99_MS, AT_MOST)]


def load(bindir, mode, socket):
    _, out, _ = run([os.path.join(bindir, "tests", "bench", "load"), mode,
                     socket, "-c", CONNECTIONS, "-s", SECONDS,
                     "-d", DOMAIN, "-n", MAILBOXES])
    result = json.loads(out)
    if result["bad"]:
        raise CommandFailed(f"{mode}: {result['bad']} wrong answers")
    return result


def redis_gets(socket):
    """GETs per second by redis-benchmark, and their p99 in ms."""
    _, out, _ = run(["redis-benchmark", "-t", "get", "-c", CONNECTIONS, "-P",
                     1, "-n", GETS, "-s", socket, "--csv"])
    head, values = ([word.strip('"') for word in line.split(",")]
                    for line in out.splitlines())
    row = dict(zip(head, values))
    return float(row["rps"]), float(row["p99_latency_ms"])
