"""Postfix with sluice-milter, over the same Postfix with an idle filter.

One Postfix instance listens on a port for each filter, so that nothing is
reloaded between two rounds: sluice-milter (every recipient managed, home old,
so the verdict is deliver), null_milter (no replies before the end of message),
null_milter --decline (no events before it either) and no filter at all.
smtp-source sends with 10 connections at a time, one message each, every one
to another mailbox. Delivery is discard(8), and a round begins when the queue
is empty, so that it is the SMTP side that is measured. Lookup tables and the
policy service are not wired: beside them the filter would weigh less.
"""

import os
import statistics
import time

from lab import DOMAIN, Lab
from measure import AT_LEAST, PORTS, Figure, ratios, say
from parts.process import Child, accepts, run, wait_until

NAMES = ["milter_ratio"]
SESSIONS = 10
MESSAGES = 600
SHARE = 4              # short rounds, so many of them
SIZE = 4096
RATIO = 0.9

SMTPD = """\
127.0.0.1:{port} inet n - y - - smtpd
  -o smtpd_milters={milter}
"""


def measure(bindir, rounds, wanted):
    with Lab(bindir=bindir) as lab:
        children = [null_milter(lab, bindir, "null.sock"),
                    null_milter(lab, bindir, "bare.sock", "--decline")]
        try:
            ports = start(lab, children)
            return [measure_filters(lab, ports, rounds)]
        finally:
            for child, _ in children:
                child.end()


def null_milter(lab, bindir, name, *words):
    """A filter below the queue directory, where the chrooted smtpd sees it;
    (its process, that socket relative to the queue directory)."""
    directory = os.path.join(lab.old.postfix.queue_directory, "bench")
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, name)
    child = Child("null_milter", os.path.join(lab.directory, f"{name}.log"))
    child.start([os.path.join(bindir, "tests", "bench", "null_milter"), path,
                 *words])
    child.wait_ready(lambda: accepts(path), 20, "accepts connections")
    return child, os.path.join("bench", name)


def start(lab, children):
    """All that runs; returns the port of each filter."""
    sockets = {"sluice": "sluice/milter.sock", "null": children[0][1],
               "bare": children[1][1], "none": None}
    postfix = lab.old.postfix
    lab.wire_sluice()
    postfix.postconf(virtual_transport="discard:", transport_maps="",
                     virtual_alias_maps="", smtpd_recipient_restrictions="",
                     virtual_mailbox_maps="static:ok", smtpd_milters="",
                     non_smtpd_milters="")
    ports = {}
    for name, socket in sockets.items():
        ports[name] = PORTS.take()
        postfix.master(SMTPD.format(
            port=ports[name], milter=f"unix:{socket}" if socket else ""))
    lab.redis.start()
    lab.old.sluice.start()
    postfix.start()
    lab.old.sluice.cli("init", check=True)
    lab.import_mailboxes([f"{number}u@{DOMAIN}"
                          for number in range(1, MESSAGES + 1)])
    return ports


def measure_filters(lab, ports, rounds):
    rates = {name: [] for name in ports}

    def sender(name):
        def send():
            rates[name].append(messages_per_second(lab, ports[name]))
            return rates[name][-1]
        return send

    for port in ports.values():
        messages_per_second(lab, port)  # every smtpd has started
    ratio = ratios(rounds * SHARE, sender("sluice"), sender("null"))
    for _ in range(rounds):
        sender("bare")()
        sender("none")()
    rate = {name: statistics.median(found) for name, found in rates.items()}
    say(f"milter: {rate['sluice']:.0f} messages/s, null filter "
        f"{rate['null']:.0f}/s, the same without events {rate['bare']:.0f}/s, "
        f"no filter {rate['none']:.0f}/s")
    return Figure("milter_ratio", ratio, RATIO, AT_LEAST)


def messages_per_second(lab, port):
    wait_queue_empty(lab.old.postfix)
    began = time.monotonic()
    run(["smtp-source", "-s", SESSIONS, "-l", SIZE, "-m", MESSAGES, "-N",
         "-f", "someone@senders.test", "-t", f"u@{DOMAIN}",
         f"127.0.0.1:{port}"], timeout=120)
    return MESSAGES / (time.monotonic() - began)


def wait_queue_empty(postfix):
    wait_until(lambda: not postfix.queue_files("incoming", "active"), 120,
               "the queue is empty", interval=0.2)
