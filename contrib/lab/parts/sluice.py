"""sluice on one host of the lab: its configuration, daemons, command line.

Contract
  write_config()              sluice.conf from the attributes below; start()
      does it too
  start() stop() kill()       both daemons; `milter` and `policyd` are Daemons
      of their own with the same methods
  cli(*words)                 one sluice command: (exit code, stdout, stderr)
  Attributes that a test may change before start(): `fence`, `sync` (argv),
  `sync_extra`, `policyd_extra` (lines of these sections), `domains` (name -> text of the domain's section), `extra`
  (text at the end), `redis` (URL), `auth` (text of the auth section; None:
  there is none).
"""

import json
import os
import shutil
import signal

from .process import Child, accepts, run

USER = "daemon"
GROUP = "postfix"

CONFIG = """\
side = {side}
hostname = "{hostname}"
redis = "{redis}"
mta = postfix
postfix-config = "{postfix_config}"
fence = {fence}
hold = {hold}
user = "{user}"
group = "{group}"
state-dir = "{state}"
log = stderr
recipient-delimiter = "+"

milter {{
  listen = "unix:{sockets}/milter.sock"
}}
policyd {{
  policy = "unix:{sockets}/policy.sock"
  map = "unix:{sockets}/map.sock"
{policyd_extra}
}}
sync {{
  command = {{{sync}}}
{sync_extra}
}}
{auth}
{domains}
{extra}
"""


class Daemon:
    """One of the two daemons, in the foreground."""

    def __init__(self, program, config, log_path, sockets):
        self.program = program
        self.log_path = log_path
        self._config = config
        self._sockets = sockets
        self._child = Child(os.path.basename(program), log_path)

    @property
    def pid(self):
        return self._child.pid

    @property
    def running(self):
        return self._child.running

    def start(self, timeout=20):
        self._child.start([self.program, "-c", self._config])
        self._child.wait_ready(
            lambda: all(accepts(path) for path in self._sockets), timeout,
            "accepts connections on " + ", ".join(self._sockets))

    def stop(self):
        return self._child.end(signal.SIGTERM)

    def kill(self):
        """SIGKILL to the daemon and its helper: a crash."""
        self._child.kill()

    def restart(self):
        self.stop()
        self.start()

    def send(self, number):
        self._child.send(number)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as text:
            return text.read()


class Sluice:
    def __init__(self, directory, side, bindir, postfix, redis):
        self.directory = directory
        self.side = side
        self.redis = redis
        self.hostname = postfix.hostname
        self.fence = "wait"
        self.hold = "queue"
        self.sync = ["/bin/true"]
        self.sync_extra = ""
        self.policyd_extra = ""
        self.domains = {}
        self.extra = ""
        self.auth = None
        self.config_path = os.path.join(directory, "sluice.conf")
        self.state = os.path.join(directory, "state")
        self.sockets = os.path.join(postfix.queue_directory, "sluice")
        self._bindir = bindir
        self._postfix_config = postfix.config
        os.makedirs(self.state)
        shutil.chown(self.state, USER, USER)
        self.milter = self._daemon("sluice-milter", ["milter.sock"])
        self.policyd = self._daemon(
            "sluice-policyd", ["policy.sock", "map.sock"])

    def _daemon(self, name, sockets):
        return Daemon(
            os.path.join(self._bindir, name), self.config_path,
            os.path.join(self.directory, f"{name}.log"),
            [os.path.join(self.sockets, socket) for socket in sockets])

    def write_config(self):
        sections = "".join(f'domain "{name}" {{\n{text}\n}}\n'
                           for name, text in self.domains.items())
        text = CONFIG.format(
            side=self.side, hostname=self.hostname, redis=self.redis,
            postfix_config=self._postfix_config, fence=self.fence,
            hold=self.hold, user=USER, group=GROUP, state=self.state,
            sockets=self.sockets,
            sync=", ".join(json.dumps(str(word)) for word in self.sync),
            sync_extra=self.sync_extra, policyd_extra=self.policyd_extra,
            auth="" if self.auth is None else f"auth {{\n{self.auth}\n}}",
            domains=sections, extra=self.extra)
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(text)

    def start(self):
        self.write_config()
        self.policyd.start()
        self.milter.start()

    def stop(self):
        self.milter.stop()
        self.policyd.stop()

    def kill(self):
        self.milter.kill()
        self.policyd.kill()

    def argv(self, *words):
        """The command line of one sluice command: -c follows the command."""
        return [os.path.join(self._bindir, "sluice"), words[0],
                "-c", self.config_path, *words[1:]]

    def cli(self, *words, check=False, timeout=180, input=None):
        return run(self.argv(*words), check=check, timeout=timeout,
                   input=input)
