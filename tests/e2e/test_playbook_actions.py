"""The built-in actions of playbooks, each with the real servers, and each with both
verdicts: it passes, and it fails with its reason.

Contract
  with action_lab() as actions    a lab of two sides; actions.lab
  actions(*steps)                 a playbook of these steps (action, argument, ...) is
      begun anew and run; the result of the last one: Result(state, note). A step that
      fails is the last one
  actions.good(*step)             its note; the step must be done
  actions.bad(*step)              its note; the step must have failed
  actions.paper(name)             text of an artefact
"""

import contextlib
import csv
import io
import json
import os
import re
import socket
import subprocess
import threading
from collections import namedtuple

from harness import expect, expect_true, message, sluice_lab, wait_until
from lab import OUTSIDE
from parts.dovecot import PASSWORD
from parts.process import run

DOMAIN = "example.com"
A, B, C = (f"{name}@{DOMAIN}" for name in "abc")
Result = namedtuple("Result", "state note")
UNDO = {"command", "each", "sync", "lock", "flip", "unlock", "rollback", "back",
        "notice-send", "cutover", "import"}


class Actions:
    def __init__(self, lab):
        self.lab = lab
        self.count = 0
        self.directory = os.path.join(lab.old.sluice.state, "playbook", DOMAIN)

    def cli(self, *words):
        return self.lab.old.sluice.cli("playbook", *words)

    def __call__(self, *steps, settings=()):
        self.begin(*steps, settings=settings)
        return self.go_on()

    def begin(self, *steps, settings=()):
        self.count += 1
        text = 'title = "Actions"\n' + "".join(
            f'setting "{name}" {{ about = "x" default = {json.dumps(value)} }}\n'
            for name, value in settings) + 'phase "P" {\n'
        for at, step in enumerate(steps):
            action = ", ".join(json.dumps(str(word)) for word in step)
            undo = 'undo = {"nothing"}' if step[0] in UNDO else ""
            text += (f'step "s{self.count}-{at}" {{ title = "T" owner = "sluice" '
                     f'action = {{{action}}} {undo} }}\n')
        path = self.file("actions.conf", text + "}\n")
        code, out, err = self.cli("start", path, DOMAIN, "--replace")
        expect(f"start ({out} {err})", code, 0)

    def go_on(self):
        """Runs it (again); the last step that was begun."""
        code, out, err = self.cli("run", DOMAIN)
        steps = json.loads(self.cli("status", DOMAIN, "--json")[1])["steps"]
        begun = [step for step in steps if step["state"] != "pending"]
        expect_true(f"something ran ({code} {out} {err})", begun)
        return Result(begun[-1]["state"], begun[-1]["note"])

    def good(self, *steps, settings=()):
        steps = [steps] if isinstance(steps[0], str) else steps
        result = self(*steps, settings=settings)
        expect(f"{steps[-1][0]}: {result.note}\n{self.log()}", result.state, "done")
        return result.note

    def bad(self, *steps, settings=()):
        steps = [steps] if isinstance(steps[0], str) else steps
        result = self(*steps, settings=settings)
        expect(f"{steps[-1][0]}: {result.note}", result.state, "failed")
        return result.note

    def log(self, step=0):
        with contextlib.suppress(FileNotFoundError):
            return self.paper(f"s{self.count}-{step}.log")
        return ""

    def paper(self, name):
        with open(os.path.join(self.directory, name), encoding="utf-8",
                  newline="") as file:
            return file.read()

    def rows(self, name):
        return list(csv.DictReader(io.StringIO(self.paper(name))))

    def file(self, name, text, mode=0o600):
        path = os.path.join(self.lab.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def people(self, name, *addresses, password=PASSWORD):
        return self.file(name, "address,password\n" + "".join(
            f"{address},{password}\n" for address in addresses))


@contextlib.contextmanager
def action_lab(boxes=(A, B), prepare=None, **options):
    def fenced(lab):
        for side in (lab.old, lab.new):
            side.sluice.fence = "reload"
        if prepare:
            prepare(lab)
    with sluice_lab(list(boxes), prepare=fenced, **options) as lab:
        yield Actions(lab)


def contains(what, text, *parts):
    for part in parts:
        expect_true(f"{what}: \"{part}\" in: {text}", part in text)


# ---- certificates -----------------------------------------------------------------


class Certificates:
    """A CA of our own, and what it signs."""

    def __init__(self, directory):
        os.makedirs(directory)
        self.directory = directory
        self.ca = self.path("ca.pem")
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
             "-subj", "/CN=Lab CA", "-keyout", self.path("ca.key"), "-out", self.ca])

    def path(self, name):
        return os.path.join(self.directory, name)

    def sign(self, name, names, days):
        """name.pem and name.key, for these DNS names."""
        extensions = self.path(f"{name}.ext")
        with open(extensions, "w", encoding="utf-8") as file:
            file.write("subjectAltName=" + ",".join(f"DNS:{each}" for each in names))
        run(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
             "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.csr")])
        run(["openssl", "x509", "-req", "-in", self.path(f"{name}.csr"), "-CA", self.ca,
             "-CAkey", self.path("ca.key"), "-CAcreateserial", "-days", str(days),
             "-extfile", extensions, "-out", self.path(f"{name}.pem")])
        return (f"ssl_cert = <{self.path(name)}.pem\n"
                f"ssl_key = <{self.path(name)}.key\n")


SECURE = """\
ssl = yes
ssl_min_protocol = TLSv1.2
{default}
local_name expired.example.com {{
{expired}}}
local_name soon.example.com {{
{soon}}}
local_name wrong.example.com {{
{wrong}}}
service imap-login {{
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
"""


def server_lab():
    """The new side speaks TLS with certificates of our CA; names in a DNS."""
    def prepare(lab):
        made = Certificates(os.path.join(lab.directory, "certificates"))
        lab.ca, lab.imaps = made.ca, lab._ports.take()
        lab.new.dovecot.extra = SECURE.format(
            port=lab.imaps,
            default=made.sign("good", ["localhost", "web.example.com"], 90),
            expired=made.sign("expired", ["expired.example.com"], -1),
            soon=made.sign("soon", ["soon.example.com"], 3),
            wrong=made.sign("wrong", ["other.example.com"], 90))
        lab.dns.zone(DOMAIN, ["web 5 CNAME tenant.hoster", "tenant.hoster 5 A 127.0.0.1",
                              "dangling 5 CNAME nowhere.hoster",
                              "expired 5 A 127.0.0.1"])
        lab.old.sluice.extra = f'dns {{ resolvers = {{"{lab.dns.server}"}} }}\n'
    return action_lab(prepare=prepare, auth=True)


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_ports(actions):
    lab = actions.lab
    imap, smtp = (f"127.0.0.1:{lab.new.dovecot.imap_port}",
                  f"127.0.0.1:{lab.new.postfix.port}")
    closed = f"127.0.0.1:{closed_port()}"
    expect("an open port", actions.good("port", imap, "open"), f"{imap}: open")
    contains("a greeting", actions.good("port", imap, "imap"), "greets")
    contains("a greeting", actions.good("port", smtp, "smtp"), "greets")
    contains("the wrong service", actions.bad("port", smtp, "imap"),
             "nothing there speaks imap")
    contains("nothing listens", actions.bad("port", closed, "open"), "Connection refused",
             "start the service")
    contains("switched off", actions.good("port", closed, "refused"), "refused")
    contains("not switched off", actions.bad("port", imap, "refused"),
             "still accepts connections: switch the service off")
    contains("a slip", actions.bad("port", imap, "shut"), '"shut" is not')


def check_tls(actions):
    lab = actions.lab
    ca, tls = f"ca={lab.ca}", lab.imaps
    contains("a good one", actions.good("tls", f"localhost:{tls}", ca), "is good for 89")
    contains("STARTTLS", actions.good(
        "tls", f"localhost:{lab.new.dovecot.imap_port}", "imap", ca), "is good for 89")
    contains("a CA that is not known", actions.bad("tls", f"localhost:{tls}"),
             "not good: unable to get local issuer certificate", "ca=FILE")
    contains("expired", actions.bad("tls", f"expired.example.com:{tls}", "at=127.0.0.1",
                                    ca), "certificate has expired")
    contains("ends soon", actions.bad("tls", f"soon.example.com:{tls}", "at=127.0.0.1",
                                      ca), "ends in 2 days: renew it")
    contains("another name", actions.bad("tls", f"wrong.example.com:{tls}",
                                         "at=127.0.0.1", ca),
             "for other names: other.example.com")
    contains("no STARTTLS", actions.bad(
        "tls", f"localhost:{lab.new.postfix.port}", "smtp", ca), "offers no STARTTLS")
    contains("no TLS at all", actions.bad(
        "tls", f"localhost:{lab.old.dovecot.imap_port}", ca), "does not speak TLS")
    contains("no CA", actions.bad("tls", f"localhost:{tls}", "ca=/nonexistent"),
             "/nonexistent: no certificates")


def check_access(actions):
    tls, ca = actions.lab.imaps, f"ca={actions.lab.ca}"
    note = actions.good("access", f"web.example.com:{tls}", ca)
    contains("one name", note, "1 access names resolve")
    contains("where it leads", actions.log(), "tenant.hoster.example.com 127.0.0.1")
    contains("no address behind it", actions.bad(
        "access", f"dangling.example.com:{tls}", ca), "nowhere.hoster.example.com has no")
    note = actions.bad("access", f"web.example.com:{tls}", f"expired.example.com:{tls}",
                       f"missing.example.com:{tls}", ca)
    contains("several", note, "2 of 3 access names do not work")
    contains("each is named", actions.log(), "certificate has expired",
             "missing.example.com has no address")


def check_logins(actions):
    lab = actions.lab
    plain = f"127.0.0.1:{lab.old.dovecot.imap_port}"
    tls = f"localhost:{lab.imaps}"
    people = actions.people("users.csv", A, B)
    contains("plain, on loopback", actions.good("imap-login", plain, people),
             "all 2 accounts log in")
    contains("TLS", actions.good("imap-login", tls, people, "tls", f"ca={lab.ca}"),
             "all 2 accounts log in")
    contains("STARTTLS", actions.good(
        "imap-login", f"localhost:{lab.new.dovecot.imap_port}", people, "starttls",
        f"ca={lab.ca}"), "all 2 accounts log in")
    actions.bad("imap-login", tls, people, "tls")
    contains("a CA that is not known", actions.log(), "ca=FILE")
    wrong = actions.file("wrong.csv", f"address,password\n{A},{PASSWORD}\n{B},sesame\n")
    contains("a wrong password", actions.bad("imap-login", plain, wrong),
             "1 of the accounts", "wrong.csv")
    contains("who", actions.log(), B, "right the password")
    expect_true("the password is nowhere", "sesame" not in actions.log())
    contains("others may read it", actions.bad("imap-login", plain, actions.file(
        "open.csv", f"address,password\n{A},x\n", 0o644)), "chmod 0600")
    contains("a server that is down", actions.bad(
        "imap-login", f"127.0.0.1:{closed_port()}", people), "2 of the accounts")


def check_sizes(actions):
    lab = actions.lab
    people = actions.people("users.csv", A, B)
    old, new = (f"127.0.0.1:{side.dovecot.imap_port}" for side in (lab.old, lab.new))
    texts = [message(f"size-{n}").encode() for n in range(3)]
    lab.old.dovecot.seed(A, texts)
    lab.old.dovecot.seed(A, texts[:1], folder="Sent")
    lab.new.dovecot.seed(A, texts[:2])
    note = actions.good("imap-sizes", old, people)
    contains("the sum", note, "2 mailboxes, 4 messages")
    rows = actions.rows(f"s{actions.count}-0.csv")
    expect("one row each", [(row["address"], row["messages"]) for row in rows],
           [(A, "4"), (B, "0")])
    expect("bytes", int(rows[0]["bytes"]) >= 4 * len(texts[0]), True)
    note = actions.bad("counts", old, new, people)
    contains("copied in part", note, "1 of 2 mailboxes have fewer messages on the new side "
             "(2 in all)", "sync them again")
    lab.new.dovecot.seed(A, texts[2:])
    lab.new.dovecot.seed(A, texts[:1], folder="Sent")
    contains("when mended", actions.go_on().note, "none has fewer on the new side")
    contains("a mailbox that is not there", actions.bad(
        "imap-sizes", old, actions.people("others.csv", f"nobody@{DOMAIN}")),
        "1 mailboxes cannot be counted")


def check_flow(actions):
    lab = actions.lab
    people = actions.people("users.csv", A)
    smtp, imap = (f"127.0.0.1:{lab.old.postfix.port}",
                  f"127.0.0.1:{lab.old.dovecot.imap_port}")
    contains("it arrives", actions.good("flow", smtp, imap, people), A, "arrived after")
    expect("and is tidied away", lab.read_old([A])[A], [])
    contains("through a host", actions.bad("flow", smtp, imap, people,
                                           f"not-through={lab.old.postfix.hostname}"),
             f"went through {lab.old.postfix.hostname}")
    actions.good("flow", smtp, imap, people, "not-through=somewhere.else")
    contains("looked for in the wrong place", actions.bad(
        "flow", smtp, f"127.0.0.1:{lab.new.dovecot.imap_port}", people, "within=2s"),
        "accepted a message", "not in its INBOX", "after 2 s")
    contains("not accepted", actions.bad(
        "flow", smtp, imap, actions.people("other.csv", f"nobody@{DOMAIN}")), "nobody")
    contains("no server", actions.bad("flow", f"127.0.0.1:{closed_port()}", imap, people),
             "is not accepted")


def check_catchall(actions):
    lab = actions.lab
    smtp, imap = (f"127.0.0.1:{lab.new.postfix.port}",
                  f"127.0.0.1:{lab.new.dovecot.imap_port}")
    people = actions.people("users.csv", A)
    contains("refused at RCPT", actions.good("catchall", smtp), "refuses an address that "
             "nobody has")
    # Judged later: the server takes any address, Dovecot refuses, a bounce goes back.
    lab.new.postfix.postconf(virtual_mailbox_maps="static:all")
    lab.new.postfix.reload()
    wait_until(lambda: "accepts mail" in actions.bad("catchall", smtp), 20,
               "Postfix takes any recipient")
    contains("by its bounce", actions.good("catchall", smtp, imap, people),
             "accepts at RCPT, and returns mail")
    lab.new.postfix.virtual_alias(f"@{DOMAIN}", A)
    lab.new.postfix.virtual_alias(A, A)
    lab.new.postfix.postconf(
        virtual_mailbox_maps=f"hash:{lab.new.postfix.config}/mailboxes")
    lab.new.postfix.reload()
    contains("a real one", actions.bad("catchall", smtp), "switch the catch-all off")


def test_servers_and_names():
    with server_lab() as actions:
        check_ports(actions)
        check_tls(actions)
        check_access(actions)
        check_logins(actions)
        check_sizes(actions)
        check_flow(actions)
        check_catchall(actions)
