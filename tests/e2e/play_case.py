"""What the tests of the shipped playbooks share: a whole migration in the lab.

Real: both mail servers, Redis, sluice, a parent zone, the domain's zone on a primary
that takes updates and a secondary that follows it by zone transfer.

Contract
  with play_case(records, plan) as play     the lab is up, the domain initialised,
      BOXES imported; nothing is started. prepare(lab), auth, and extra (text of
      the domain's section) as in lab.py; records may be a function of the lab
  play.start(name, **settings)   a setting old_imap=... is --set old-imap=...
  play.run()                     runs until a person or an error: Said
  play.go(to=None, run=None)     runs and acknowledges, until that step waits for
      somebody; without it until the end. before={step: function} is called once
      the step waits, before its acknowledgement
  play.stops(step, *words)       runs; the run must stop at this step, with all
      the words in its reason; the record of the run must say so too
  play.refused(step, *words)     an acknowledgement that must be refused
  play.ack(step), play.rollback(), play.states(), play.note(step)
  play.picture()                 what a rollback has to restore: records, homes, and
      where real messages to both servers arrive (to the second of BOXES)
  play.back_to(picture, *words)  rolls back, with the acknowledgements that it asks
      for; everything must be as in that picture
  play.zone()                    all records of the domain, of each server
  play.record(owner, ttl, type, data)   changes the zone by hand
  play.homes()                   {local part: letter of its home}
  play.people(name, addresses)   a CSV file with passwords: its path
  play.paper(name)               text of an artefact
  play.on_new_side(address, there)
  play.counted(*clients)         waits until sluice auth report has these addresses
  play.killer()                  see Killer
  play.filter(side)              a third Postfix in front of one side; point(side)
      turns it to the other
  Services(lab)                  see there; to be made in prepare()
"""

import contextlib
import json
import os
import signal
import subprocess
import threading

from harness import SOURCE, expect, expect_true, message, sluice_lab, wait_until
from parts.dns import Dns, Tsig
from parts.dovecot import PASSWORD
from parts.mailbox import read_imap
from parts.postfix import Postfix
from parts.process import run
from web_case import Web, make_certificate, outlook_answer

DOMAIN = "example.com"
BOXES = [f"{name}@{DOMAIN}" for name in ("ann", "bob", "cleo")]
PLAYBOOKS = os.path.join(SOURCE, "conf", "playbooks")
ACKS_MAX = 60
RUN_S = 200


class Said:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        mark = f"ack {DOMAIN} "
        self.waits = out.rsplit(mark, 1)[1].split()[0] if mark in out else None

    def __repr__(self):
        return f"exit {self.code}\n{self.out}\n{self.err}"


class Play:
    def __init__(self, lab, first, second):
        self.lab, self.first, self.second = lab, first, second
        self.env = dict(os.environ)
        self._filters, self.web = [], None
        self._pictures = 0
        self.users = self.people("users.csv", BOXES)
        self.pilots = self.people("pilots.csv", BOXES[:1])

    # files

    def path(self, name):
        return os.path.join(self.lab.directory, name)

    def file(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def people(self, name, addresses, wrong=()):
        """wrong: who has a wrong password in it."""
        return self.file(name, "email,password,admin\n" + "".join(
            f"{address},{'wrong' if address in wrong else PASSWORD},"
            f"{'yes' if address == BOXES[0] else ''}\n" for address in addresses),
            0o600)

    def directory(self):
        return os.path.join(self.lab.old.sluice.state, "playbook", DOMAIN)

    def paper(self, name):
        with open(os.path.join(self.directory(), name), encoding="utf-8") as file:
            return file.read()

    # the command

    def argv(self, *words):
        return self.lab.old.sluice.argv("playbook", *words)

    def __call__(self, *words):
        done = subprocess.run(self.argv(*words), capture_output=True, text=True,
                              timeout=RUN_S, env=self.env, check=False,
                              stdin=subprocess.DEVNULL)
        return Said(done.returncode, done.stdout, done.stderr)

    def standard(self):
        """The settings that most playbooks have."""
        old, new = self.lab.old, self.lab.new
        def autodiscover():
            """A web server, begun when a playbook wants one."""
            if not self.web:
                self.web = Web(*make_certificate(self.path("web"), "localhost"))
                self.web.pages["/autodiscover/autodiscover.xml"] = (
                    200, {}, outlook_answer(("127.0.0.1", new.dovecot.imap_port)))
            return f"localhost:{self.web.port}"
        return {"autodiscover": autodiscover,
                "ca": lambda: self.web.certificate if self.web else "",
                "users": self.users, "pilots": self.pilots,
                "old_imap": f"127.0.0.1:{old.dovecot.imap_port}",
                "new_imap": f"127.0.0.1:{new.dovecot.imap_port}",
                "old_smtp": f"127.0.0.1:{old.postfix.port}",
                "new_smtp": f"127.0.0.1:{new.postfix.port}",
                "dns_limit": "3s"}

    def start(self, name, *words, **settings):
        words = list(words)
        with open(os.path.join(PLAYBOOKS, f"{name}.conf"), encoding="utf-8") as file:
            text = file.read()
        for setting, value in {**self.standard(), **settings}.items():
            setting = setting.replace("_", "-")
            if setting in settings or f"%{{{setting}}}" in text:
                value = value() if callable(value) else value
                words += ["--set", f"{setting}={value}"]
        said = self("start", name, DOMAIN, *words)
        expect(f"start ({said})", said.code, 0)

    def run(self, *words):
        return self("run", DOMAIN, "--wait", *words)

    def ack(self, step):
        return self("ack", DOMAIN, step, "--by", "test", "--note", "in the lab")

    def go(self, to=None, before=None, run=None):
        before = dict(before or {})
        for _ in range(ACKS_MAX):
            said = (run or self.run)()
            if said.code == 0:
                expect("it goes on to", None, to)
                return
            expect_true(f"waits for a person: {said}", said.code == 75 and
                        said.waits)
            if said.waits == to:
                return
            self.acknowledge(said.waits, before.pop(said.waits, None))
        raise AssertionError("it never ends")

    def acknowledge(self, step, before=None):
        if before:
            before()
        said = self.ack(step)
        expect(f"ack {step} ({said})", said.code, 0)

    def refused(self, step, *words):
        """An acknowledgement is refused, with all the words in its reason."""
        said = self.ack(step)
        expect(f"ack {step} is refused ({said})", said.code, 1)
        for word in words:
            expect_true(f"the reason says {word}: {said}", word in said.err)

    def stops(self, step, *words):
        said = self.run()
        expect(f"the run fails ({said})", said.code, 1)
        expect(f"at ({said})", self.failed(), [step])
        for word in words:
            expect_true(f"the reason says {word}: {self.note(step)}",
                        word in self.note(step))

    def rollback(self, *words):
        said = self("rollback", DOMAIN, *words)
        expect(f"rollback ({said})", said.code, 0)

    def picture(self):
        box, found = BOXES[1], {}
        self._pictures += 1
        sides = {"old": self.lab.old, "new": self.lab.new}
        ids = {f"picture-{self._pictures}-by-{by}": f"by {by}" for by in sides}
        for (id, _), side in zip(ids.items(), sides.values()):
            reply = side.postfix.smtp("someone@senders.test", [box],
                                      message(id, to=box))
            expect_true(f"{id} is accepted: {reply}", reply.accepted)

        def arrived():
            found.clear()
            for name, side in sides.items():
                for it in self.boxes(side, [box])[box]:
                    if it.id in ids:
                        found.setdefault(ids[it.id], []).append(name)
            return len(found) == len(ids)
        wait_until(arrived, 60, f"{list(ids)} arrive", interval=0.2)
        return {"records": self.zone(), "homes": self.homes(), "mail": found}

    def back_to(self, picture, *words):
        for _ in range(ACKS_MAX):
            said = self("rollback", DOMAIN, *words)
            if said.code == 0:
                break
            expect_true(f"rollback waits for a person: {said}",
                        said.code == 75 and said.waits)
            self.acknowledge(said.waits)
        for what, now in self.picture().items():
            expect(f"after rollback: {what}", now, picture[what])

    # what there is

    def status(self):
        return json.loads(self("status", DOMAIN, "--json").out)

    def steps(self):
        return {step["id"]: step for step in self.status()["steps"]}

    def states(self):
        return {id: step["state"] for id, step in self.steps().items()}

    def note(self, step):
        return self.steps()[step]["note"] or ""

    def failed(self):
        return [id for id, state in self.states().items() if state == "failed"]

    def zone(self):
        return {server.directory: server.dump(DOMAIN)
                for server in (self.first, self.second)}

    def record(self, owner, ttl, type, data):
        """Somebody changes the zone by hand; both servers have it."""
        self.first.set(DOMAIN, owner, ttl, type, data)
        wait_until(lambda: self.first.live(DOMAIN, "SOA") == self.second.live(
            DOMAIN, "SOA"), 20, "the zone is transferred")

    def homes(self):
        flat = self.lab.redis.command("HGETALL", f"sluice:home:{DOMAIN}")
        return {local: record[0] for local, record in zip(flat[::2], flat[1::2])}

    def boxes(self, side, addresses=None):
        return read_imap(side.dovecot.imap_port, addresses or BOXES, PASSWORD)

    def on_new_side(self, address, there):
        """Whether the new side has this mailbox."""
        new = self.lab.new
        if there:
            new.dovecot.add_users([address])
            new.postfix.add_mailboxes([address])
        else:
            new.dovecot.remove_user(address)
            new.postfix.remove_mailbox(address)
        if new.postfix.running:  # smtpd sees a change of the table once a second
            new.postfix.reload()

    def counted(self, *clients):
        """What sluice-milter counts is in Redis within seconds."""
        def there():
            code, out, _ = self.lab.old.sluice.cli("auth", "report", DOMAIN)
            return code == 0 and all(client in out for client in clients)
        wait_until(there, 30, f"{clients} are counted", interval=0.2)

    def killer(self):
        return Killer(self)

    def filter(self, side):
        made = Filter(self.lab, side)
        self._filters.append(made)
        return made

    def stop(self):
        for made in self._filters:
            made.postfix.stop()
        if self.web:
            self.web.stop()


class Services:
    """What clients use: IMAP and submission of the old server on ports of their own,
    which two programs switch off and on, as the servers' own configuration does;
    on the new one both, with TLS and a certificate for localhost and web.DOMAIN, and
    a web client (web, a Web)."""

    def __init__(self, lab):
        self._lab = lab
        self.directory = os.path.join(lab.directory, "services")
        os.makedirs(self.directory)
        self.old_imap, self.old_submission, self.new_imaps, self.new_submission = (
            lab._ports.take() for _ in range(4))
        self.certificate = os.path.join(self.directory, "cert.pem")
        self._key = os.path.join(self.directory, "key.pem")
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90",
             "-subj", "/CN=localhost", "-addext",
             f"subjectAltName=DNS:localhost,DNS:web.{DOMAIN}",
             "-keyout", self._key, "-out", self.certificate])
        self.web = Web(self.certificate, self._key)
        self.web.pages["/"] = (200, {}, "<title>Mail</title>")
        self._old()
        self._new()

    def settings(self):
        return {"old_imap": f"127.0.0.1:{self.old_imap}",
                "old_submission": f"127.0.0.1:{self.old_submission}",
                "new_imap_tls": f"localhost:{self.new_imaps}",
                "new_submission": f"localhost:{self.new_submission}",
                "services_off": self.program("off"),
                "services_on": self.program("on")}

    def program(self, name):
        return os.path.join(self.directory, name)

    def _old(self):
        dovecot, postfix = self._lab.old.dovecot, self._lab.old.postfix
        public = self.public = os.path.join(self.directory, "public.conf")
        text = ("service imap-login {\n inet_listener public {\n"
                f"  address = 127.0.0.1\n  port = {self.old_imap}\n }}\n}}\n")
        dovecot.extra += f"!include_try {public}\n"
        service = f"127.0.0.1:{self.old_submission}"
        postfix.master(f"{service} inet n - n - - smtpd\n")
        reload = (f"doveadm -c {dovecot.config} reload\n"
                  f"postfix -c {postfix.config} reload\n")
        self._write("off", f"rm -f {public}\npostconf -c {postfix.config} -MX "
                           f"'{service}/inet'\n{reload}")
        self._write("on", f"cat >{public} <<'END'\n{text}END\n"
                          f"postconf -c {postfix.config} -M "
                          f"'{service}/inet={service} inet n - n - - smtpd'\n{reload}")
        with open(public, "w", encoding="utf-8") as file:
            file.write(text)

    def _new(self):
        self._lab.new.dovecot.extra += (
            f"ssl = yes\nssl_cert = <{self.certificate}\nssl_key = <{self._key}\n"
            "service imap-login {\n inet_listener imaps {\n"
            f"  port = {self.new_imaps}\n  ssl = yes\n }}\n}}\n")
        self._lab.new.postfix.master(
            f"127.0.0.1:{self.new_submission} inet n - n - - smtpd\n"
            "  -o smtpd_tls_security_level=may\n"
            f"  -o smtpd_tls_cert_file={self.certificate}\n"
            f"  -o smtpd_tls_key_file={self._key}\n")

    def _write(self, name, text):
        with open(self.program(name), "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nset -eu\n{text}")
        os.chmod(self.program(name), 0o755)


class Filter:
    """A mail filter's place in the chain: takes mail of the domain, passes it on."""

    def __init__(self, lab, side):
        directory = os.path.join(lab.directory, "filter")
        os.makedirs(directory)
        self.postfix = Postfix(directory, "filter", lab._ports.take(), 1)
        self.postfix.postconf(virtual_mailbox_domains="", relay_domains=DOMAIN)
        self._point(side)
        self.postfix.start()

    @property
    def smtp(self):
        return f"127.0.0.1:{self.postfix.port}"

    def point(self, side):
        self._point(side)
        self.postfix.reload()

    def turn(self, side):
        """The same, and no process remembers the old route."""
        self.postfix.stop()
        self._point(side)
        self.postfix.start()

    def _point(self, side):
        self.postfix.postconf(transport_maps=(
            f"inline:{{{{{DOMAIN}=smtp:[127.0.0.1]:{side.postfix.port}}}}}"))


class Killer:
    """Ends `run` and all that it started by SIGKILL when a step has begun.

    run()         as play.run(), killed once at every step and run again; `killed` are
                  the steps
    """

    def __init__(self, play):
        self.play = play
        self.killed = []
        self._last = play.lab.redis.command(
            "XREVRANGE", "sluice:events", "+", "-", "COUNT", "1")[0][0]

    def run(self):
        while True:
            begun, said = self._run(lambda step: step not in self.killed)
            if not begun:
                return said
            self.killed.append(begun)

    def _run(self, wanted):
        """The step at whose beginning it was killed, or None and what it said."""
        self._begun()
        with subprocess.Popen(
                self.play.argv("run", DOMAIN, "--wait"), text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, env=self.play.env,
                start_new_session=True) as runner:
            said = []
            reader = threading.Thread(
                target=lambda: said.extend(runner.communicate()))
            reader.start()
            begun = None
            while not begun and runner.poll() is None:
                begun = next(filter(wanted, self._begun()), None)
            if begun:
                kill_tree(runner.pid)
            reader.join(RUN_S)
            return begun, Said(runner.returncode, *said)

    def _begun(self):
        """Steps that were recorded as running since the last look."""
        found = self.play.lab.redis.command(
            "XREAD", "COUNT", "100", "BLOCK", "20", "STREAMS", "sluice:events",
            self._last)
        begun = []
        for id, fields in found[0][1] if found else []:
            self._last = id
            event = dict(zip(fields[::2], fields[1::2]))
            if event["op"] == "playbook":
                begun += running_steps(event)
        return begun


def running_steps(event):
    """Of an event's body, lines "step TAB epoch TAB state TAB ...": those of steps
    that run now."""
    rows = [line.split("\t") for text in event.values()
            for line in text.split("\n")]
    return [row[0] for row in rows if len(row) > 3 and row[0] and row[2] == "r"]


def kill_tree(pid):
    """SIGKILL to a process and all below it."""
    pids, found = [pid], []
    while pids:
        here = pids.pop()
        found.append(here)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{here}/task"):
                with open(f"/proc/{here}/task/{task}/children",
                          encoding="utf-8") as file:
                    pids += [int(word) for word in file.read().split()]
    for here in found:
        with contextlib.suppress(OSError):
            os.kill(here, signal.SIGKILL)


@contextlib.contextmanager
def play_case(records, plan, prepare=None, extra="", **options):
    servers = []

    def prepare_all(lab):
        lab.play = _make_dns(lab, records)
        servers.extend(server for server in lab.play[:3] if server is not lab.dns)
        old = lab.old.sluice
        first, _, parent, key_file = lab.play
        for side in (lab.old, lab.new):
            side.sluice.fence = "reload"
        old.extra = (f'playbooks = "{PLAYBOOKS}"\n'
                     f'dns {{\n resolvers = {{"{first.server}"}}\n'
                     f' parent = {{"{parent.server}"}}\n port = {first.port}\n'
                     f' key-file = "{key_file}"\n timeout = 1000\n}}\n')
        old.domains[DOMAIN] = lab.domain_section(lab.old, extra + plan)
        if prepare:
            prepare(lab)

    def stop_servers():
        for server in servers:
            if server.running:
                server.stop()

    with contextlib.ExitStack() as stack:
        stack.callback(stop_servers)  # when the lab does not even start
        lab = stack.enter_context(sluice_lab(BOXES, prepare=prepare_all, **options))
        stack.callback(stop_servers)
        play = Play(lab, *lab.play[:2])
        stack.callback(play.stop)
        yield play


def _make_dns(lab, records):
    """The domain's zone on two servers, and a parent that delegates it. With
    auth=True the lab's own server is the primary: verification sees the move."""
    key = Tsig("sluice-key")
    key_file = os.path.join(lab.directory, "tsig.key")
    key.write(key_file)
    port = lab.dns.port if lab.dns else lab._ports.take()
    first = lab.dns or Dns(os.path.join(lab.directory, "zone"), port)
    second = Dns(os.path.join(lab.directory, "zone2"), lab._ports.take())
    second.also_listen = [f"127.0.0.2@{port}"]
    parent = Dns(os.path.join(lab.directory, "parent"), lab._ports.take())
    parent.zone("com", ["example NS ns.example", "example NS ns2.example",
                        "ns.example A 127.0.0.1", "ns2.example A 127.0.0.2"])
    first.allow_updates(key)
    if callable(records):
        records = records(lab)
    first.zone(DOMAIN, ["@ NS ns2", "ns2 A 127.0.0.2", *records])
    second.follow(first, DOMAIN)
    for server in (parent, first, second):
        if not server.running:
            server.start()
    return first, second, parent, key_file


__all__ = ["BOXES", "DOMAIN", "PASSWORD", "Play", "expect", "expect_true",
           "message", "play_case", "wait_until"]
