"""A mail migration on loopback: one Redis, an old and a new mail server.

    with Lab(bindir="build") as lab:
        lab.start()
        lab.add_mailboxes(["a@example.com"])
        lab.init()
        lab.import_mailboxes(["a@example.com"])

Contract
  Everything lives in one private directory below /tmp (mode 0755, since the
  servers drop to users of their own) and listens on free loopback ports; the
  host's own services, configuration and mailboxes are not touched. Needs root
  and Debian's packages (contrib/lab/setup).

  lab.redis                              parts.redis.Redis
  lab.old, lab.new                       Side: .postfix .dovecot .sluice
  Lab(auth=True)                         both sides verify SPF, DKIM and DMARC:
      lab.dns (parts.dns.Dns) holds example.com and senders.test, lab.keys the
      DKIM key of each (parts.dkim.DkimKey); mail of either is to come from
      OUTSIDE (Postfix.smtp(client=OUTSIDE)) to pass
  lab.start(sluice=True)                 starts what is not running
  lab.stop()                             ends all of it; also done when the
      program exits or gets SIGINT, SIGTERM or SIGHUP
  lab.init(), lab.import_mailboxes(...)  the commands of sluice
  lab.add_mailboxes(addresses, sides)    known to smtpd and to Dovecot
  lab.read_new(), lab.read_old()         {address: [Message]} over IMAP
  lab.sendmail(side, ...)                a parts.sendmail.Sendmail that stores in
      that side's Dovecot and has its name in the log, not started; before start()
  keep=True or lab.keep = True           leaves the directory in place
  lab.detach()                           leaves the servers running as well;
      stop_kept(directory) ends such a lab later
"""

import atexit
import json
import os
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from parts.dkim import DkimKey
from parts.dns import Dns, txt
from parts.dovecot import PASSWORD, Dovecot
from parts.mailbox import read_imap
from parts.postfix import Postfix
from parts.process import Ports, Timeout, group_alive, wait_until
from parts.redis import Redis
from parts.sendmail import Sendmail
from parts.sluice import Sluice

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
SYNC_MBSYNC = os.path.join(HERE, "sync-mbsync")
DOMAIN = "example.com"
SENDER_DOMAIN = "senders.test"
OUTSIDE = "192.0.2.25"     # a host that may send for both domains

# Floaters come from the other side of the lab, so it is trusted, and nobody
# else.
AUTH = """\
  authserv-id = "{hostname}"
  trusted = {{"127.0.0.1/32"}}
  servers = {{"{server}"}}"""

_open_labs = []


class Side:
    """One mail server: Postfix, its Dovecot, and sluice."""

    def __init__(self, name, directory, ports, bindir, redis_url, chroot):
        parts = {}
        for part in ("dovecot", "postfix", "sluice"):
            parts[part] = os.path.join(directory, part)
            os.makedirs(parts[part])
        self.name = name
        self.dovecot = Dovecot(parts["dovecot"], ports.take(), ports.take())
        self.postfix = Postfix(parts["postfix"], name, ports.take(),
                               self.dovecot.lmtp_port, chroot)
        self.sluice = Sluice(parts["sluice"], name, bindir, self.postfix,
                             redis_url)

    def start(self, sluice):
        if not self.dovecot.running:
            self.dovecot.start()
        if sluice and not self.sluice.policyd.running:
            self.sluice.start()
        if not self.postfix.running:
            self.postfix.start()

    def parts(self):
        """In the order in which they end."""
        return [self.postfix, self.sluice.milter, self.sluice.policyd,
                self.dovecot]

    def logs(self):
        return [self.postfix.log_path, self.sluice.policyd.log_path,
                self.sluice.milter.log_path, self.dovecot.log_path]


class Lab:
    def __init__(self, bindir=None, directory=None, keep=False, chroot=True,
                 auth=False):
        if os.geteuid() != 0:
            raise PermissionError("the lab needs root: it runs Postfix")
        self.keep = keep
        self.bindir = bindir or os.environ.get("SLUICE_BINDIR", "")
        self.directory = directory or tempfile.mkdtemp(
            prefix="sluice.", dir="/tmp")
        os.makedirs(self.directory, exist_ok=True)
        os.chmod(self.directory, 0o755)
        self._ports = Ports()
        self.redis = Redis(self._folder("redis"), self._ports.take())
        os.chmod(self.redis.directory, 0o755)
        self.old = self._side("old", chroot)
        self.new = self._side("new", chroot)
        self.dns = None
        self.keys = {}
        if auth:
            self._prepare_auth()
        self._mailboxes = []
        self._sendmails = []
        self._wired = False
        self._detached = False
        self._introduce_sides()
        _open_labs.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self._detached:
            self.stop()

    def _folder(self, name):
        path = os.path.join(self.directory, name)
        os.makedirs(path)
        return path

    def _side(self, name, chroot):
        return Side(name, self._folder(name), self._ports, self.bindir,
                    self.redis.unix_url, chroot)

    def _introduce_sides(self):
        for side in (self.old, self.new):
            side.sluice.domains[DOMAIN] = self.domain_section(side)
            side.sluice.sync = [SYNC_MBSYNC, self.sync_config]
            side.sluice.sync_extra = (
                "  jobs = 8\n  timeout = 2m\n  reverse-command = "
                f'{{"{SYNC_MBSYNC}", "{self.sync_config}", "reverse"}}')
        with open(self.sync_config, "w", encoding="utf-8") as file:
            file.write(f"OLD_IMAP_PORT={self.old.dovecot.imap_port}\n"
                       f"NEW_IMAP_PORT={self.new.dovecot.imap_port}\n"
                       f"PASSWORD={PASSWORD}\n"
                       f"STATE={self._folder('sync')}\n")

    def _prepare_auth(self):
        """The domains' records, and both sides told to verify."""
        self.dns = Dns(self._folder("dns"), self._ports.take())
        self.dns.zone(".", [])
        self.dns.zone("client.test", ["@ TXT " + txt(
            "v=spf1 ip4:192.0.2.0/24 -all")])  # the name in HELO
        keys = self._folder("keys")
        for domain, spf, dmarc in ((DOMAIN, "~all", "p=none"),
                                   (SENDER_DOMAIN, "-all", "p=reject")):
            self.keys[domain] = key = DkimKey(keys, domain)
            self.dns.zone(domain, [
                "@ TXT " + txt(f"v=spf1 ip4:192.0.2.0/24 {spf}"),
                "_dmarc TXT " + txt(f"v=DMARC1; {dmarc}"),
                f"{key.selector}._domainkey TXT {txt(key.record)}"])
        for side in (self.old, self.new):
            side.sluice.auth = AUTH.format(hostname=side.sluice.hostname,
                                           server=self.dns.server)

    @property
    def sync_config(self):
        """What contrib/lab/sync-mbsync reads; its traces are in sync/."""
        return os.path.join(self.directory, "sync.conf")

    @property
    def sync_directory(self):
        return os.path.join(self.directory, "sync")

    def domain_section(self, side, extra=""):
        """The usual text of the domain's section on one side. Its mailboxes
        are virtual, so no local name reaches them: no same-as."""
        return (f'  old = "[127.0.0.1]:{self.old.postfix.port}"\n'
                f'  new = "[127.0.0.1]:{self.new.postfix.port}"\n{extra}')

    # life

    def start(self, sluice=True):
        """Starts Redis and both sides; with sluice also its daemons."""
        if sluice and not self._wired:
            self.wire_sluice()
        if self.dns and not self.dns.running:
            self.dns.start()
        if not self.redis.running:
            self.redis.start()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda side: side.start(sluice),
                          (self.old, self.new)))
        self._write_pids()

    def wire_sluice(self):
        """Both gates into both instances, with the tree's hold program."""
        program = os.path.join(SOURCE, "conf", "postfix", "sluice-hold")
        for side in (self.old, self.new):
            side.postfix.wire_sluice(
                program if os.path.exists(program) else None)
        self._wired = True

    def init(self):
        """`sluice init`; returns when both hosts are registered, since a lock
        is refused without them."""
        self.old.sluice.cli("init", check=True)
        wait_until(lambda: self.redis.command("HLEN", "sluice:hosts") == 2,
                   30, "both MTA hosts are registered in Redis")

    def import_mailboxes(self, addresses):
        path = os.path.join(self.directory, "mailboxes.csv")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(["address", *addresses, ""]))
        self.old.sluice.cli("import", path, check=True)

    def stop(self):
        """Ends every process; removes the directory unless keep is set.

        A part that does not end hinders no other; its error is raised last.
        """
        if self in _open_labs:
            _open_labs.remove(self)
        errors = []
        for side in (self.old, self.new):
            side.sluice.milter.kill()  # libmilter's own stop takes 5 s
        for part in self._parts():
            try:
                part.stop()
            except (Timeout, OSError) as error:
                errors.append(error)
        self._ports.release()
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)
        if errors:
            raise errors[0]

    def detach(self):
        """Leaves everything running when this program ends."""
        self.keep = self._detached = True
        if self in _open_labs:
            _open_labs.remove(self)

    def _write_pids(self):
        with open(os.path.join(self.directory, "pids.json"), "w",
                  encoding="utf-8") as file:
            json.dump([part.pid for part in self._parts() if part.running],
                      file)

    def _parts(self):
        """In the order in which they end."""
        return self._sendmails + self.old.parts() + self.new.parts() + [
            self.redis] + ([self.dns] if self.dns else [])

    def sendmail(self, side, **options):
        side.dovecot.extra += f"auth_default_realm = {DOMAIN}\n"
        part = Sendmail(self._folder(f"sendmail-{side.name}"), side.name,
                        self._ports.take(), side.dovecot.lmtp_port,
                        os.path.join(self.bindir, "lab-packages"), **options)
        self._sendmails.append(part)
        return part

    def also_listens(self, side, address):
        """Another port of a side's smtpd, on another address of loopback;
        before start()."""
        port = self._ports.take()
        side.postfix.master(f"{address}:{port} inet n - n - - smtpd\n")
        return port

    # mail

    def add_mailboxes(self, addresses, sides=None):
        """Mailboxes of example.com or senders.test, on both sides unless
        `sides` names fewer."""
        for side in sides or (self.old, self.new):
            side.dovecot.add_users(addresses)
            side.postfix.add_mailboxes(addresses)
        self._mailboxes += addresses

    def read_old(self, addresses=None):
        return read_imap(self.old.dovecot.imap_port,
                         addresses or self._mailboxes, PASSWORD)

    def read_new(self, addresses=None):
        return read_imap(self.new.dovecot.imap_port,
                         addresses or self._mailboxes, PASSWORD)

    def wait_drained(self, timeout=90):
        """Waits until neither side's queue holds a message."""
        def drained():
            busy = [side for side in (self.old, self.new)
                    if side.postfix.queue_files("maildrop", "incoming",
                                                "active", "deferred", "hold")]
            for side in busy:
                side.postfix.scan_incoming()
            return not busy
        wait_until(drained, timeout, "the queues of both sides are empty",
                   interval=1)


def stop_kept(directory):
    """Ends the processes of a lab that was left running, removes it."""
    with open(os.path.join(directory, "pids.json"), encoding="utf-8") as file:
        pids = json.load(file)
    for pid in pids:
        if group_alive(pid) and _belongs(pid, directory):
            os.kill(pid, signal.SIGTERM)
    for pid in pids:
        wait_until(lambda: not group_alive(pid) or not _belongs(
            pid, directory), 20, f"process {pid} has ended")
    shutil.rmtree(directory)


def _belongs(pid, directory):
    """Whether the process was started for this lab (a pid may be reused).

    Postfix's master carries no path in its arguments; its current directory
    is the queue directory.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace")
        return directory in words + os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return False


def _end_open_labs():
    for lab in list(_open_labs):
        lab.stop()


def _exit_on_signal(number, _frame):
    sys.exit(128 + number)


atexit.register(_end_open_labs)
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, _exit_on_signal)
