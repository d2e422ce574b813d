"""The status page with 1,000,000 mailboxes: what a request costs policyd's loop.

policyd has one thread for Postfix' questions and the page. The CPU time of that
thread alone is read (/proc, in nanoseconds) before and after REQUESTS requests over a
kept connection, for the document and for the metrics; the dearer of the two counts,
in milliseconds a request, over the limit of 1 ms. The store has a domain of a million
mailboxes, all of them locked, and OTHERS domains more, so that the document holds as
many as it ever does. How long a client waits goes to stderr, as does the time that
the figures took to make, which is another thread's.
"""

import http.client
import os
import statistics
import time

from bench_million import MAILBOXES, domain_of, write_csv
from lab import Lab
from measure import AT_MOST, PORTS, Figure, say, timed
from parts.process import wait_until

NAMES = ["http_ms_ratio"]
REQUESTS = 1000
LIMIT_MS = 1.0
OTHERS = 300
PATHS = ("/", "/status.json", "/metrics")


def measure(bindir, rounds, wanted):
    with Lab(bindir=bindir) as lab:
        port = PORTS.take()
        start(lab, port)
        worst = max(statistics.median(cost(lab, port, path)
                                      for _ in range(rounds)) for path in PATHS)
    return [figure for figure in (Figure("http_ms_ratio", worst / LIMIT_MS, 1.0,
                                         AT_MOST),) if figure.name in wanted]


def start(lab, port):
    """Redis with the mailboxes, and policyd with its page."""
    sluice = lab.old.sluice
    section = '  new = "[127.0.0.1]:25"\n'
    sluice.domains[domain_of(0)] = section
    for number in range(OTHERS):
        sluice.domains[f"other{number}.example"] = section
    sluice.policyd_extra = f'  http = "127.0.0.1:{port}"'
    lab.redis.start()
    lab.wire_sluice()
    lab.old.postfix.start()
    sluice.write_config()
    sluice.policyd.start()
    sluice.cli("init", check=True)
    wait_until(lambda: lab.redis.command("HLEN", "sluice:hosts") == 1, 30,
               "the MTA host is registered in Redis")
    csv = os.path.join(lab.directory, "million.csv")
    write_csv(csv, domain_of(0))
    timed(sluice.argv("import", csv))
    timed(sluice.argv("lock", "--without-host", sluice.hostname, domain_of(0)))
    sample = (f'sluice_mailboxes{{domain="{domain_of(0)}",home="locked"}} '
              f"{MAILBOXES}\n").encode()
    wait_until(lambda: sample in ask(port, "/metrics"), 60,
               "the metrics show a million locked mailboxes")


def ask(port, path):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request("GET", path)
        return client.getresponse().read()
    finally:
        client.close()


def loop_ns(pid):
    with open(f"/proc/{pid}/task/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


def cost(lab, port, path):
    """Milliseconds of the loop's thread for one request."""
    pid = lab.old.sluice.policyd.pid
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    waited, size, before = [], 0, loop_ns(pid)
    for number in range(REQUESTS):
        if number % 500 == 0:
            client.close()  # a connection has its number of requests
        began = time.monotonic()
        client.request("GET", path)
        answer = client.getresponse()
        size = len(answer.read())
        waited.append((time.monotonic() - began) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
    used = (loop_ns(pid) - before) / 1e6 / REQUESTS
    client.close()
    say(f"http {path}: {size} bytes, {used:.4f} ms of the loop; a client waits "
        f"{statistics.median(waited):.2f} ms, at worst {max(waited):.1f} ms")
    return used
