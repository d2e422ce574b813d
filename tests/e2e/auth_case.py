"""The frame of test_auth*.py: one Postfix with a verifying sluice-milter, and a
DNS of the test's own.

Contract
  with auth_host(records, auth="", prepare=None, ...) as host
      a milter_host.Host (host.postfix, host.milter, host.home() ...) with
      host.dns    a dns_hostile.HostileDns with BASE and records
      host.key    DKIM key of senders.test (parts.dkim.DkimKey), host.add_key(...)
      auth        more text for the auth section
  host.send(id, ...)        one message from CLIENT to mailbox A; returns its queue
      id. sender, author (From), client, helo, login, key (None: not signed),
      extra (header lines above the message), text (the message itself)
  host.submit(...)          the same, for one that may be refused: host.reply
  host.socket               of the milter, for milter_client
  host.delivered()          {id: Delivered}, when the queue is empty
  Delivered                 .headers (email.message), .results: [Result] of the
      one Authentication-Results of ours, top first
  Result                    .method .value .properties {name: value} .text
  with bare_milter(records, auth="", bindir=None) as bare
      the milter alone, for milter_client: bare.dns, bare.key, bare.add_key(),
      bare.milter; bare.tell(headers, ...) is one message: its results ([Result],
      None: no field was added), after checks that the milter goes on, that it
      accepts, and that it took no longer than LIMIT_S
  results_of(value)         reads one field's value
  verdicts(results)         {"spf": "pass", ...}, the first of each method
"""

import contextlib
import os
import re
import time

from dns_hostile import HostileDns
from harness import address, expect, expect_true, plain_lab
from milter_client import Message
from milter_host import Host, milter_host
from parts.dkim import HEADERS, DkimKey

A = address(1)
SENDER_DOMAIN = "senders.test"
SENDER = f"someone@{SENDER_DOMAIN}"
CLIENT = "192.0.2.25"
OTHER_CLIENT = "198.51.100.7"
HELO = f"mail.{SENDER_DOMAIN}"
QUERY_MS = 400
MESSAGE_MS = 3000
LIMIT_S = 8  # MESSAGE_MS, a busy machine, sanitizers

# A domain that is in order, and its HELO name.
BASE = {
    (SENDER_DOMAIN, "TXT"): "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all",
    (HELO, "TXT"): "v=spf1 a -all",
    (HELO, "A"): CLIENT,
    (f"_dmarc.{SENDER_DOMAIN}", "TXT"): "v=DMARC1; p=none",
}

AUTH = """\
  authserv-id = "{hostname}"
  trusted = {{"127.0.0.1/32", "10.1.0.0/16"}}
  servers = {{"{server}"}}
  query-timeout = {query_ms}
  message-timeout = {message_ms}
{more}"""

MESSAGE = """\
From: {author}
To: {to}
Subject: {id}
Date: Sun, 22 Nov 2026 06:00:00 +0000
Message-ID: <{id}@lab.test>
X-Lab-Id: {id}

The text of {id}.
"""


class Result:
    def __init__(self, text):
        self.text = text
        plain = re.sub(r"\((?:[^()\\]|\\.)*\)", " ", text)
        words = re.findall(r'([a-z.-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;]+)',
                           plain)
        (self.method, self.value), *others = words
        self.properties = {name: re.sub(r"\\(.)", r"\1", value[1:-1])
                           if value.startswith('"') else value
                           for name, value in others}

    def __repr__(self):
        return f"Result({self.text!r})"


def results_of(value):
    """The results of a field behind its authserv-id; none for "none"."""
    quoted = re.sub(r"\s+", " ", value)
    parts = re.findall(r'(?:"(?:[^"\\]|\\.)*"|\((?:[^()\\]|\\.)*\)|[^;"(])+',
                       quoted)
    return [Result(part.strip()) for part in parts[1:]
            if part.strip() not in ("", "none")]


def verdicts(results):
    found = {}
    for result in results:
        found.setdefault(result.method, result.value)
    return found


class Delivered:
    def __init__(self, message, hostname):
        self.headers = message.headers
        self.fields = message.headers.get_all("Authentication-Results", [])
        own = [field for field in self.fields
               if re.match(rf"\s*{re.escape(hostname)}\s*;", field)]
        self.own = own
        self.results = results_of(own[0]) if len(own) == 1 else None

    @property
    def verdicts(self):
        return verdicts(self.results)

    def of(self, method):
        return [result for result in self.results if result.method == method]


def add_methods(host):
    """What an auth_host has besides what a milter_host has."""
    def add_key(domain=SENDER_DOMAIN, selector="lab", publish=True, **options):
        key = DkimKey(os.path.join(host.lab.directory, "keys"), domain,
                      selector, **options)
        if publish:
            host.dns.put(key.name, "TXT", key.record)
        return key

    def send(id, sender=SENDER, author=None, client=CLIENT, helo=HELO,
             login=None, key=None, extra="", text=None, to=A,
             headers=HEADERS, **tags):
        message = text or MESSAGE.format(
            author=author or sender or SENDER, to=to, id=id)
        if key:
            message = key.sign(message, headers=headers, **tags).decode(
                "latin-1")
        reply = host.postfix.smtp(
            sender, [to], (extra + message).replace("\n", "\r\n")
            .encode("latin-1"), client=client, helo=helo, login=login)
        host.reply = reply
        return reply.queue_id

    def accepted(*arguments, **options):
        queue_id = send(*arguments, **options)
        expect(f"{arguments[0]} is accepted", host.reply.code, 250)
        return queue_id

    def delivered(mailbox=A):
        return {message.id: Delivered(message, host.postfix.hostname)
                for message in host.boxes(mailbox)[mailbox]}

    host.socket = os.path.join(host.sluice.sockets, "milter.sock")
    host.add_key, host.submit, host.send = add_key, send, accepted
    host.delivered = delivered


def auth_section(hostname, server, more=""):
    return AUTH.format(hostname=hostname, server=server, query_ms=QUERY_MS,
                       message_ms=MESSAGE_MS, more=more)


@contextlib.contextmanager
def auth_host(records=(), auth="", prepare=None, **options):
    with HostileDns({**BASE, **dict(records)}) as dns:
        def configure(host):
            host.dns = dns
            add_methods(host)
            host.key = host.add_key()
            host.sluice.auth = auth_section(host.postfix.hostname, dns.server,
                                            auth)
            if prepare:
                prepare(host)
        with milter_host(prepare=configure, **options) as host:
            yield host


class Bare:
    def __init__(self, host, dns):
        self.host = host
        self.dns = dns
        self.milter = host.milter
        self.socket = os.path.join(host.sluice.sockets, "milter.sock")
        self.key = self.add_key()

    def add_key(self, domain=SENDER_DOMAIN, selector="lab", publish=True,
                **options):
        key = DkimKey(os.path.join(self.host.lab.directory, "keys"), domain,
                      selector, **options)
        if publish:
            self.dns.put(key.name, "TXT", key.record)
        return key

    def tell(self, headers=(("From", " " + SENDER),), body="Text.\r\n",
             sender=SENDER, client=CLIENT, helo=HELO):
        pid = self.milter.pid
        began = time.monotonic()
        message = Message(client, helo, sender, headers, body)
        try:
            message.connect_to(self.socket)
            message.envelope()
            message.content()
            fields, word = message.end()
        finally:
            message.close()
            self.seconds = time.monotonic() - began
            expect_true("the milter goes on",
                        self.milter.running and self.milter.pid == pid)
        expect("its word", word, "c")
        expect_true(f"within {LIMIT_S} s: {self.seconds:.2f}",
                    self.seconds <= LIMIT_S)
        values = [value for name, value in fields
                  if name == "Authentication-Results"]
        return results_of(values[0]) if values else None


@contextlib.contextmanager
def bare_milter(records=(), auth="", bindir=None):
    with HostileDns({**BASE, **dict(records)}) as dns, \
            plain_lab(start=False, bindir=bindir) as lab:
        host = Host(lab, "old")
        lab.wire_sluice()
        host.sluice.auth = auth_section(host.postfix.hostname, dns.server, auth)
        lab.redis.start()
        host.prepare_store()
        host.sluice.write_config()
        host.milter.start()
        yield Bare(host, dns)
        if bindir is None or bindir == os.environ["SLUICE_BINDIR"]:
            host.milter.kill()  # libmilter needs 5 s to end
        else:
            host.milter.stop()  # a sanitizer has its say at the end
        log = host.milter.log()
        expect_true(f"no sanitizer complains: {log[-3000:]}",
                    "Sanitizer" not in log and "runtime error" not in log)
