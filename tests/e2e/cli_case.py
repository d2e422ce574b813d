"""What the tests of the command line share: sluice with a Redis of its own and
MTA hosts that are only played.

Contract
  with cli_case(domains=...) as case   redis runs, sluice.conf is written, `init`
      was run (unless init=False)
  case.sluice(*words)        Result: .code .out .err, .json (the document)
  case.host(name, side, ...) a Host that registers and sends heartbeats
  case.csv(*lines)           path of a CSV file; case.file(name, data)
  case.homes(domain)         {local part: state letter}, "" the own record
  Host.confirms = False      it hears of locks and confirms none
  Host.silence()             its heartbeat stops
"""

import contextlib
import json
import os
import shutil
import tempfile
import threading
import time

from harness import SOURCE
from parts.process import Ports, run, wait_until
from parts.redis import Redis, RedisError

BINDIR = os.environ.get("SLUICE_BINDIR", SOURCE)
BEAT_S = 0.1
DAY_AGO_MS = 86400 * 1000

CONFIG = """\
side = old
hostname = "mx1.example.com"
redis = "{redis}"
command-timeout = 1000
state-dir = "{directory}/state"
log = stderr
{top}
{sync}
{domains}
"""

DOMAIN = """\
domain "{name}" {{
  old = "[127.0.0.1]:10025"
  new = "[127.0.0.1]:10026"
  redirect-domains = {{"tenant.example.net"}}
}}
"""


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


class Host:
    """An MTA host as its record in Redis shows it."""

    def __init__(self, redis, name, side):
        self.redis, self.name, self.side = redis, name, side
        self.confirms = True
        self.state = "drains 3 messages"
        self.held = self.loops = 0
        self.fenced = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self.beat()
        self._thread.start()

    def beat(self, age_ms=0):
        epoch = int(self.redis.command("HGET", "sluice:chain", "epoch") or 0)
        if self.confirms:
            self.fenced = epoch
        seconds, micros = self.redis.command("TIME")
        seen = int(seconds) * 1000 + int(micros) // 1000 - age_ms
        self.redis.command(
            "HSET", "sluice:hosts", self.name,
            f"side={self.side}\tfenced={self.fenced}\tjournaled={epoch}\t"
            f"swept={epoch}\tseen={seen}\theld={self.held}\t"
            f"loops={self.loops}\tleft=0\toldest=0\tversion=0.1.0\t"
            f"state={self.state}")

    def _live(self):
        while not self._end.wait(BEAT_S):
            with contextlib.suppress(OSError, EOFError, RedisError):
                self.beat()

    def stop(self):
        self._end.set()
        self._thread.join()

    def silence(self):
        self.stop()
        self.beat(age_ms=DAY_AGO_MS)


class Case:
    def __init__(self, directory, redis, names, top, sync):
        self.directory, self.redis = directory, redis
        self.config = os.path.join(directory, "sluice.conf")
        self.hosts = []
        self.state = os.path.join(directory, "state")
        os.makedirs(self.state)
        self.file("sluice.conf", CONFIG.format(
            redis=redis.unix_url, directory=directory, top=top,
            sync=sync.format(directory=directory),
            domains="".join(DOMAIN.format(name=name) for name in names)))

    def sluice(self, *words, input=None, timeout=60):
        return Result(*run(self.argv(*words), check=False, timeout=timeout,
                           input=input))

    def argv(self, *words):
        return [os.path.join(BINDIR, "sluice"), "-c", self.config, *words]

    def file(self, name, data):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return path

    def csv(self, *lines):
        return self.file("list.csv", "\n".join([*lines, ""]))

    def add(self, *addresses):
        result = self.sluice("import", self.csv("address", *addresses))
        assert result.code == 0, result.err

    def host(self, name="mx1.example.com", side="old"):
        host = Host(self.redis, name, side)
        self.hosts.append(host)
        return host

    def both_hosts(self):
        return self.host(), self.host("mx2.example.com", "new")

    def homes(self, domain="example.com"):
        flat = self.redis.command("HGETALL", f"sluice:home:{domain}")
        return {name: record[0]
                for name, record in zip(flat[::2], flat[1::2])}

    def hold(self, host, queue_id, kind, sender, *recipients):
        """The record of a held message, as sluice-milter writes it."""
        self.redis.command(
            "HSET", f"sluice:held:{host}", queue_id,
            f"{kind} {int(time.time()) - 90} 0\n{sender}\n"
            + "\n".join(recipients))


@contextlib.contextmanager
def cli_case(names=("example.com", "example.org"), init=True, top="", sync=""):
    directory = tempfile.mkdtemp(prefix="sluice.", dir="/tmp")
    ports = Ports()
    redis = Redis(os.path.join(directory, "redis"), ports.take())
    case = None
    try:
        redis.start()
        case = Case(directory, redis, names, top, sync)
        if init:
            result = case.sluice("init")
            assert result.code == 0, result.err
        yield case
    finally:
        for host in case.hosts if case else []:
            host.stop()
        redis.stop()
        ports.release()
        shutil.rmtree(directory, ignore_errors=True)


def wait_for(condition, what, timeout=20):
    return wait_until(condition, timeout, what)
