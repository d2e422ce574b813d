"""Verification of SPF, DKIM and DMARC, over Debian's own filters.

Straight over the milter protocol (milter_load, 10 connections kept open, the same
20 messages of 4 KB signed with RSA-2048, one Knot for all of them):
sluice-milter, opendkim and opendmarc in turn, rspamd with these checks alone, and
a filter that does nothing. Then the same filters behind one Postfix, a port for
each (smtp-source, 10 sessions). A run counts only when the messages came back
with spf=pass, dkim=pass and dmarc=pass: every one from sluice, 99.9 % of them from
the others (opendkim now and then loses a key). The body is no text, since rspamd
would spend as much time again on its words.

Time added by slow DNS: a proxy before Knot adds 50 ms to every answer; one
message at a time, of names that were never asked before. The longest chain of
dependent questions is three (an SPF record, what it includes, what that
includes); there are some fourteen questions in all.

Memory: what 200,000 messages add when the caches are full, each with a sender
domain of its own.
"""

import contextlib
import json
import os
import statistics
import sys
import time

from auth_peers import (Null, Opendkim, Opendmarc, Rspamd, cpu_seconds,
                        private_network, resident)
from lab import OUTSIDE, Lab
from measure import AT_LEAST, AT_MOST, HERE, PORTS, Figure, ratios, say
from parts.dkim import DkimKey
from parts.dns import txt
from parts.process import Child, accepts, run, wait_until

NAMES = ["auth_pair", "auth_rspamd", "auth_postfix_rspamd", "auth_postfix_null",
         "auth_slow_dns_ms", "auth_memory"]
DIRECT, POSTFIX = NAMES[:2], NAMES[2:4]
SESSIONS = 10
MESSAGES = 6000        # of one run over the protocol
POSTFIX_MESSAGES = 600
POSTFIX_SHARE = 3      # short rounds, so many of them
FILES = 20
SIZE = 4096
DOMAIN = "bench.example"
SENDER = f"someone@{DOMAIN}"
HELO = f"mail.{DOMAIN}"
RECIPIENT = "somebody@senders.test"
PASSED = ["-e", "spf=pass", "-e", "dkim=pass", "-e", "dmarc=pass"]

DNS_ADDRESS, SLOW_ADDRESS = "198.51.100.53", "198.51.100.54"
DELAY_MS = 50
CHAIN = 3              # of the slow zones' questions
SLOW_MESSAGES = 8
SLOW_SIGNATURES = 3

WARM, MANY = 100000, 300000  # the caches are full before we look

AUTH = """\
  authserv-id = "{hostname}"
  trusted = {{"203.0.113.1/32"}}
  servers = {{"{server}"}}"""

MESSAGE = """\
Received: from mail.bench.example (mail.bench.example [192.0.2.25])
\tby mx.example.net (Postfix) with ESMTPS id 4XJ{number:09}
\tfor <somebody@senders.test>; Sun, 22 Nov 2026 06:00:00 +0000 (UTC)
From: Some One <{sender}>
To: somebody@senders.test
Subject: message {number}
Date: Sun, 22 Nov 2026 06:00:00 +0000
Message-ID: <{number}@bench.example>
MIME-Version: 1.0
Content-Type: application/octet-stream
Content-Transfer-Encoding: 7bit

"""
LINE = "The quick brown fox jumps over the lazy dog, and again and again ({}).\n"

SMTPD = """\
127.0.0.1:{port} inet n - y - - smtpd
  -o smtpd_milters={milters}
"""


def measure(bindir, rounds, wanted):
    with private_network(DNS_ADDRESS, SLOW_ADDRESS), \
            Lab(bindir=bindir, auth=True) as lab, \
            contextlib.ExitStack() as stack:
        prepare_zones(lab)
        files = write_messages(lab)
        bench = Bench(lab, bindir, files, stack)
        figures = []
        if any(name in wanted for name in DIRECT):
            figures += bench.direct(rounds)
        if any(name in wanted for name in POSTFIX):
            figures += bench.through_postfix(rounds)
        if "auth_slow_dns_ms" in wanted:
            figures.append(bench.slow_dns())
        if "auth_memory" in wanted:
            figures.append(bench.memory())
        return [figure for figure in figures if figure.name in wanted]


# DNS and messages

def prepare_zones(lab):
    key = DkimKey(os.path.join(lab.directory, "keys"), DOMAIN)
    lab.keys[DOMAIN] = key
    lab.dns.also_listen = [f"{DNS_ADDRESS}@53"]
    lab.dns.zone(DOMAIN, [
        "@ TXT " + txt(f"v=spf1 include:_spf.{DOMAIN} -all"),
        "_spf TXT " + txt("v=spf1 ip4:192.0.2.0/24 ip4:127.0.0.0/8 -all"),
        "* TXT " + txt("v=spf1 ip4:192.0.2.0/24 -all"),
        "mail A 192.0.2.25",
        "mail TXT " + txt("v=spf1 a ip4:127.0.0.0/8 -all"),
        "_dmarc TXT " + txt("v=DMARC1; p=none"),
        f"{key.selector}._domainkey TXT {txt(key.record)}"])
    for number in range(SLOW_MESSAGES):
        lab.dns.zone(f"slow{number}.example.com", slow_zone(key, number))
    for side in (lab.old, lab.new):
        side.sluice.auth = AUTH.format(hostname=side.sluice.hostname,
                                       server=lab.dns.server)


def slow_zone(key, number):
    zone = f"slow{number}.example.com"
    return ["@ TXT " + txt(f"v=spf1 include:a.{zone} -all"),
            "a TXT " + txt(f"v=spf1 include:b.{zone} -all"),
            "b TXT " + txt("v=spf1 ip4:192.0.2.0/24 -all"),
            "mail TXT " + txt("v=spf1 a -all"),
            "mail A 192.0.2.25",
            "_dmarc TXT " + txt("v=DMARC1; p=none"),
            *(f"s{each}._domainkey TXT {txt(key.record)}"
              for each in range(SLOW_SIGNATURES))]


def write_messages(lab):
    directory = os.path.join(lab.directory, "messages")
    os.makedirs(directory)
    return [write_message(directory, lab.keys[DOMAIN], number)
            for number in range(FILES)]


def message_text(number, sender):
    text = MESSAGE.format(number=number, sender=sender)
    while len(text) < SIZE:
        text += LINE.format(len(text))
    return text


def write_message(directory, key, number):
    path = os.path.join(directory, f"{number}.eml")
    with open(path, "wb") as file:
        file.write(key.sign(message_text(number, SENDER)))
    return path


def write_slow_message(lab, number):
    """The author's address is below the organisation's domain; one signature
    for each selector, made with the one key."""
    domain = f"slow{number}.example.com"
    data = message_text(number, f"someone@mail.{domain}").encode()
    for each in range(SLOW_SIGNATURES):
        key = DkimKey.__new__(DkimKey)
        key.__dict__.update(lab.keys[DOMAIN].__dict__,
                            domain=domain, selector=f"s{each}")
        data = key.sign(data)
    path = os.path.join(lab.directory, "messages", f"slow{number}.eml")
    with open(path, "wb") as file:
        file.write(data)
    return path


class Bench:
    def __init__(self, lab, bindir, files, stack):
        self.lab = lab
        self.bindir = bindir
        self.files = files
        self.stack = stack
        self.load = os.path.join(bindir, "tests", "bench", "milter_load")
        self.directory = os.path.join(lab.old.postfix.queue_directory, "bench")
        os.makedirs(self.directory)
        self.filters = None
        self._cpu = {}
        lab.dns.start()
        lab.redis.start()
        lab.wire_sluice()

    def add(self, peer):
        peer.start()
        self.stack.callback(peer.stop)
        return peer

    def start_filters(self):
        """{name: [(socket, function giving its processes)]}, all running."""
        if self.filters:
            return
        self.start_sluice(self.lab.old)
        dkim = self.add(Opendkim(self.directory, DNS_ADDRESS))
        dmarc = self.add(Opendmarc(self.directory, DNS_ADDRESS))
        rspamd = self.add(Rspamd(self.directory, DNS_ADDRESS))
        null = self.add(Null(self.directory, self.bindir))
        self.filters = {"sluice": [sluice_socket(self.lab.old)],
                        "opendkim+opendmarc": [dkim.socket, dmarc.socket],
                        "rspamd": [rspamd.socket], "null": [null.socket]}
        self.pids = {"sluice": lambda: [self.lab.old.sluice.milter.pid],
                     "opendkim+opendmarc": lambda: dkim.pids() + dmarc.pids(),
                     "rspamd": rspamd.pids, "null": null.pids}

    def start_sluice(self, side):
        if not side.sluice.milter.running:
            side.sluice.write_config()
            side.sluice.milter.start()

    def send(self, sockets, *words, files=None, check=True):
        argv = [self.load, "-f", SENDER, "-h", HELO, "-a", OUTSIDE, "-r",
                RECIPIENT, *words, ",".join(sockets), *(files or self.files)]
        _, out, err = run(argv, timeout=600, check=check)
        if not out:
            raise RuntimeError(err)
        return json.loads(out)

    # over the protocol

    def rate(self, name):
        before = cpu_seconds(self.pids[name]())
        result = self.send(self.filters[name], "-c", SESSIONS, "-n", MESSAGES,
                           "-p", MESSAGES, *(PASSED if name != "null" else []),
                           check=False)
        used = cpu_seconds(self.pids[name]()) - before
        share = 1 if name == "sluice" else 0.999
        if result["expected"] < share * MESSAGES:
            raise RuntimeError(f"{name} does not verify: {result}")
        self._cpu.setdefault(name, []).append(used / MESSAGES * 1e6)
        return result["per_second"]

    def direct(self, rounds):
        self.start_filters()
        rates = {}

        def sender(name):
            def send():
                rates.setdefault(name, []).append(self.rate(name))
                return rates[name][-1]
            return send

        for name in self.filters:
            self.rate(name)  # warm
        self._cpu.clear()
        pair = ratios(rounds, sender("sluice"), sender("opendkim+opendmarc"))
        rspamd = ratios(rounds, sender("sluice"), sender("rspamd"))
        for _ in range(rounds):
            sender("null")()
        for name in self.filters:
            say(f"auth over the protocol: {name} "
                f"{statistics.median(rates[name]):.0f} messages/s, "
                f"{statistics.median(self._cpu[name]):.0f} us of CPU each")
        return [Figure("auth_pair", pair, 3, AT_LEAST),
                Figure("auth_rspamd", rspamd, 1.3, AT_LEAST)]

    # behind Postfix

    def through_postfix(self, rounds):
        self.start_filters()
        postfix = self.lab.old.postfix
        ports = self.smtpd_ports(postfix)
        for name, sockets in self.filters.items():
            if name != "null":  # they do verify what comes from here
                self.send(sockets, "-c", 1, "-n", 1, *PASSED,
                          "-a", "127.0.0.1")
        rates = {}

        def sender(name):
            def send():
                rates.setdefault(name, []).append(
                    self.smtp_rate(postfix, ports[name]))
                return rates[name][-1]
            return send

        for port in ports.values():
            self.smtp_rate(postfix, port)  # every smtpd has started
        times = rounds * POSTFIX_SHARE
        rspamd = ratios(times, sender("sluice"), sender("rspamd"))
        null = ratios(times, sender("sluice"), sender("null"))
        for _ in range(rounds):
            sender("opendkim+opendmarc")()
            sender("none")()
        for name, found in rates.items():
            say(f"auth through Postfix: {name} "
                f"{statistics.median(found):.0f} messages/s")
        postfix.stop()
        return [Figure("auth_postfix_rspamd", rspamd, 1, AT_LEAST),
                Figure("auth_postfix_null", null, 0.85, AT_LEAST)]

    def smtpd_ports(self, postfix):
        postfix.postconf(virtual_transport="discard:", transport_maps="",
                         virtual_alias_maps="", smtpd_recipient_restrictions="",
                         virtual_mailbox_maps="static:ok", smtpd_milters="",
                         non_smtpd_milters="")
        ports = {}
        for name, sockets in [*self.filters.items(), ("none", [])]:
            ports[name] = PORTS.take()
            inside = [os.path.relpath(socket, postfix.queue_directory)
                      for socket in sockets]
            postfix.master(SMTPD.format(port=ports[name], milters=",".join(
                f"unix:{path}" for path in inside)))
        postfix.start()
        return ports

    def smtp_rate(self, postfix, port):
        wait_until(lambda: not postfix.queue_files("incoming", "active"), 120,
                   "the queue is empty", interval=0.2)
        began = time.monotonic()
        run(["smtp-source", "-s", SESSIONS, "-m", POSTFIX_MESSAGES, "-F",
             self.files[0], "-M", HELO, "-f", SENDER, "-t", RECIPIENT,
             f"127.0.0.1:{port}"], timeout=120)
        return POSTFIX_MESSAGES / (time.monotonic() - began)

    # slow DNS

    def slow_dns(self):
        """Milliseconds above the longest chain's."""
        self.start_slow_dns()
        files = [write_slow_message(self.lab, number)
                 for number in range(SLOW_MESSAGES)]
        self.lab.new.sluice.auth = AUTH.format(
            hostname=self.lab.new.sluice.hostname,
            server=f"{SLOW_ADDRESS}:53")
        self.lab.old.sluice.milter.stop()  # nothing cached
        for side in (self.lab.old, self.lab.new):
            self.start_sluice(side)
        added = self.latency([sluice_socket(self.lab.new)], files) - \
            self.latency([sluice_socket(self.lab.old)], files)
        pair = self.pair_latency(SLOW_ADDRESS, files) - \
            self.pair_latency(DNS_ADDRESS, files)
        say(f"auth, every DNS answer {DELAY_MS} ms late: sluice {added:.0f} ms "
            f"more for a message, opendkim+opendmarc {pair:.0f} ms")
        return Figure("auth_slow_dns_ms", added - CHAIN * DELAY_MS, 20, AT_MOST)

    def start_slow_dns(self):
        proxy = Child("dns_hostile", os.path.join(self.directory, "slow.log"))
        proxy.start([sys.executable, "-B",
                     os.path.join(HERE, "..", "e2e", "dns_hostile.py"),
                     f"{SLOW_ADDRESS}:53", self.lab.dns.port, DELAY_MS])
        proxy.wait_ready(lambda: accepts((SLOW_ADDRESS, 53)), 20, "answers")
        self.stack.callback(proxy.end)

    def pair_latency(self, dns, files):
        name = f"at-{dns}"
        dkim = self.add(Opendkim(self.directory, dns, f"opendkim-{name}"))
        dmarc = self.add(Opendmarc(self.directory, dns, f"opendmarc-{name}"))
        return self.latency([dkim.socket, dmarc.socket], files)

    def latency(self, sockets, files):
        """Milliseconds of one message, median; each of names of its own."""
        found = []
        for number, file in enumerate(files):
            domain = f"slow{number}.example.com"
            result = self.send(sockets, "-c", 1, "-n", 1, *PASSED, "-f",
                               f"someone@{domain}", "-h", f"mail.{domain}",
                               files=[file])
            found.append(result["p50_ms"])
        return statistics.median(found)

    # memory

    def memory(self):
        """Resident memory after MANY messages, over that after WARM; the last
        200,000 of them count."""
        side = self.lab.old
        side.sluice.milter.stop()
        self.start_sluice(side)
        found = []
        for count in (WARM, (MANY - WARM) // 2, (MANY - WARM) // 2):
            self.send([sluice_socket(side)], "-c", SESSIONS, "-n", count, "-p",
                      count, "-u", *PASSED)
            found.append(resident(side.sluice.milter.pid))
        say("auth, memory of sluice-milter: " + ", ".join(
            f"{size / 1e6:.1f} MB" for size in found) +
            f" after {WARM}, {(WARM + MANY) // 2} and {MANY} messages")
        return Figure("auth_memory", found[-1] / found[0], 1.1, AT_MOST)


def sluice_socket(side):
    return os.path.join(side.sluice.sockets, "milter.sock")
