"""What the tests of `sluice cutover` share: a cutover without mail servers.

Real: Redis, sluice, the sync command's processes. In place of the MTA hosts a
thread that confirms fences (Hosts), in place of the new server a few lines of
SMTP (NewServer), so that a test about the cutover itself takes seconds.

Contract
  with cutover_case(mailboxes) as case   Redis, both hosts, the new server; the
      domain initialised, the mailboxes (local parts) imported
  case.cutover(*words)        runs it: (exit code, stdout, stderr)
  case.start(*words)          begins one: Running, with wait() and send()
  case.document(*words)       runs it with --json: (exit code, document)
  case.sluice(*words)         any other command
  case.homes()                {local part: letter of its record}
  case.sync(script)           the sync command's shell script
  case.log(local)             what its log file holds
  case.hosts, case.server, case.redis, case.configure(name=value, ...)
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "contrib", "lab"))

from parts.process import (Ports, run, signal_group,  # noqa: E402,F401
                           wait_until)
from parts.redis import Redis, RedisError  # noqa: E402

BINDIR = os.environ.get("SLUICE_BINDIR",
                        os.path.dirname(os.path.dirname(HERE)))
DOMAIN = "example.com"
HOST = "mx1.example.com"

CONFIG = """\
side = old
hostname = "{host}"
redis = "{redis}"
mta = postfix
postfix-config = "{directory}/postfix"
state-dir = "{directory}/state"
log = stderr
milter {{
  listen = "unix:{directory}/milter.sock"
}}
policyd {{
  policy = "unix:{directory}/policy.sock"
  map = "unix:{directory}/map.sock"
}}
sync {{
  command = {{"{sync}"}}
  jobs = {jobs}
  timeout = {timeout}
  on-failure = {on_failure}
}}
domain "example.com" {{
  old = "[127.0.0.1]:1"
  {new}
  {domain}
}}
{extra}
"""

SYNC = """\
#!/bin/sh
mailbox=$SLUICE_MAILBOX
dir={directory}
{text}
"""


class Hosts:
    """MTA hosts that confirm every fence after `delay` seconds."""

    def __init__(self, redis):
        self.redis = redis
        self.delay = 0.2
        self.confirm = True      # False: alive, but never done
        self.sweep = True
        self.silent = set()
        self.names = {HOST: "old", "mx9.example.net": "new"}
        self._seen = []          # (time, epoch)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def start(self):
        self._write(force=True)
        self._thread.start()

    def stop(self):
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self):
        while not self._stop.wait(0.05):
            with contextlib.suppress(OSError, RedisError, EOFError):
                self._write()

    def _write(self, force=False):
        epoch = int(self.redis.command("HGET", "sluice:chain", "epoch") or 0)
        now = time.time()
        if not self._seen or self._seen[-1][1] != epoch:
            self._seen.append((now, epoch))
        done = max([e for t, e in self._seen if t <= now - self.delay] + [0])
        seconds, micro = self.redis.command("TIME")
        seen = int(seconds) * 1000 + int(micro) // 1000
        for name, side in list(self.names.items()):
            if name in self.silent and not force:
                continue
            fenced = done if self.confirm else 0
            swept = done if self.sweep else 0
            self.redis.command(
                "HSET", "sluice:hosts", name,
                f"side={side}\tfenced={fenced}\tjournaled={epoch}\t"
                f"swept={swept}\tseen={seen}\theld=0\tloops=0\tleft=0\t"
                "oldest=0\tversion=0.1.0\tstate=drains 3 messages")


class NewServer:
    """SMTP up to RCPT. `refuse`, `later`: addresses; `anyone`: accepts also
    those that are in no mailbox list; `greeting`, `pipelining`."""

    def __init__(self, port, known):
        self.port = port
        self.known = set(known)
        self.refuse, self.later = set(), set()
        self.anyone = False
        self.pipelining = True
        self.greeting = "220 new.example.net ESMTP"
        self.commands = []
        self._listener = None

    def start(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._listener],
                         daemon=True).start()

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=[connection],
                             daemon=True).start()

    def _talk(self, connection):
        with connection, connection.makefile("rwb") as stream:
            self._say(stream, self.greeting)
            for line in stream:
                command = line.decode().rstrip("\r\n")
                self.commands.append(command)
                self._say(stream, self._answer(command))
                if command == "QUIT":
                    return

    def _say(self, stream, text):
        stream.write(text.encode() + b"\r\n")
        stream.flush()

    def _answer(self, command):
        verb = command[:4].upper()
        if verb == "EHLO":
            return ("250-new.example.net\r\n250-PIPELINING\r\n250 8BITMIME"
                    if self.pipelining else "250 new.example.net")
        if verb == "RCPT":
            return self._recipient(command[9:-1])
        return "221 bye" if verb == "QUIT" else "250 2.0.0 fine"

    def _recipient(self, address):
        if address in self.refuse:
            return "550 5.1.1 no such user here"
        if address in self.later:
            return "451 4.7.1 greylisted"
        if self.anyone or address in self.known:
            return "250 2.1.5 fine"
        return "550 5.1.1 unknown"


class Running:
    """A cutover in the background."""

    def __init__(self, argv):
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.pid = self._process.pid

    def send(self, number):
        self._process.send_signal(number)

    def wait(self, timeout=60):
        """(exit code, stdout, stderr)"""
        out, err = self._process.communicate(timeout=timeout)
        return self._process.returncode, out, err

    def end(self):
        if self._process.poll() is None:
            signal_group(self.pid, signal.SIGKILL)
            self._process.communicate()


class Case:
    def __init__(self, mailboxes):
        self.mailboxes = list(mailboxes)
        self.directory = tempfile.mkdtemp(prefix="sluice.", dir="/tmp")
        self._ports = Ports()
        os.makedirs(os.path.join(self.directory, "state"))
        os.makedirs(os.path.join(self.directory, "redis"))
        self.redis = Redis(os.path.join(self.directory, "redis"),
                           self._ports.take())
        self.hosts = Hosts(self.redis)
        self.server = NewServer(self._ports.take(), map(address, mailboxes))
        self._running = []
        self._values = {
            "host": HOST, "redis": self.redis.unix_url,
            "directory": self.directory, "jobs": 2, "timeout": "20s",
            "on_failure": "unlock", "domain": "", "extra": "",
            "new": f'new = "[127.0.0.1]:{self.server.port}"',
            "sync": os.path.join(self.directory, "sync")}
        self.configure()
        self.sync('echo "copies $mailbox"')

    # set-up

    def start(self, *words):
        running = Running(self.argv("cutover", *words))
        self._running.append(running)
        return running

    def begin(self):
        self.redis.start()
        self.server.start()
        self.sluice("init", check=True)
        if self.mailboxes:
            rows = "".join(f"{address(box)}\n" for box in self.mailboxes)
            self.write("mailboxes.csv", "address\n" + rows)
            self.sluice("import", self.path("mailboxes.csv"), check=True)
        self.hosts.start()

    def end(self):
        for running in self._running:
            running.end()
        self.hosts.stop()
        self.redis.stop()
        self._ports.release()

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def configure(self, **values):
        self._values.update(values)
        self.write("sluice.conf", CONFIG.format(**self._values))

    def sync(self, text):
        self.write("sync", SYNC.format(directory=self.directory, text=text),
                   0o755)

    # use

    def argv(self, *words):
        return [os.path.join(BINDIR, "sluice"), words[0], "-c",
                self.path("sluice.conf"), *words[1:]]

    def sluice(self, *words, check=False):
        return run(self.argv(*words), check=check)

    def cutover(self, *words):
        return self.sluice("cutover", *(words or (DOMAIN,)))

    def document(self, *words):
        code, out, err = self.cutover("--json", *(words or (DOMAIN,)))
        try:
            return code, json.loads(out)
        except ValueError as error:
            raise AssertionError(f"no document: {out!r} {err!r}") from error

    def homes(self):
        words = self.redis.command("HGETALL", f"sluice:home:{DOMAIN}")
        return {words[i]: words[i + 1][0] for i in range(0, len(words), 2)}

    def wait_homes(self, **letters):
        def arrived():
            homes = self.homes()
            return all(homes[box] == letter
                       for box, letter in letters.items())
        wait_until(arrived, 20, f"homes are {letters}")

    def wait_for(self, name):
        """Waits until a sync has made that file."""
        wait_until(lambda: os.path.exists(self.path(name)), 20,
                   f"{name} is there")

    def log(self, local):
        return self.read(f"state/cutover/{DOMAIN}/{local}.log")


def address(local):
    return f"{local}@{DOMAIN}"


@contextlib.contextmanager
def cutover_case(mailboxes=("a", "b", "c"), **values):
    case = Case(mailboxes)
    case.configure(**values)
    try:
        case.begin()
        yield case
    except BaseException:
        print(f"---- the case is kept in {case.directory}", flush=True)
        case.end()
        raise
    case.end()
    shutil.rmtree(case.directory, ignore_errors=True)
