"""What the tests of sluice-policyd share: one policyd with its own Redis.

Contract
  with policyd_case() as case     redis, policyd, `sluice init` done and some
      mailboxes written into Redis (MAILBOXES), so that a test about lookups
      needs no fence and no Postfix
  case.ask(table, key)            one socketmap reply, as text
  case.policy(recipient, ...)     one policy answer, as text
  case.connect(name)              a socket to "policy.sock" or "map.sock"
  case.wait_answers(reply)        until the transport table says so for a
      mailbox that lives here
"""

import contextlib
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "contrib", "lab"))

from parts.process import Child, Ports, accepts, run, wait_until  # noqa: E402
from parts.redis import Redis  # noqa: E402

BINDIR = os.environ.get("SLUICE_BINDIR",
                        os.path.dirname(os.path.dirname(HERE)))
USER = "daemon"
LOOKUP_TIMEOUT_MS = 200
LATER = "TEMP the mailbox's home is not known at present"
HERE_ANSWER = "NOTFOUND "

# Local part -> record (lib/home.h).
MAILBOXES = {
    "here": "o1.6740a1b2",
    "locked": "l1.6740a1b2",
    "back": "r1.6740a1b2",
    "moved": "n1.6740a1b2",
    "away": "n1.6740a1b2\tn=away@tenant.example.net",
    "damaged": "what is this",
}

CONFIG = """\
side = old
hostname = "mx1.example.com"
redis = "{redis}"
mta = postfix
postfix-config = "{directory}/postfix"
lookup-timeout = {timeout}
hold = {hold}
user = "{user}"
group = "{user}"
state-dir = "{directory}/state"
log = stderr
policyd {{
  policy = "unix:{directory}/policy.sock"
  map = "unix:{directory}/map.sock"
}}
domain "example.com" {{
  same-as = {{"mx1.example.com", "localhost"}}
  old = "[127.0.0.1]:10025"
  new = "[127.0.0.1]:10026"
  redirect-domains = {{"tenant.example.net"}}
}}
{extra}
"""


def read_policy(stream):
    """One answer from a binary stream; "" when it was closed."""
    lines = []
    while line := stream.readline():
        if line == b"\n":
            return b"".join(lines).decode()
        lines.append(line)
    return ""


def read_netstring(stream):
    """One payload from a binary stream; "" when it was closed."""
    digits = b""
    while (byte := stream.read(1)) not in (b":", b""):
        digits += byte
    if not digits:
        return ""
    payload = stream.read(int(digits))
    assert stream.read(1) == b",", "a netstring without its comma"
    return payload.decode()


def netstring(text):
    data = text.encode()
    return b"%d:%s," % (len(data), data)


def policy_request(recipient, state="RCPT", **more):
    attributes = {"request": "smtpd_access_policy", "protocol_state": state,
                  "protocol_name": "ESMTP", "helo_name": "client.example",
                  "sender": "someone@senders.test", "recipient": recipient,
                  "queue_id": "", "size": "1200", **more}
    return "".join(f"{name}={value}\n"
                   for name, value in attributes.items()).encode() + b"\n"


class PolicydCase:
    def __init__(self, directory):
        self.directory = directory
        self.ports = Ports()
        self.redis = Redis(os.path.join(directory, "redis"), self.ports.take())
        self.redis_url = self.redis.unix_url
        self.timeout = LOOKUP_TIMEOUT_MS
        self.hold = "queue"
        self.extra = ""
        self.config_path = os.path.join(directory, "sluice.conf")
        self.log_path = os.path.join(directory, "policyd.log")
        self.program = os.path.join(BINDIR, "sluice-policyd")
        self.child = Child("sluice-policyd", self.log_path)
        os.makedirs(os.path.join(directory, "state"))
        shutil.chown(os.path.join(directory, "state"), USER, USER)

    # configuration and processes

    def write_config(self):
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(
                redis=self.redis_url, directory=self.directory,
                timeout=self.timeout, hold=self.hold, user=USER,
                extra=self.extra))

    def path(self, name):
        return os.path.join(self.directory, name)

    def start(self, env=None):
        self.write_config()
        self.child.start([self.program, "-c", self.config_path], env=env)
        self.child.wait_ready(
            lambda: accepts(self.path("policy.sock"))
            and accepts(self.path("map.sock")), 20, "accepts connections")

    def init(self):
        run([os.path.join(BINDIR, "sluice"), "init", "-c", self.config_path])
        for local, record in MAILBOXES.items():
            self.redis.command("HSET", "sluice:home:example.com", local,
                               record)

    def reload(self, line):
        """SIGHUP, and the log line that tells of its end."""
        before = self.log().count(line)
        self.child.send(signal.SIGHUP)
        wait_until(lambda: self.log().count(line) > before, 10, line)

    def log(self):
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, encoding="utf-8", errors="replace") as text:
            return text.read()

    def wait_log(self, text, timeout=10):
        wait_until(lambda: text in self.log(), timeout, f"logs {text!r}")

    def close(self):
        self.child.end()
        self.redis.stop()
        self.ports.release()

    # clients

    def connect(self, name, timeout=10):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Blocking, since a full backlog is EAGAIN to a socket with a time limit;
        # the kernel's own one is the send time limit.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO,
                          struct.pack("ll", timeout, 0))
        client.connect(self.path(name))
        client.settimeout(timeout)
        return client

    def exchange(self, name, data, read):
        with self.connect(name) as client, client.makefile("rb") as stream:
            client.sendall(data)
            return read(stream)

    def ask(self, table, key):
        return self.exchange("map.sock", netstring(f"{table} {key}"),
                             read_netstring)

    def policy(self, recipient, state="RCPT"):
        return self.exchange("policy.sock", policy_request(recipient, state),
                             read_policy)

    def wait_answers(self, reply=HERE_ANSWER, timeout=10):
        wait_until(lambda: self.ask("transport", "here@example.com") == reply,
                   timeout, f"the transport table answers {reply!r}")

    def lookups(self):
        """How many HMGETs of homes and history Redis has served."""
        stats = self.redis.command("INFO", "commandstats")
        for line in stats.splitlines():
            if line.startswith("cmdstat_hmget:"):
                return int(line.split("calls=")[1].split(",")[0])
        return 0


@contextlib.contextmanager
def policyd_case(prepare=None, started=True):
    directory = tempfile.mkdtemp(prefix="sluice-policyd.")
    os.chmod(directory, 0o755)
    case = PolicydCase(directory)
    try:
        case.redis.start()
        if prepare:
            prepare(case)
        if started:
            case.start()
            case.init()
            case.wait_answers()
        yield case
        case.child.end()
        assert "Sanitizer" not in case.log(), "a sanitizer's finding"
        assert "runtime error" not in case.log(), "a sanitizer's finding"
    except BaseException:
        if case.log():
            print(f"---- {case.log_path}\n{case.log()[-4000:]}", flush=True)
        raise
    finally:
        case.close()
        shutil.rmtree(directory)
