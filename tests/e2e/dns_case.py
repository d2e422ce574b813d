"""What the tests of sluice dns share: a zone on real servers, and a plan.

Contract
  with dns_case(...) as case    a parent zone "test" on one Knot, the zone
      example.test on two others (127.0.0.1 and 127.0.0.2), the first of which
      takes updates; case.sluice() is the command with a configuration that
      plans the records of PLAN (or plan=...)
  case.first, case.second       the Knots of the zone; the second serves a copy
      that follow() brings up to date, as a slow zone transfer would
  case.check()                  the document of "dns check"
  case.states(document)         {(name, type, server number): state}
  case.rules(document)          {rule: result}, the worst of each
  case.by_hand(*lines)          changes the first by nsupdate: "add ...", "delete ..."
  case.alone()                  the zone has the first server alone
  case.start(*words)            the command as a Popen, to be signalled
  case.sluice(..., shift=S)     with a clock that is S seconds ahead (needs cc)
"""

import contextlib
import os
import shutil
import subprocess
import tempfile

from cli_case import Result
from harness import SOURCE
from parts.dns import Dns, Tsig, txt
from parts.process import Ports, run

BINDIR = os.environ.get("SLUICE_BINDIR", SOURCE)
HERE = os.path.dirname(os.path.abspath(__file__))
DOMAIN = "example.test"

RECORDS = [
    "@ 300 MX 10 mx.old",
    "@ 300 TXT \"v=spf1 mx ~all\"",
    "@ 300 TXT \"site-verification=abc\"",
    "mx.old 300 A 192.0.2.1",
    "mx1.new 300 A 198.51.100.1",
    "mx2.new 300 A 198.51.100.2",
    "imap 300 A 192.0.2.1",
]

PLAN = """\
  record "MX" { name = "@" value = {"10 mx1.new.example.test."} ttl = 600 }
  record "MX" { name = "@" value = {"20 mx2.new.example.test."} ttl = 600 }
  record "TXT" { name = "@" value = {"v=spf1 ip4:198.51.100.0/24 -all"} }
  record "TXT" { name = "_dmarc" value = {"v=DMARC1; p=none"} }
  record "CNAME" { name = "imap" value = {"mx1.new.example.test."} }
"""

CONFIG = """\
side = old
hostname = "mx1.example.com"
redis = "{redis}"
state-dir = "{directory}/state"
log = stderr
dns {{
  resolvers = {{"{resolver}"}}
  {parents}
  port = {port}
  timeout = {timeout}
  {more}
}}
domain "example.test" {{
  new = "[198.51.100.1]:25"
{plan}}}
"""


BATCH = """\
server 127.0.0.1 {port}
zone {zone}.
{lines}
send
"""


class Case:
    def __init__(self, directory, ports, records):
        self.directory = directory
        self.config = os.path.join(directory, "sluice.conf")
        self.key = Tsig("sluice-key")
        self.key_file = os.path.join(directory, "tsig.key")
        self.key.write(self.key_file)
        os.makedirs(os.path.join(directory, "state"))
        self.parent = Dns(os.path.join(directory, "parent"), ports.take())
        self.take_port = ports.take
        self.port = ports.take()
        self.first = Dns(os.path.join(directory, "first"), self.port)
        self.second = Dns(os.path.join(directory, "second"), ports.take())
        self.second.also_listen = [f"127.0.0.2@{self.port}"]
        self.parent.zone("test", ["example NS ns.example",
                                  "example NS ns2.example",
                                  "ns.example A 127.0.0.1",
                                  "ns2.example A 127.0.0.2"])
        self.first.allow_updates(self.key)
        self.records = records
        for server in (self.first, self.second):
            self.serve(server, records)

    @staticmethod
    def serve(server, records):
        server.zone(DOMAIN, ["@ NS ns2",
                             "ns2 A 127.0.0.2", *records])

    def configure(self, plan=PLAN, more="", timeout=500, parent=None,
                  resolver=None, redis="unix:/nonexistent/redis.sock"):
        """parent "": none, the resolver has to find it."""
        parent = self.parent.server if parent is None else parent
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(
                directory=self.directory, plan=plan, port=self.port,
                resolver=resolver or self.first.server, redis=redis,
                parents=f'parent = {{"{parent}"}}' if parent else "",
                timeout=timeout,
                more=more or f'server = "{self.first.server}" '
                             f'key-file = "{self.key_file}"'))

    def argv(self, *words):
        return [os.path.join(BINDIR, "sluice"), "-c", self.config, "dns",
                *words]

    def sluice(self, *words, timeout=60, shift=None):
        env = None if shift is None else self._shifted(shift)
        return Result(*run(self.argv(*words), check=False, timeout=timeout,
                           env=env))

    def start(self, *words):
        return subprocess.Popen(self.argv(*words), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, text=True,
                                stderr=subprocess.PIPE)

    def _shifted(self, seconds):
        library = os.path.join(self.directory, "shift.so")
        if not os.path.exists(library):
            run(["cc", "-shared", "-fPIC", "-o", library,
                 os.path.join(HERE, "clock_shift.c"), "-ldl"])
        return {**os.environ, "LD_PRELOAD": library,
                "CLOCK_SHIFT": str(seconds),
                "ASAN_OPTIONS": "verify_asan_link_order=0"}

    def by_hand(self, *lines):
        """Somebody changes the zone, by nsupdate."""
        keys = self.key_file + ".knot"
        batch = os.path.join(self.directory, "by-hand")
        with open(keys, "w", encoding="utf-8") as file:
            file.write(f"{self.key.algorithm}:{self.key.name}:{self.key.secret}\n")
        with open(batch, "w", encoding="utf-8") as file:
            file.write(BATCH.format(port=self.port, zone=DOMAIN, lines="\n".join(
                f"update {line}" for line in lines)))
        run(["knsupdate", "-k", keys, batch])

    def alone(self):
        """The zone is delegated to the first server only."""
        self.second.stop()
        self.parent.zone("test", ["example NS ns.example",
                                  "ns.example A 127.0.0.1"])
        self.parent.reload()

    def follow(self, records):
        self.serve(self.second, records)
        self.second.reload()

    def check(self):
        return self.sluice("check", DOMAIN, "--json").json

    @staticmethod
    def states(document):
        return {(row["name"], row["type"], number): answer["state"]
                for row in document["records"]
                for number, answer in enumerate(row["answers"])}

    @staticmethod
    def rules(document):
        order = ["pass", "note", "unknown", "fail"]
        found = {}
        for row in document["rules"]:
            worst = found.get(row["rule"], "pass")
            found[row["rule"]] = max(worst, row["result"], key=order.index)
        return found


@contextlib.contextmanager
def dns_case(records=None, plan=PLAN, more=""):
    directory = tempfile.mkdtemp(prefix="sluice.", dir="/tmp")
    ports = Ports()
    case = Case(directory, ports, records or RECORDS)
    servers = (case.parent, case.first, case.second)
    try:
        case.configure(plan, more)
        for server in servers:
            server.start()
        yield case
    finally:
        for server in servers:
            if server.running:
                server.stop()
        ports.release()
        shutil.rmtree(directory, ignore_errors=True)


__all__ = ["dns_case", "DOMAIN", "PLAN", "RECORDS", "txt"]
