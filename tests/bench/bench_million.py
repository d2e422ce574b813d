"""1,000,000 mailboxes: import, lock, memory, status.

Each round imports a million mailboxes into a domain of its own and locks that
domain. The peer is redis-cli --pipe, from a file of HSET commands with records
like sluice's, into a hash of a second Redis with the same configuration
(append-only file; without its automatic rewriting, which would fall into some
of the loads only). The files are made before.

The lock's records are written, its fence is not waited for: the only MTA host
is registered, and left out by --without-host. sluice-policyd has ended by
then, so that it is the command that is measured and not the host's journal as
well. Memory is what Redis uses more for each mailbox, the events of import and
lock included, which a running policyd would have had dropped.
"""

import os
import re
import statistics
import time

from lab import Lab
from measure import AT_MOST, PORTS, Figure, ratios, say, timed
from parts.process import wait_until
from parts.redis import Redis

NAMES = ["import_ratio", "lock_ratio", "bytes_per_mailbox", "status_s"]
MAILBOXES = 1000000
CHUNK = 1000           # mailboxes that share an epoch in the peer's records
RATIO, BYTES, STATUS_S = 2.0, 150, 1.0
ROUNDS_MAX = 3         # each leaves a million mailboxes behind


def measure(bindir, rounds, wanted):
    rounds = min(rounds, ROUNDS_MAX)
    with Lab(bindir=bindir) as lab:
        peer_directory = os.path.join(lab.directory, "peer")
        os.makedirs(peer_directory)
        peer = Redis(peer_directory, PORTS.take())
        try:
            start(lab, peer, rounds)
            figures = measure_rounds(lab, peer, rounds)
        finally:
            peer.stop()
    return [figure for figure in figures if figure.name in wanted]


def domain_of(number):
    return f"m{number}.example"


def start(lab, peer, rounds):
    for number in range(rounds):
        lab.old.sluice.domains[domain_of(number)] = (
            f'  new = "[127.0.0.1]:{lab.new.postfix.port}"\n')
    for redis in (lab.redis, peer):
        redis.extra = "auto-aof-rewrite-percentage 0"
        redis.start()
    lab.wire_sluice()
    lab.old.postfix.start()
    lab.old.sluice.write_config()
    lab.old.sluice.policyd.start()
    lab.old.sluice.cli("init", check=True)
    wait_until(lambda: lab.redis.command("HLEN", "sluice:hosts") == 1, 30,
               "the MTA host is registered in Redis")
    lab.old.sluice.policyd.stop()


def local_of(number):
    return f"mailbox.{number:07}"


def write_csv(path, domain):
    with open(path, "w", encoding="ascii") as file:
        file.write("address\n")
        file.writelines(f"{local_of(number)}@{domain}\n"
                        for number in range(MAILBOXES))


def write_commands(path, domain):
    """HSET commands in Redis' own protocol, as redis-cli --pipe wants it."""
    key = f"sluice:home:{domain}"
    now = int(time.time())
    with open(path, "w", encoding="ascii", newline="") as file:
        for number in range(MAILBOXES):
            words = ("HSET", key, local_of(number),
                     f"o{1 + number // CHUNK:x}.{now:x}")
            file.write("*4\r\n" + "".join(f"${len(word)}\r\n{word}\r\n"
                                          for word in words))


def measure_rounds(lab, peer, rounds):
    times = {"import": [], "lock": [], "pipe": []}
    sizes, number = [], 0
    csv = os.path.join(lab.directory, "million.csv")
    commands = os.path.join(lab.directory, "million.resp")

    def sluice():
        nonlocal number
        domain = domain_of(number)
        number += 1
        write_csv(csv, domain)
        before = used_memory(lab.redis)
        times["import"].append(timed(lab.old.sluice.argv("import", csv)))
        size = used_memory(lab.redis) - before
        times["lock"].append(timed(lab.old.sluice.argv(
            "lock", "--without-host", lab.old.sluice.hostname, domain)))
        size = max(size, used_memory(lab.redis) - before)
        sizes.append(size / MAILBOXES)
        return times["import"][-1]

    def pipe():
        write_commands(commands, domain_of(len(times["pipe"])))
        times["pipe"].append(timed(["redis-cli", "-s", peer.socket, "--pipe"],
                                   stdin=commands))
        return times["pipe"][-1]

    import_ratio = ratios(rounds, sluice, pipe)
    lock_ratio = statistics.median(
        lock / pipe for lock, pipe in zip(times["lock"], times["pipe"]))
    status = statistics.median(timed(lab.old.sluice.argv("status"))
                               for _ in range(rounds))
    check(lab, peer, rounds)
    median = {name: statistics.median(all) for name, all in times.items()}
    say(f"million: import {median['import']:.2f} s, lock {median['lock']:.2f} "
        f"s, redis-cli --pipe {median['pipe']:.2f} s")
    return [Figure("import_ratio", import_ratio, RATIO, AT_MOST),
            Figure("lock_ratio", lock_ratio, RATIO, AT_MOST),
            Figure("bytes_per_mailbox", max(sizes), BYTES, AT_MOST),
            Figure("status_s", status, STATUS_S, AT_MOST)]


def used_memory(redis):
    return int(re.search(r"^used_memory:(\d+)", redis.command(
        "INFO", "memory"), re.MULTILINE).group(1))


def check(lab, peer, rounds):
    """Both have loaded what they were told to."""
    for number in range(rounds):
        key = f"sluice:home:{domain_of(number)}"
        locked = int(lab.redis.command(
            "HGET", f"sluice:totals:{domain_of(number)}", "l"))
        found = (lab.redis.command("HLEN", key) - 1, locked,
                 peer.command("HLEN", key))
        if found != (MAILBOXES,) * 3:
            raise RuntimeError(f"{key}: imported, locked, loaded {found}")
