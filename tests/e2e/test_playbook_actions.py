"""The built-in actions of playbooks, each with the real servers, and each with both
verdicts: it passes, and it fails with its reason.

Contract
  with action_lab() as actions    a lab of two sides; actions.lab
  actions(*steps)                 a playbook of these steps (action, argument, ...) is
      begun anew and run; the result of the last one: Result(state, note). A step that
      fails is the last one
  actions.good(*step)             its note; the step must be done
  actions.bad(*step)              its note; the step must have failed
  actions.stops(step, mend, *words)   the run stops at the step with these words in its
      reason (for what waits: in its log), and goes on to its end after mend()
  actions.paper(name)             text of an artefact
"""

import contextlib
import csv
import importlib
import inspect
import io
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import namedtuple
from types import SimpleNamespace

from cli_case import BINDIR, cli_case
from dns_case import DOMAIN as ZONE
from dns_case import RECORDS, dns_case
from harness import Timeout, expect, expect_true, message, sluice_lab, wait_until
from lab import OUTSIDE
from parts.dns import Tsig, txt
from parts.dovecot import PASSWORD
from parts.process import Child, Ports, accepts, run
from parts.redis import Redis
from web_case import Web, make_certificate, mozilla_answer, outlook_answer

DOMAIN = "example.com"
A, B, C = (f"{name}@{DOMAIN}" for name in "abc")
Result = namedtuple("Result", "state note")
UNDO = {"command", "each", "sync", "lock", "flip", "unlock", "rollback", "back",
        "notice-send", "cutover", "import", "relock", "dns-apply", "dns-lower", "dns-back"}


# Where each action is seen to stop a run: here, by test; an action in none of these is
# an error of test_every_action_stops_somewhere().
STOPS = {
    "test_servers_and_names": {
        "access", "autodiscover", "backup", "catchall", "counts", "doctor", "flow",
        "imap-login", "imap-sizes", "import", "import-back", "monitor", "ping", "port", "probe",
        "signature", "status", "tls", "web"},
    "test_people_and_papers": {
        "check-command", "class", "class-check", "command", "csv", "document", "each",
        "inventory", "notice", "notice-send", "plan", "postconf", "report", "sync",
        "synced"},
    "test_who_sends": {
        "applications", "baseline", "contacts", "histogram", "senders", "senders-pass",
        "signed"},
    "test_homes_and_held_mail": {
        "audit", "back", "cutover", "flip", "home", "lock", "quiet", "relock", "rollback",
        "unheld", "unlock"},
    "test_dns_actions": {
        "dns-access", "dns-apply", "dns-back", "dns-check", "dns-diff", "dns-lower", "dns-lowered",
        "dns-rules", "dns-servers", "dns-snapshot", "dns-wait"},
}
# ... or elsewhere: file and test.
STOPS_ELSEWHERE = {
    "acknowledge": ("test_play_smarsh", "test_smarsh_behind_a_filter"),
    "rehearsed": ("test_playbook", "test_rehearsed"),
    "timer": ("test_playbook", "test_timer_is_not_gone_past"),
}
NEVER = {"nothing"}


class Actions:
    def __init__(self, lab, domain=DOMAIN):
        self.lab, self.domain = lab, domain
        self.count = 0
        self.steps, self.stopped = [], set()
        self.directory = os.path.join(lab.old.sluice.state, "playbook", domain)

    def cli(self, *words):
        return self.lab.old.sluice.cli("playbook", *words)

    def __call__(self, *steps, settings=()):
        self.begin(*steps, settings=settings)
        return self.go_on()

    def begin(self, *steps, settings=(), undo=("nothing",)):
        self.count += 1
        self.steps = steps
        text = 'title = "Actions"\n' + "".join(
            f'setting "{name}" {{ about = "x" default = {json.dumps(value)} }}\n'
            for name, value in settings) + 'phase "P" {\n'
        for at, step in enumerate(steps):
            action = ", ".join(json.dumps(str(word)) for word in step)
            back = ", ".join(json.dumps(word) for word in undo)
            way = f"undo = {{{back}}}" if step[0] in UNDO else ""
            text += (f'step "s{self.count}-{at}" {{ title = "T" owner = "sluice" '
                     f'action = {{{action}}} {way} }}\n')
        path = self.file("actions.conf", text + "}\n")
        code, out, err = self.cli("start", path, self.domain, "--replace")
        expect(f"start ({out} {err})", code, 0)

    def go_on(self):
        """Runs it (again); the last step that was begun."""
        code, out, err = self.cli("run", self.domain)
        document = json.loads(self.cli("status", self.domain, "--json")[1])
        expect_true(f"the run is known: {document}", "steps" in document)
        steps = document["steps"]
        begun = [step for step in steps if step["state"] != "pending"]
        expect_true(f"something ran ({code} {out} {err})", begun)
        if begun[-1]["state"] in ("failed", "waiting for time"):
            self.stopped.add(self.steps[len(begun) - 1][0])
        return Result(begun[-1]["state"], begun[-1]["note"])

    def until(self, again, state, timeout=20):
        """Polls again() until a step has that state; its note."""
        results = []

        def there():
            results.append(again())
            return results[-1].state == state
        try:
            wait_until(there, timeout, f"a step is {state}")
        except Timeout as error:
            raise AssertionError(f"{error}: {results[-1]}\n{self.log()[-4000:]}") from error
        return results[-1].note

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

    def stops(self, step, mend, *words, before=None):
        self.begin(step)
        if before:
            before()
        result = self.go_on()
        expect_true(f"{step[0]} stops: {result}\n{self.log()}",
                    result.state in ("failed", "waiting for time"))
        contains(step[0], result.note + self.log(), *words)
        mend()
        return self.until(self.go_on, "done", 60)

    def stops_back(self, undo, mend, *words, before):
        """The same on the way back, from where the present run stands."""
        before()
        code, out, err = self.cli("rollback", self.domain)
        expect_true(f"{undo} stops ({code}): {out} {err}", code not in (0, 75))
        contains(undo, err, *words)
        mend()
        code, out, err = self.cli("rollback", self.domain)
        expect(f"{undo}, when mended ({out} {err})", code, 0)
        self.stopped.add(undo)

    def in_the_way(self, step, paper):
        """The place of a step's paper is taken by a directory."""
        path = os.path.join(self.directory, paper)
        self.stops(step, lambda: os.rmdir(path), paper, "s a directory",
                   before=lambda: os.mkdir(path))

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


def all_stopped(actions, test):
    """Every action of the table was seen to stop a run."""
    expect(f"{test}: which actions stop", STOPS[test] - actions.stopped, set())


def test_every_action_stops_somewhere():
    with cli_case(init=False) as case:
        listed = case.sluice("playbook", "actions", "--json").json["actions"]
    known = {action["name"] for action in listed}
    shown = set().union(*STOPS.values(), STOPS_ELSEWHERE, NEVER)
    expect("actions whose failing verdict is shown nowhere", known - shown, set())
    expect("actions that are not there", shown - known, set())
    for name in STOPS:
        expect_true(f"{name} looks: {name}", f'all_stopped(actions, "{name}")' in
                    inspect.getsource(globals()[name]))
    for module, test in STOPS_ELSEWHERE.values():
        expect_true(f"{module}:{test} is there",
                    hasattr(importlib.import_module(module), test))


def open_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


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


PROBE = """\
dns {{
  resolvers = {{"{dns}"}}
}}
mailbox "box" {{
  imap = "127.0.0.1:{imap}"
  tls = none
  user = "{user}"
  password-file = "{secret}"
}}
ping "inbound" {{
  smtp = "127.0.0.1:{smtp}"
  to = "{user}"
  mailboxes = {{"box"}}
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
                              "autodiscover 5 CNAME tenant.hoster",
                              "_imaps._tcp 1 SRV 0 0 0 .",
                              "lab._domainkey 5 TXT " + txt(lab.keys[DOMAIN].record),
                              "expired 5 A 127.0.0.1"])
        # Mail from a trusted host is not verified, and here all is one host.
        lab.old.sluice.auth = lab.old.sluice.auth.replace("127.0.0.1/32", "203.0.113.1/32")
        secret = os.path.join(lab.directory, "probe.password")
        with open(secret, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(PASSWORD)
        lab.old.sluice.extra = PROBE.format(
            dns=lab.dns.server, imap=lab.old.dovecot.imap_port,
            smtp=lab.old.postfix.port, user=A, secret=secret)
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
    contains("a wrong password", actions.bad("imap-login", plain, wrong), B,
             "right the password in the file")
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
             "(2 in all)", f"copy them again: sluice playbook rollback {DOMAIN} --to STEP")
    lab.new.dovecot.seed(A, texts[2:])
    lab.new.dovecot.seed(A, texts[:1], folder="Sent")
    contains("when mended", actions.go_on().note, "none has fewer on the new side")
    contains("a mailbox that is not there", actions.bad(
        "imap-sizes", old, actions.people("others.csv", f"nobody@{DOMAIN}")),
        f"nobody@{DOMAIN}: ")


def check_counts_since(actions):
    """Mail that came to the old side since a mailbox was copied is no fault; anything
    else that the new side lacks is."""
    lab = actions.lab
    old, new = (f"127.0.0.1:{side.dovecot.imap_port}" for side in (lab.old, lab.new))
    people = actions.people("users.csv", A, B)

    def sync():
        """The first step, whose name is the result."""
        actions.begin(("sync", A, B), ("counts", old, new, people,
                                       f"copied=s{actions.count + 1}-0"))
        return f"s{actions.count}-0"

    first = sync()
    contains("the copies are equal", actions.go_on().note, "none has fewer on the new side")
    lab.old.dovecot.seed(A, [message("since-1").encode()])
    step = ("counts", old, new, people)
    contains("strict", actions.bad(*step), "1 of 2 mailboxes have fewer")
    contains("of another run", actions.bad(*step, f"copied={first}"),
             f"{first}.journal: no sync of this run", f"run the step {first} first")
    contains("a slip", actions.bad(*step, "copid=x"), "copied=")

    # What came before the copy began does so by two seconds, which the journal has not.
    came = time.time()
    wait_until(lambda: time.time() > came + 2, 10, "the copy is later")
    first = sync()
    expect("copied", actions.go_on().state, "done")
    lab.old.dovecot.seed(A, [message("since-2").encode()])
    lab.old.dovecot.seed(A, [message("since-3").encode()], folder="Sent")
    again = ("rollback", DOMAIN, "--to", f"s{actions.count}-1")
    expect("back to the count", actions.cli(*again)[0], 0)
    contains("it came since", actions.go_on().note, "none lacks one on the new side but "
             f"what came since {first}: 1 have such ones")
    rows = {row["address"]: row for row in actions.rows(f"s{actions.count}-1.csv")}
    expect("the paper", [(rows[box]["came since"], rows[box]["what"]) for box in (A, B)],
           [("2", "came since the copy"), ("", "")])
    # An older one that the copy has missed.
    lab.old.dovecot.seed(A, [message("missed").encode()], when=1_700_000_000)
    expect("back to the count", actions.cli(*again)[0], 0)
    lost = actions.go_on()
    expect(f"one is missing ({lost.note})", lost.state, "failed")
    contains("and named", actions.log(1), f"{A}: ", "of which 2 came since its copy")
    # The way out is the one that the message names.
    contains("the way out", lost.note, "(3 in all)",
             f"sluice playbook rollback {DOMAIN} --to {first}, and then run")
    code, out, err = actions.cli("rollback", DOMAIN, "--to", first)
    expect(f"the way out ({out} {err})", code, 0)
    contains("it works", actions.go_on().note, "none has fewer on the new side")
    # A mailbox that this copy was not of.
    lab.old.dovecot.seed(A, [message("since-4").encode()])
    note = actions.bad(("sync", B), ("counts", old, new, people,
                                     f"copied=s{actions.count + 1}-0"))
    contains("no copy of it", note, "1 of 2 mailboxes have fewer")
    contains("is named", actions.log(1), "no copy of it has ended well")


def check_flow(actions):
    lab = actions.lab
    people = actions.people("users.csv", A)
    smtp, imap = (f"127.0.0.1:{lab.old.postfix.port}",
                  f"127.0.0.1:{lab.old.dovecot.imap_port}")
    contains("it arrives", actions.good("flow", smtp, imap, people), A, "arrived after")
    expect("and is tidied away", [found for found in lab.read_old([A])[A]
                                  if "size-" not in str(found)], [])
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
    smtp, imap = (f"127.0.0.1:{lab.old.postfix.port}",
                  f"127.0.0.1:{lab.old.dovecot.imap_port}")
    people = actions.people("users.csv", A)
    # On the side that has the mailboxes: the other one passes mail on.
    contains("refused at RCPT", actions.good("catchall", smtp), "refuses an address that "
             "nobody has")
    # Judged later: the server takes any address, Dovecot refuses, a bounce goes back.
    lab.old.postfix.postconf(virtual_mailbox_maps="static:all")
    lab.old.postfix.reload()
    wait_until(lambda: "accepts mail" in actions.bad("catchall", smtp), 20,
               "Postfix takes any recipient")
    contains("by its bounce", actions.good("catchall", smtp, imap, people),
             "accepts at RCPT, and returns mail")
    lab.old.postfix.virtual_alias(f"@{DOMAIN}", A)
    lab.old.postfix.virtual_alias(A, A)
    lab.old.postfix.postconf(
        virtual_mailbox_maps=f"hash:{lab.old.postfix.config}/mailboxes")
    lab.old.postfix.reload()
    contains("a real one", actions.until(lambda: actions(("catchall", smtp)), "failed"),
             "switch the catch-all off")
    contains("which returns nothing", actions.bad(
        "catchall", smtp, imap, people, "within=3s"), "has not returned it within 3 s")


def check_empty_backup(actions, step, place):
    """Of a mailbox that got its first messages after the backup; another one is not
    there."""
    bad = f"the backup of {A}: "

    def made(when):
        for path, _, _ in os.walk(place):
            os.utime(path, (when, when))
    made(1_600_000_000)
    actions.bad(*step)
    expect_true(f"all came since: {actions.log()}", bad not in actions.log())
    actions.bad(*step, "newer=2d")
    contains("too old", actions.log(), f"{bad}its newest file is of 2020-09-1")
    # Files keep their time when they are copied, and so do directories: one that was
    # written when the messages were there already has lost them.
    made(1_600_000_000)
    os.utime(os.path.join(place, "cur"))
    actions.bad(*step)
    contains("lost", actions.log(), f"{bad}it has 0 messages", "of which 0 came since")
    os.rename(place, f"{place}.away")
    with open(f"{place}.mbox", "w", encoding="utf-8"):
        pass
    actions.bad(*step)
    contains("an empty mbox", actions.log(), f"{bad}it has 0 messages")
    os.utime(f"{place}.mbox", (1_600_000_000, 1_600_000_000))
    actions.bad(*step)
    expect_true(f"all came since: {actions.log()}", bad not in actions.log())
    os.unlink(f"{place}.mbox")
    os.rename(f"{place}.away", place)


def check_backup(actions):
    """A backup as rsync makes it (Maildirs), and as a mbox file; compared with the
    server it is of."""
    lab = actions.lab
    imap = f"127.0.0.1:{lab.old.dovecot.imap_port}"
    people = actions.people("users.csv", A, B)
    server = len(lab.read_old([A])[A])
    top = os.path.join(lab.directory, "backup")
    inbox = os.path.join(top, A, "cur")
    os.makedirs(inbox)
    step = ("backup", top, imap, people)
    contains("one is not there", actions.bad(*step), "the backup of 2 mailboxes is not good")
    contains("each is named", actions.log(), f"the backup of {B}: it is not in {top}",
             f"the backup of {A}: it has 0 messages, the server {server}")
    check_empty_backup(actions, step, os.path.join(top, A))
    for n in range(server):
        with open(os.path.join(inbox, f"{n}.x:2,S"), "wb") as file:
            file.write(message(f"kept-{n}").encode())
    os.makedirs(os.path.join(top, A, ".Sent", "new"))
    with open(os.path.join(top, f"{B}.mbox"), "w", encoding="utf-8") as file:
        file.write("From x@y Mon\nFrom: x\n\nFrom \nhere\nFrom the middle\n")
    note = actions.go_on().note
    contains("good", note, "the backup of all 2 mailboxes can be read",
             f"{server + 2} messages")
    rows = {row["address"]: row for row in actions.rows(f"s{actions.count}-0.csv")}
    expect("figures", [(rows[box]["messages on the server"], rows[box]["messages"])
                       for box in (A, B)], [(str(server), str(server)), ("0", "2")])
    with open(os.path.join(inbox, "0.x:2,S"), "wb"):
        pass
    contains("an empty file", actions.bad(*step), f"the backup of {A}: 1 files of it cannot",
             "0.x:2,S: is empty")
    os.unlink(os.path.join(inbox, "0.x:2,S"))
    # What came on the day of the newest message, or after it, may be missing.
    contains("one came since", actions.good(*step), "can be read")
    old = 1_600_000_000
    for name in os.listdir(inbox):
        os.utime(os.path.join(inbox, name), (old, old))
    contains("too old", actions.bad(*step, "newer=2d"), "its newest file is of 2020-09-1")
    os.symlink("/etc/passwd", os.path.join(inbox, "link"))
    contains("leads out", actions.bad(*step), "link: ")
    contains("no such place", actions.bad("backup", "/nonexistent", imap, people),
             "is not good")
    # By domain; and no way out of the directory by it.
    os.makedirs(os.path.join(top, "dom", "b@x"), exist_ok=True)
    os.rename(os.path.join(top, f"{B}.mbox"), os.path.join(top, "dom", f"{B.split('@')[0]}.mbox"))
    step = (*step[:3], actions.people("others.csv", B))
    os.symlink("dom", os.path.join(top, DOMAIN))
    contains("a link", actions.bad(*step), f"it is not in {top}")
    os.unlink(os.path.join(top, DOMAIN))
    os.rename(os.path.join(top, "dom"), os.path.join(top, DOMAIN))
    contains("by domain", actions.good(*step), "of all 1 mailboxes")
    # A pilot whom the list does not have was not looked at.
    actions.begin(step)
    code, out, err = actions.cli("start", os.path.join(os.path.dirname(step[3]),
                                 "actions.conf"), DOMAIN, "--replace", "--rehearse", A)
    expect(f"a rehearsal ({out} {err})", code, 0)
    contains("the pilot is missing", actions.go_on().note, "0 of the 1 mailboxes")


def check_web(actions):
    lab = actions.lab
    directory = os.path.join(lab.directory, "web")
    certificate, key = make_certificate(directory, "web.example.com")
    ca = f"ca={certificate}"
    with Web(certificate, key) as web, Web() as plain, Web(*make_certificate(
            f"{directory}-other", "other.example.com")) as other:
        url = f"https://web.example.com:{web.port}/"
        contains("no page", actions.bad("web", url, ca), "HTTP status 404")
        web.pages["/"] = (200, {}, "")
        contains("an empty one", actions.bad("web", url, ca), "the page is empty")
        web.pages["/"] = (200, {}, "<title>Mail of the new side</title>")
        contains("it answers", actions.good("web", url, "says=new side", ca),
                 "1 pages answer over HTTPS with a good certificate")
        contains("it is the wrong page", actions.bad("web", url, "says=Roundcube", ca),
                 '"Roundcube" is not in it')
        contains("not trusted", actions.bad("web", url), f"{url}: SSL")
        contains("of another name", actions.bad(
            "web", f"https://web.example.com:{other.port}/", f"ca={other.certificate}"),
            "web.example.com")
        contains("nothing listens", actions.bad(
            "web", f"https://web.example.com:{closed_port()}/", ca), "onnect")
        contains("no address", actions.bad("web", "https://missing.example.com/", ca),
                 "missing.example.com has no address: add the CNAME or A record")
        contains("not safe", actions.bad("web", f"http://web.example.com:{plain.port}/"),
                 "write it as https://")
        web.pages["/go"] = (302, {"Location": "/"}, "")
        actions.good("web", f"{url}go", ca)
        contains("where it led", actions.log(), f"at {url}")
        web.pages["/go"] = (302, {"Location": f"http://127.0.0.1:{plain.port}/"}, "")
        contains("leads out of TLS", actions.bad("web", f"{url}go", ca), "which is no https")
        expect("and is not followed", plain.asked, [])
        web.pages["/go"] = (302, {"Location": "/go"}, "")
        contains("in a circle", actions.bad("web", f"{url}go", ca), "more than 5 redirects")
        web.pages["/go"] = (200, {}, b"x" * (1024 * 1024 + 1))
        contains("too large", actions.bad("web", f"{url}go", ca), "larger than 1 MiB")
        web.pages["/go"] = (302, {"Location": "file:///etc/passwd"}, "")
        contains("another scheme", actions.bad("web", f"{url}go", ca), "which is no https")


def check_autodiscover(actions):
    lab = actions.lab
    certificate, key = make_certificate(os.path.join(lab.directory, "setup"),
                                        "autodiscover.example.com", "localhost")
    people = actions.people("users.csv", A, B)
    old = f"127.0.0.1:{lab.old.dovecot.imap_port}"
    outlook, mozilla = "/autodiscover/autodiscover.xml", "/mail/config-v1.1.xml"
    with Web(certificate, key) as web:
        at = f"at=autodiscover.example.com:{web.port}"
        step = ("autodiscover", people, "imap.new.test:993", f"not={old}", at,
                f"ca={certificate}")
        contains("nobody answers", actions.bad(*step),
                 "no way that mail programs ask for their settings names imap.new.test (0")
        contains("each way is told", actions.log(), outlook, mozilla, "HTTP status 404")
        web.pages[outlook] = (200, {}, outlook_answer(("127.0.0.1", old.split(":")[1])))
        contains("the old server", actions.bad(*step), "1 of 1 ways", "still name the old")
        contains("which", actions.log(), f"still names the old server: {old}")
        web.pages[outlook] = (200, {}, outlook_answer(("imap.other.test", 993)))
        contains("another server", actions.bad(*step), "(1 answer)")
        contains("is that one meant?", actions.good(*step, "names=.other.test"),
                 "1 of 1 ways that mail programs ask name imap.new.test,.other.test")
        web.pages[mozilla] = (200, {}, mozilla_answer("IMAP.new.test", 993))
        contains("one of two", actions.good(*step), "1 of 2 ways", "none the old server")
        expect("whose", [path for _, path, _ in web.asked if path.startswith(mozilla)][-1],
               f"{mozilla}?emailaddress={A}")
        # It wants to know who asks; and leads to another place, where it is asked again.
        def with_login(_, path, headers, body):
            if not headers["Authorization"]:
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, ""
            return (200, {}, outlook_answer(("imap.new.test", 993))
                    if f"<EMailAddress>{A}<" in body.decode() else "")
        web.pages["/other.xml"] = with_login
        web.pages[outlook] = (302, {"Location": f"https://localhost:{web.port}/other.xml"}, "")
        del web.pages[mozilla]
        del web.asked[:]
        contains("a login elsewhere", actions.bad(*step), "(0 answer)")
        contains("it says so", actions.log(), "the password is not sent")
        expect("the password goes to nobody", {row[2] for row in web.asked}, {None})
        step += ("names=localhost",)
        contains("behind a login", actions.good(*step), "1 of 1 ways")
        expect_true("the password is nowhere", PASSWORD not in actions.log())
        web.pages[outlook] = (200, {}, "<Action>redirectUrl</Action><RedirectUrl>"
                              f"https://localhost:{web.port}/other.xml</RedirectUrl>")
        contains("by its own redirect", actions.good(*step), "1 of 1 ways")
        web.pages["/other.xml"] = (401, {"WWW-Authenticate": "Basic"}, "")
        contains("a login that is refused", actions.bad(*step), "(0 answer)")
        contains("it says so", actions.log(), "it refuses the login")
        odd = f"a&b+c@{DOMAIN}"
        web.pages[outlook] = lambda method, path, headers, body: (
            200, {}, outlook_answer(("imap.new.test", 993)) if
            f"<EMailAddress>{odd.replace('&', '&amp;')}<" in body.decode() else "")
        contains("an odd address", actions.good(
            step[0], actions.people("odd.csv", odd), *step[2:]), "1 of 1 ways")
        expect("in the URL", [path for _, path, _ in web.asked if path.startswith(mozilla)][-1],
               f"{mozilla}?emailaddress=a%26b%2Bc@{DOMAIN}")
    # By DNS alone.
    lab.dns.set(DOMAIN, "_imaps._tcp", 1, "SRV", "0 1 993 imap.new.test.")
    contains("SRV", actions.good(*step), "1 of 1 ways that mail programs ask name "
             "imap.new.test")
    lab.dns.set(DOMAIN, "_imaps._tcp", 1, "SRV", f"0 1 {old.split(':')[1]} 127.0.0.1.")
    contains("not the new one", actions.until(lambda: actions(step), "failed"),
             "1 of 1 ways that mail programs ask still name the old server")


SIGNING = """\
Syslog no
Mode s
Domain example.com
Selector lab
KeyFile {key}
Socket inet:{port}@127.0.0.1
InternalHosts 127.0.0.1
RequireSafeKeys no
"""


def check_signature(actions):
    """A server that signs (OpenDKIM), and one that verifies (sluice-milter)."""
    lab = actions.lab
    people = actions.people("users.csv", B)
    smtp, imap = (f"127.0.0.1:{lab.new.postfix.port}",
                  f"127.0.0.1:{lab.old.dovecot.imap_port}")
    step = ("signature", smtp, imap, people, f"authserv={lab.old.postfix.hostname}")
    contains("not signed", actions.bad(*step), "has no good DKIM signature of example.com "
             "(dkim=none", "switch signing on there")
    contains("somebody else's judgment", actions.bad(
        *step[:4], "authserv=mx.other.test"), "is not of mx.other.test but \"old.lab.test")
    port = lab._ports.take()
    config = actions.file("opendkim.conf", SIGNING.format(
        key=lab.keys[DOMAIN].path, port=port))
    signer = Child("opendkim", os.path.join(lab.directory, "opendkim.log"))
    milters = lab.new.postfix.value("smtpd_milters")
    signer.start(["opendkim", "-f", "-x", config])
    try:
        signer.wait_ready(lambda: accepts(("127.0.0.1", port)), 20, "opendkim listens")
        lab.new.postfix.postconf(
            smtpd_milters=f"inet:127.0.0.1:{port}, unix:sluice/milter.sock")
        lab.new.postfix.reload()
        contains("signed", actions.until(lambda: actions(step), "done"),
                 f"is signed as {DOMAIN}, and {lab.old.postfix.hostname} verifies it")
    finally:
        signer.kill()
        lab.new.postfix.postconf(smtpd_milters=milters)
        lab.new.postfix.reload()


def check_commands(actions):
    """Commands of sluice as actions: their verdict and the step's note."""
    lab = actions.lab
    log = lab.old.postfix.log_path
    contains("quiet", actions.good("monitor", log, "--quiet-for", "1s"),
             "nothing was forwarded for so long")
    actions.good("status", A)
    contains("who", actions.log(), A)
    contains("ping", actions.good("ping", "inbound"), "inbound")
    contains("no such path", actions.bad("ping", "outbound"), "outbound")
    path = actions.file("more.csv", f"address\n{C}\n")
    actions.good(("import", path), ("home", "old", C))
    contains("a bad list", actions.bad("import", actions.file("bad.csv", "x\ny\n")), "")


def check_commands_stop(actions):
    """The same commands when something is not as it should be, and when it is mended."""
    lab = actions.lab
    postfix, new = lab.old.postfix, lab.new.postfix
    actions.stops(("ping", "inbound"), postfix.start, "inbound", "refused",
                  before=postfix.stop)
    actions.stops(("doctor",), lab.old.sluice.policyd.start, "sluice-policyd",
                  before=lab.old.sluice.policyd.stop)

    def new_side(refuses):
        (new.remove_mailbox if refuses else lambda box: new.add_mailboxes([box]))(B)
        new.reload()
    new_side(True)
    actions.until(lambda: actions(("probe", A, B)), "failed")
    contains("probe", actions.log(), B)
    new_side(False)
    actions.until(actions.go_on, "done", 30)
    contains("somebody else's", actions.bad("status", "d@other.test"), "other.test")
    log = os.path.join(lab.directory, "monitor.log")
    actions.stops(("monitor", log, "--quiet-for", "1s"),
                  lambda: shutil.copy(postfix.log_path, log), log)
    path = actions.file("late.csv", "x\ny\n")
    actions.stops(("import", path), lambda: actions.file("late.csv", f"address\n{A}\n"),
                  "late.csv")
    # Back: the file that has what was there before is damaged, and put right again.
    path = actions.file("new.csv", f"address\nnew@{DOMAIN}\n")
    actions.begin(("import", path), undo=("import-back",))
    expect("imported", actions.go_on().state, "done")
    kept = os.path.join(actions.directory, f"s{actions.count}-0.before.csv")
    good = open_text(kept)
    run_cell = good.rstrip().rsplit(",", 1)[1]
    for what, damaged, why in (
            ("no run", good.replace(",run", ",ran"), ":1: no column run"),
            ("no number", good.replace(run_cell, "x"), ":2: its run is no number"),
            ("no end", good.rstrip(), ": its last line has no end"),
            ("no row", good.split("\n")[0] + "\n", "holds no row"),
            ("nothing", "", ": its last line has no end")):
        actions.file(kept, damaged)
        for words in (("rollback", DOMAIN), ("rollback", DOMAIN)):
            code, out, err = actions.cli(*words)
            expect_true(f"{what}: stops ({code}): {out} {err}", code not in (0, 75))
            contains(what, err, f"{kept} has the addresses", "is damaged: put it back")
        contains(what, actions.log() + err, f"{kept}{why}" if why[0] == ":" else why)
    actions.stops_back("import-back", lambda: actions.file(kept, good),
                       "nothing was imported",
                       before=lambda: actions.file(kept, good.replace(
                           f"new@{DOMAIN}", "rubbish")))
    expect("and is not needed any more", os.path.exists(kept), False)
    # A damaged one is not written over either; without one the present is kept.
    actions.begin(("import", path), undo=("import-back",))
    kept = os.path.join(actions.directory, f"s{actions.count}-0.before.csv")
    actions.file(kept, good.rstrip())
    contains("on the way there", actions.go_on().note, "is damaged: put it back")
    expect("it is as it was", open_text(kept), good.rstrip())
    # One of another run is as good as none.
    actions.file(kept, good)
    expect("imported", actions.go_on().state, "done")
    expect_true("kept anew", open_text(kept) != good)


def test_servers_and_names():
    with server_lab() as actions:
        check_signature(actions)
        check_commands(actions)
        check_commands_stop(actions)
        check_ports(actions)
        check_tls(actions)
        check_access(actions)
        check_logins(actions)
        check_sizes(actions)
        check_flow(actions)
        check_catchall(actions)
        check_web(actions)
        check_autodiscover(actions)
        check_backup(actions)
        all_stopped(actions, "test_servers_and_names")


# ---- lists, notices, mailboxes ------------------------------------------------------


def check_csv(actions):
    good = actions.file("users.csv", f"email,password\n{A},Sommer-2026\n{B},überall\n")
    contains("fine", actions.good("csv", good), "2 accounts")
    bad = actions.file("bad.csv", f"email,password\n{A},a\"b\n")
    contains("not CSV", actions.bad("csv", bad), "bad.csv:2")
    bad = actions.file("bad.csv", f"email,password\n{A},p;w1\nnobody,x\n{A},pw\n")
    contains("an address", actions.bad("csv", bad), "bad.csv:3: not a mail address")
    bad = actions.file("bad.csv", f"email,password\n{A},sesame;1\n{A},ok\nx@other.test,ok\n")
    contains("the sum", actions.bad("csv", bad), "3 rows are wrong")
    contains("each", actions.log(), "bad.csv:2: the password has a special character",
             "bad.csv:3: this address is in the file twice",
             "bad.csv:4: an address of another domain")
    expect_true("never the password", "sesame" not in actions.log())
    path = actions.file("latin.csv", "")
    with open(path, "wb") as file:
        file.write(f"email,password\n{A},M".encode() + b"\xfcller\n")
    contains("Latin-1", actions.bad("csv", path), "latin.csv:2: the password is not UTF-8")
    contains("no column", actions.bad("csv", actions.file("x.csv", f"mail\n{A}\n")),
             "there is no column address (or email)")


def check_inventory(actions):
    lab = actions.lab
    maps = lab.old.postfix
    maps.virtual_alias(f"sales@{DOMAIN}", A)
    maps.add_mailboxes([C])
    users = actions.people("users.csv", A, B)
    contains("file and sluice", actions.good("inventory", users), "2 addresses, none differs")
    expect("one row each", [row["sluice"] for row in actions.rows("inventory.csv")],
           ["yes", "yes"])
    # Postfix has a third mailbox and an alias that the new side does not have, the log
    # has a delivery to an address that no list has.
    reply = maps.smtp("someone@senders.test", [f"{A[0]}+tag@{DOMAIN}"], message("inv-1"))
    expect("mail", reply.accepted, True)
    maps.wait_log(f"{reply.queue_id}: to=<.*status=sent")
    log = actions.file("mail.log", maps.log() + (
        "Nov 22 03:00:00 old postfix/lmtp[1]: 4ABCDE1234: "
        f"to=<gone@{DOMAIN}>, relay=x, delay=1, dsn=2.0.0, status=sent (ok)\n"))
    note = actions.bad("inventory", users, "maps", f"log={log}", "new")
    contains("the sum", note, "3 of 5 addresses differ", "inventory.csv")
    rows = {row["address"].split("@")[0]: row for row in actions.rows("inventory.csv")}
    expect("who differs", {name for name, row in rows.items() if row["what"]},
           {"c", "sales", "gone"})
    expect("an alias", (rows["sales"]["maps"], rows["sales"]["new"], rows["sales"]["what"]),
           ("alias", "no", "the new side refuses it"))
    expect("a mailbox", (rows["c"]["maps"], rows["c"]["way out"]),
           ("yes", "make it on the new side, or take it off the lists"))
    contains("in the log alone", rows["gone"]["what"], "no list has it")
    expect("what is right", rows["a"], {
        "address": A, "file": "yes", "sluice": "yes", "maps": "yes", "log": "yes",
        "new": "yes", "what": "", "way out": ""})
    lab.new.postfix.add_mailboxes([C, f"sales@{DOMAIN}"])
    log = actions.file("mail.log", maps.log())
    users = actions.people("users.csv", A, B, C)
    actions.lab.import_mailboxes([C])
    result = actions.good("inventory", users, "maps", f"log={log}",
                          f"new=127.0.0.1:{lab.new.postfix.port}")
    contains("when mended", result, "4 addresses, none differs")
    maps.postconf(virtual_mailbox_maps=f"hash:{maps.config}/mailboxes, regexp:/etc/none")
    contains("a table that cannot be listed", actions.good("inventory", users, "maps"),
             "look yourself: regexp:/etc/none")
    maps.postconf(virtual_mailbox_maps=f"hash:{maps.config}/mailboxes")
    contains("the new side is down", actions.bad(
        "inventory", users, f"new=127.0.0.1:{closed_port()}"), "cannot be asked")


def check_classes(actions):
    classes = ("skyconnectusercos", "skyconnectadmincos")
    users = actions.file("users.csv", f"address,admin\n{A},yes\n{B},no\n{C},\n")
    note = actions.good(("class", users, *classes), ("class-check", "class.csv", *classes))
    contains("all of them", note, "3 users with a live class")
    expect("the file", actions.paper("class.csv"),
           f"userid,cos\r\n{A},skyconnectadmincos\r\n{B},skyconnectusercos\r\n"
           f"{C},skyconnectusercos\r\n")
    contains("not a live class", actions.bad(
        ("class", users, *classes), ("class-check", "class.csv", classes[0])),
        "class.csv:2: cos is none of the live classes")
    contains("added after it was written", actions.bad("class-check", actions.file(
        "old.csv", f"userid,cos\n{A},{classes[0]}\n{B},{classes[0]}\n"), *classes),
        f"{C} was added after")


TEMPLATE = """\
# to the users
Subject: Ihr Postfach %{address} zieht um – %{day}
Reply-To: %{helpline}

Guten Tag %{Name},

am %{day} zieht Ihr Postfach um. 100%% Ihrer Mail bleibt.
From now on: %{domain}
"""


def notice_list(actions, *people):
    return actions.file("list.csv", "address,name,password\n" + "".join(
        f'{address},"{name}",secret\n' for address, name in people))


def check_notices(actions):
    lab = actions.lab
    settings = (("day", "Freitag"), ("helpline", f"help@{DOMAIN}"))
    template = actions.file("users.txt", TEMPLATE)
    people = notice_list(actions, (A, "Jürgen"), (B, "B, the second"))
    smtp = f"127.0.0.1:{lab.old.postfix.port}"
    contains("written", actions.good("notice", people, template, settings=settings),
             "2 notices written, none sent", ".mbox")
    mbox = actions.paper(f"s{actions.count}-0.mbox")
    expect("two of them", mbox.count("\nTo: <"), 2)
    contains("its header", mbox, "=?UTF-8?Q?", f"Reply-To: help@{DOMAIN}",
             "Content-Transfer-Encoding: quoted-printable")
    sender = f"postmaster@{DOMAIN}"
    send = ("notice-send", people, smtp, sender, template)
    contains("sent", actions.good(*send, settings=settings), "2 notices sent (0 of them "
             "earlier)")
    lab.wait_drained()
    found = {box: mails for box, mails in lab.read_old([A, B]).items()}
    texts = [str(mail) for mail in found[A]]
    expect_true(f"it came ({texts})", any("Postfach" in text or "UTF-8" in text
                                          for text in texts) or found[A])
    again = actions.go_on()
    contains("the step is done", again.note, "2 notices sent")
    contains("a name that is not there", actions.bad(
        "notice", people, actions.file("slip.txt", "Subject: x\n\n%{colour}\n")),
        "list.csv:2: %{colour} is neither a column nor a setting")
    contains("a password", actions.bad(
        "notice", people, actions.file("slip.txt", "Subject: x\n\n%{password}\n")),
        "a password is never sent by mail")
    contains("no subject", actions.bad(
        "notice", people, actions.file("slip.txt", "\nText\n")), "there is no Subject")
    contains("no template", actions.bad("notice", people, "nothing.txt"),
             "notices/nothing.txt: No such file")
    contains("words instead", actions.good("notice", people, "Moves", "Your %a moves."),
             "2 notices written")
    contains("them", actions.paper(f"s{actions.count}-0.mbox"), f"Your {A} moves.")
    some = notice_list(actions, (A, "a"), (f"nobody@{DOMAIN}", "n"), (B, "b"))
    note = actions.bad("notice-send", some, smtp, sender, "Hello", "Text")
    contains("one is refused", note, "2 notices sent, 1 refused", "nobody gets one twice")
    notice_list(actions, (A, "a"), (C, "c"), (B, "b"))
    contains("the list is mended", actions.go_on().note, "3 notices sent (2 of them earlier)")


class SlowServer:
    """An SMTP server that answers the end of a message only when it is told to: a
    place to be killed at."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.messages, self.release = [], threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                session, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(session,), daemon=True).start()

    def _session(self, session):
        with session, contextlib.suppress(OSError):
            lines = session.makefile("rb")
            session.sendall(b"220 slow\r\n")
            to = None
            for line in lines:
                verb = line[:4].upper()
                if verb == b"RCPT":
                    to = re.search(rb"<(.*?)>", line).group(1).decode()
                if verb == b"DATA":
                    session.sendall(b"354 go on\r\n")
                    for text in lines:
                        if text == b".\r\n":
                            break
                    self.messages.append(to)
                    if len(self.messages) == 2:
                        self.release.wait(60)
                session.sendall(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")


def check_killed_notices(actions):
    """Killed between the end of a message and its answer, and run again: nobody gets
    it twice, and who may not have it is named."""
    server = SlowServer()
    people = notice_list(actions, (A, "a"), (B, "b"), (C, "c"))
    step = ("notice-send", people, f"127.0.0.1:{server.port}", f"pm@{DOMAIN}", "Hi", "Text")
    actions.begin(step)
    with subprocess.Popen(actions.lab.old.sluice.argv("playbook", "run", DOMAIN),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as runner:
        wait_until(lambda: len(server.messages) == 2, 30, "two messages are under way")
        runner.kill()
    # The step's own process ends with its runner, and B's answer never comes.
    note = actions.until(actions.go_on, "done", 30)
    server.release.set()
    contains("the others have it", note, "2 notices sent (1 of them earlier)",
             "1 may or may not have it")
    expect("nobody twice", sorted(server.messages), [A, B, C])
    expect("who is not sure", [row["address"] for row in
                               actions.rows(f"s{actions.count}-0.unsure.csv")], [B])
    server.listener.close()


def check_each(actions):
    lab = actions.lab
    program = actions.file("backup", f"""\
#!/bin/sh
[ -e {lab.directory}/broken ] && [ "$SLUICE_MAILBOX" = {B} ] && exit 3
echo "$1 $SLUICE_MAILBOX" >> {lab.directory}/trace
""", 0o755)
    broken = actions.file("broken", "")
    note = actions.bad("each", DOMAIN, program, "full")
    contains("one fails", note, "1 of 3 mailboxes failed", "the others are not repeated")
    journal = actions.paper(f"s{actions.count}-0.journal")
    contains("the journal", journal, f"{A}\tok\t", f"{B}\tfailed\t", "exit code 3")
    os.unlink(broken)
    contains("when mended", actions.go_on().note, "all 3 mailboxes done", "(2 of them earlier)")
    with open(os.path.join(lab.directory, "trace"), encoding="utf-8") as file:
        expect("each once", sorted(file.read().split("\n")[:-1]),
               [f"full {box}" for box in (A, B, C)])
    contains("no such program", actions.bad("each", DOMAIN, "/nonexistent/x"), "/nonexistent/x")
    lab.old.dovecot.seed(A, [message("sync-1").encode()])
    note = actions.good(("sync", A, B), ("synced", f"s{actions.count + 1}-0", A, B))
    contains("synced", note, "the last sync of all 2 mailboxes ended well")
    expect("it is there", len(lab.read_new([A])[A]) >= 1, True)
    contains("one that was not", actions.bad(
        ("sync", A), ("synced", f"s{actions.count + 1}-0", A, B)), "1 of 2 mailboxes have no")
    contains("none at all", actions.bad("synced", "first", A), "run the step first first")


def check_papers(actions):
    contains("postconf", actions.good("postconf"), "lines of main.cf")
    contains("its text", actions.paper("postconf.txt"), "virtual_mailbox_domains = ",
             "# postconf -M", "smtpd")
    contains("a letter", actions.good("document", "Dear provider,", "we move."), ".txt")
    expect("its text", actions.paper(f"s{actions.count}-0.txt"),
           "Dear provider,\nwe move.\n")
    expect("a program", actions.good("command", "/bin/echo", "all is well"), "all is well")
    contains("one that fails", actions.bad("check-command", "/bin/false"), "exit code 1")
    contains("not a path", actions.bad("check-command", "ls"), "not an absolute path")


def check_papers_stop(actions):
    lab = actions.lab
    for step, paper in ((("postconf",), "postconf.txt"), (("plan",), "plan.html"),
                        (("report",), "report.html")):
        actions.in_the_way(step, paper)
    actions.in_the_way(("document", "Text"), f"s{actions.count + 1}-0.txt")
    users = actions.file("admins.csv", f"name\n{A}\n")
    actions.stops(("class", users, "u", "a"), lambda: actions.file(
        "admins.csv", f"address,admin\n{A},yes\n"), "admins.csv", "no column")
    people = actions.file("told.csv", f"mail\n{A}\n")
    actions.stops(("notice", people, "Hi", "Text"), lambda: actions.people("told.csv", A),
                  "told.csv")
    program = actions.file("broken.sh", "#!/bin/sh\necho no disk >&2\nexit 2\n", 0o755)
    for kind in ("command", "check-command"):
        actions.stops((kind, program), lambda: actions.file(
            "broken.sh", "#!/bin/sh\nexit 0\n", 0o755), "no disk")
        actions.file("broken.sh", "#!/bin/sh\necho no disk >&2\nexit 2\n", 0o755)
    lab.new.dovecot.remove_user(B)
    actions.stops(("sync", A, B), lambda: lab.new.dovecot.add_users([B]),
                  "1 of 2 mailboxes failed", ".journal")


def test_people_and_papers():
    with action_lab(boxes=(A, B)) as actions:
        lab = actions.lab
        for side in (lab.old, lab.new):
            side.dovecot.add_users([C])
        check_csv(actions)
        check_inventory(actions)
        check_classes(actions)
        check_notices(actions)
        check_killed_notices(actions)
        check_each(actions)
        check_counts_since(actions)
        check_papers(actions)
        check_papers_stop(actions)
        all_stopped(actions, "test_people_and_papers")


# ---- who sends ------------------------------------------------------------------------


STRANGER = "198.51.100.7"
APP = f"shop@{DOMAIN}"


def parent_zone(lab):
    """So that sluice dns finds the name server of example.com."""
    plan = ('  record "TXT" { name = "@" value = {"v=spf1 ip4:192.0.2.0/24 -all"} '
            'ttl = 300 }\n')
    lab.dns.zone("com", ["example NS ns.example", "ns.example A 127.0.0.1"])
    lab.old.sluice.domains[DOMAIN] = lab.domain_section(lab.old, plan)
    lab.old.sluice.extra = (
        f'dns {{\n resolvers = {{"{lab.dns.server}"}}\n parent = {{"{lab.dns.server}"}}\n'
        f' port = {lab.dns.port}\n}}\n')


class Senders:
    """Mail of the domain from several hosts, to the old side."""

    def __init__(self, actions):
        self.actions, self.lab, self.count = actions, actions.lab, 0

    def send(self, client=OUTSIDE, sender=f"me@{DOMAIN}", signed=True):
        self.count += 1
        text = message(f"send-{self.count}", sender=sender, to=A)
        if signed:
            text = self.lab.keys[DOMAIN].sign(text)
        reply = self.lab.old.postfix.smtp(sender, [A], text, client=client)
        expect(f"mail from {client}: {reply}", reply.accepted, True)

    def counted(self, messages):
        """Waits until the milter's figures hold so many."""
        def all_there():
            _, out, _ = self.lab.old.sluice.cli("auth", "report", DOMAIN, "--json")
            return json.loads(out)["messages"] >= messages
        wait_until(all_there, 30, f"{messages} messages are counted", interval=0.2)


def check_senders(actions, senders):
    lab = actions.lab
    contains("nobody yet", actions.bad("signed"), "no mail of example.com was seen so far")
    senders.send()
    senders.counted(1)
    contains("all sign", actions.good("signed"), "1 of 1 messages are signed and verified, "
             "1 sources pass")
    contains("one signature is enough", actions.good("signed", "any"), "1 of 1")
    senders.send(signed=False)
    senders.counted(2)
    contains("one does not sign", actions.bad("signed"), "have no good DKIM signature")
    contains("a half is wanted", actions.good("signed", "percent=50"), "1 of 2 messages")
    contains("nobody would fail", actions.good("senders-pass"), "1 senders would pass")
    senders.send(client=STRANGER, signed=False)
    senders.counted(3)
    note = actions.bad("senders-pass")
    contains("one would fail", note, f"{STRANGER} (", "1 of 1 messages would fail under -all",
             "add it to the SPF record, or to the list of strangers")
    log = lab.old.postfix.log_path
    contains("who sends", actions.good("senders", f"log={log}"), "senders.csv: 1 that pass, "
             "2 messages", "strangers.csv: 1, 1 messages")
    expect("a sender", [(row["client"], row["messages"], row["dkim_pass"])
                        for row in actions.rows("senders.csv")], [(OUTSIDE, "2", "1")])
    strangers = actions.file("strangers.csv", actions.paper("strangers.csv"))
    expect("a stranger", [row["client"] for row in actions.rows("strangers.csv")], [STRANGER])
    submitters = {(row["address"], row["sender"]): row["messages"]
                  for row in actions.rows("submitters.csv")}
    expect("in the log", submitters[(OUTSIDE, f"me@{DOMAIN}")], "2")
    contains("a stranger may fail", actions.good("senders-pass", f"strangers={strangers}"),
             "1 strangers would fail, as they should")
    known = actions.file("known.csv", f"client\n{STRANGER}\n")
    contains("one that a person knows", actions.good("senders", f"known={known}"),
             "senders.csv: 2 that pass")
    code, out, err = lab.old.sluice.cli("dns", "check", DOMAIN, "--rules", "--senders",
                                        os.path.join(actions.directory, "senders.txt"))
    contains(f"dns check judges them ({code})", out + err, STRANGER)


def check_baseline(actions, senders):
    """What came before the baseline does not count."""
    path = actions.file("apps.csv", f"name,address\ncrm,{OUTSIDE}\n")
    actions.begin(("baseline",), ("signed",), ("applications", path))
    result = actions.go_on()
    expect("it stops", result.state, "failed")
    contains("nothing since", result.note, "no mail of example.com was seen since 20")
    senders.send()
    senders.counted(4)
    result = actions.go_on()
    expect(f"goes on ({result.note})", result.state, "done")
    contains("an application was seen", result.note, "all 1 applications were seen since 20")
    expect("one message", actions.rows("applications.csv")[0]["messages"], "1")


def check_applications(actions, senders):
    log = f"log={actions.lab.old.sluice.milter.log_path}"
    path = actions.file("apps.csv", f"name,address\nshop,{APP}\nprinter,192.0.2.77\n")
    contains("a log is needed", actions.bad("applications", path), "log=FILE names the log")
    note = actions.bad("applications", path, log)
    contains("neither", note, "2 of 2 applications were not seen, or fail")
    contains("each is named", actions.log(), f"shop ({APP}) has not sent so far",
             "printer (192.0.2.77) has not sent so far: let it send a test message")
    senders.send(sender=APP)
    senders.send(client="192.0.2.77")
    senders.counted(6)
    contains("both now", actions.until(actions.go_on, "done"),
             "all 2 applications were seen")
    senders.send(client=STRANGER, sender=APP, signed=False)
    senders.counted(7)
    actions.lab.old.postfix.wait_log("status=sent", count=7)
    note = actions.bad("applications", path, log)
    contains("it fails", note, f"shop ({APP}): 1 of 2 messages so far do not pass DMARC")
    contains("not a list", actions.bad("applications", actions.file(
        "apps.csv", "name,address\nx,not a name\n")), "apps.csv:2: address is neither")


def check_log_figures(actions):
    log = actions.lab.old.postfix.log_path
    contains("a short log", actions.good("histogram", log), "messages")
    rows = actions.rows("histogram.csv")
    expect("a row a day", [row["day"] for row in rows][::6], ["Monday", "Sunday"])
    expect_true("all of them", sum(int(row["all"]) for row in rows) >= 7)
    weeks = "".join(
        f"Nov {day:2} {hour:02}:10:00 mx postfix/smtpd[1]: "
        f"4A{day:02}{hour:02}: client=a[192.0.2.1]\n"
        for day in range(2, 16) for hour in range(24)
        if not (day % 7 == 1 and 2 <= hour < 8))   # Sundays: 8 and 15 November 2026
    path = actions.file("weeks.log", weeks)
    contains("the quiet hours", actions.good("histogram", path, 6),
             "quietest 6 hours: from Sunday 02:00 (0 of 324 messages in 14 days)")
    contains("too long a span", actions.bad("histogram", path, 30), "not 1 to 24 hours")
    contains("no log", actions.bad("histogram", actions.file("x.log", "hello\n")), "x.log")
    contains("no file", actions.bad("histogram", "/nonexistent"), "/nonexistent")
    mails = "".join(
        f"Nov 22 07:{n:02}:00 mx postfix/qmgr[1]: 4B{n:04}: from=<{who}>, size=1, nrcpt=1 "
        f"(queue active)\n" for n, who in enumerate(
            ["x@partner.test"] * 3 + [A] * 5 + ["y@other.test"])) + "".join(
        f"Nov 22 08:{n:02}:00 mx postfix/smtp[1]: 4C{n:04}: to=<z@client.test>, relay=r, "
        f"delay=1, dsn=2.0.0, status=sent (ok)\n" for n in range(4))
    note = actions.good("contacts", actions.file("contacts.log", mails))
    contains("who counts", note, "3 correspondents, most often z@client.test (4 messages)")
    expect("in order", [(row["address"], row["messages"])
                        for row in actions.rows("contacts.csv")],
           [("z@client.test", "4"), ("x@partner.test", "3"), ("y@other.test", "1")])
    contains("nobody outside", actions.bad("contacts", path), "names nobody outside")


def test_who_sends():
    with action_lab(auth=True, prepare=parent_zone) as actions:
        senders = Senders(actions)
        check_senders(actions, senders)
        check_baseline(actions, senders)
        check_applications(actions, senders)
        check_log_figures(actions)
        actions.in_the_way(("baseline",), "auth-base.csv")
        log = os.path.join(actions.lab.directory, "later.log")
        actions.stops(("senders", f"log={log}"), lambda: shutil.copy(
            actions.lab.old.postfix.log_path, log), "later.log")
        all_stopped(actions, "test_who_sends")


# ---- homes --------------------------------------------------------------------------


def check_homes(actions):
    contains("all old", actions.good("home", "old", DOMAIN), "all 2 mailboxes and the rest of the domain are at home old")
    contains("not yet", actions.bad("home", "new", A), "1 of 1 are not at home new")
    contains("who", actions.log(), f"{A} is at home old, not new")
    contains("a slip", actions.bad("home", "far", A), '"far" is not old, locked or new')
    contains("the new server takes them", actions.good("probe", A, B), "")
    contains("held is nothing", actions.good("unheld"), "nothing is held on 2 hosts")


def check_lock_and_back(actions):
    lab = actions.lab
    actions.good(("lock", A, B), ("home", "locked", A, B))
    reply = lab.old.postfix.smtp("someone@senders.test", [A], message("held-1"))
    expect("it is accepted", reply.accepted, True)
    wait_until(lambda: lab.old.postfix.queue_files("hold"), 20, "it is on hold")
    note = actions.until(lambda: actions(("unheld", "1s")), "failed")
    contains("held", note, "1 messages are held or still to be released", lab.old.postfix.
             hostname)
    contains("one is only locked, the other new", actions.good(
        ("flip", B), ("back", A, B), ("home", "old", A, B)), "all 2 mailboxes are at home old")
    contains("released", actions.good("unheld"), "nothing is held")
    contains("nothing to do", actions.good("back", A, B), "nothing to do")
    actions.good(("lock", A), ("flip", A), ("home", "new", A), ("rollback", A))
    actions.good(("lock", A), ("unlock", A), ("home", "old", A))


def check_quiet(actions):
    lab = actions.lab
    actions.good(("cutover", DOMAIN), ("home", "new", DOMAIN))
    reply = lab.old.postfix.smtp("someone@senders.test", [A], message("floater-1"))
    expect("a floater", reply.accepted, True)
    wait_until(lambda: len(lab.read_new([A])[A]) >= 1, 30, "it came to the new side")
    actions.begin(("quiet", "1h"))
    code, out, err = actions.cli("run", DOMAIN)
    expect(f"it has to wait ({out} {err})", code, 75)
    contains("how long", actions.log(), "of 1 h", "some clients still use the old servers")
    log = lab.old.postfix.log_path
    actions.begin(("monitor", log, "--quiet-for", "1h"))
    code, out, err = actions.cli("run", DOMAIN)
    expect(f"by the log too ({out} {err})", code, 75)
    contains("quiet for long enough", actions.until(
        lambda: actions(("quiet", "1s")), "done"), "quiet for", "1 floaters before")
    contains("a slip", actions.bad("quiet", "soon"), '"soon" is not a duration')


def check_homes_stop(actions):
    lab = actions.lab

    def cli(*words):
        code, out, err = lab.old.sluice.cli(*words)
        expect(f"{words} ({out} {err})", code, 0)
    new = f"late@{DOMAIN}"
    for side in (lab.old, lab.new):
        side.dovecot.add_users([new])
        side.postfix.add_mailboxes([new])
    actions.stops(("lock", new), lambda: lab.import_mailboxes([new]), new)
    cli("unlock", new)
    actions.stops(("flip", A), lambda: cli("lock", A), A, "old")
    actions.stops(("unlock", A), lambda: cli("rollback", A), A, "new")
    contains("somebody else's", actions.bad("relock", "d@other.test"), "other.test")
    contains("somebody else's", actions.bad("back", "d@other.test"), "other.test")
    actions.stops(("rollback", A), lambda: cli("unlock", A), A, "locked",
                  before=lambda: cli("lock", A))
    actions.stops(("home", "new", A), lambda: (cli("lock", A), cli("flip", A)), A)
    cli("rollback", A)
    cli("lock", A)
    actions.stops(("home", "old", A), lambda: cli("unlock", A), A)

    def refuse():
        lab.new.postfix.remove_mailbox(B)
        lab.new.postfix.reload()

    def take():
        lab.new.postfix.add_mailboxes([B])
        lab.new.postfix.reload()
    refuse()
    wait_until(lambda: not lab.new.postfix.smtp("", [B], message("x")).accepted, 20,
               "the new side refuses it")
    actions.stops(("cutover", B), take, B)
    cli("rollback", B)


def check_audit(actions):
    """A message whose end is not in the logs."""
    lab = actions.lab
    reply = lab.old.postfix.smtp("someone@senders.test", [A], message("audit-1"))
    lab.old.postfix.wait_log(f"{reply.queue_id}: to=<.*status=sent")
    lab.wait_drained()
    text = lab.old.postfix.log()
    cut = [line for line in text.split("\n") if f"{reply.queue_id}: to=" not in line]
    log = actions.file("cut.log", "\n".join(cut))
    actions.stops(("audit", log, lab.new.postfix.log_path, "--domain", DOMAIN),
                  lambda: actions.file("cut.log", text), "WITHOUT A KNOWN FATE",
                  reply.queue_id)


def test_homes_and_held_mail():
    with action_lab() as actions:
        check_homes(actions)
        check_homes_stop(actions)
        check_lock_and_back(actions)
        check_audit(actions)
        check_quiet(actions)
        all_stopped(actions, "test_homes_and_held_mail")


# ---- sluice dns ---------------------------------------------------------------------


@contextlib.contextmanager
def dns_actions(records, plan):
    with dns_case(records, plan) as case:
        ports = Ports()
        redis = Redis(os.path.join(case.directory, "redis"), ports.take())
        try:
            redis.start()
            case.configure(plan, redis=redis.unix_url)

            def cli(*words):
                return run([os.path.join(BINDIR, "sluice"), "-c", case.config, *words],
                           check=False)
            expect("init", cli("init")[0], 0)
            sluice = SimpleNamespace(cli=cli, state=os.path.join(case.directory, "state"))
            yield case, Actions(SimpleNamespace(old=SimpleNamespace(sluice=sluice),
                                                directory=case.directory), ZONE)
        finally:
            redis.stop()
            ports.release()


PLAN_FAST = """\
  record "MX" { name = "@" value = {"10 mx1.new.example.test."} ttl = 1 }
"""


def test_dns_actions():
    """One server at the end, so that nothing has to be transferred."""
    fast = [re.sub(r" 300 ", " 3 ", record) for record in RECORDS]
    with dns_actions(fast, PLAN_FAST) as (case, actions):
        first, second, other = case.first, case.second, Tsig("another")
        serials = [server._serials[ZONE] for server in (first, second)]
        while serials[0] != serials[1]:   # both were begun in the same second or not
            at = serials.index(min(serials))
            case.serve((first, second)[at], fast)
            (first, second)[at].reload()
            serials[at] += 1

        def mx(ttl):
            first.set(ZONE, "@", ttl, "MX", "10 mx.old")

        def wrong_key():
            other.write(case.key_file)

        def right_key():
            case.key.write(case.key_file)
        for name in ("dns-snapshot", "dns-diff"):
            actions.stops((name, ZONE), lambda: (first.start(), second.start()),
                          "127.0.0.1", before=lambda: (first.stop(), second.stop()))
        actions.stops(("dns-servers", ZONE), second.start, "127.0.0.2", before=second.stop)
        case.alone()
        first.zone(ZONE, fast)
        first.reload()
        actions.stops(("dns-rules", ZONE, "--rule", "ttl"), lambda: mx(3), "86400",
                      before=lambda: mx(86400))
        mx(3)
        before = first.dump(ZONE)
        actions.stops(("dns-access", ZONE), right_key, "BADKEY", before=wrong_key)
        expect("nothing was changed", first.dump(ZONE), before)
        timeout = ("--timeout", "5s")
        actions.begin(("dns-snapshot", ZONE), ("dns-wait", ZONE))
        expect("nothing was changed yet", actions.go_on().state, "waiting for time")
        actions.stops(("dns-apply", ZONE, *timeout), right_key, "BADKEY", before=wrong_key)
        contains("after it", actions.good("dns-check", ZONE, "--rule", "mx"), "")
        contains("and its time", actions.until(lambda: actions(("dns-wait", ZONE)), "done"), "")
        first.set(ZONE, "@", 3, "MX", "10 mx.old")
        actions.stops(("dns-check", ZONE, "--rule", "mx"), lambda: first.set(
            ZONE, "@", 1, "MX", "10 mx1.new"), "mx.old")
        mx(5)
        actions.stops(("dns-lower", ZONE, *timeout), right_key, "BADKEY", before=wrong_key)
        actions.stops(("dns-lowered", ZONE), lambda: mx(1), "still has the long TTLs",
                      before=lambda: mx(86400))
        # A way back of this run: of its own change, with a server that refuses it.
        mx(3)
        actions.begin(("dns-apply", ZONE, *timeout), undo=("dns-back", ZONE))
        expect("changed", actions.go_on().state, "done")
        actions.stops_back("dns-back", right_key, "BADKEY", before=wrong_key)
        expect("as it was", first.live(ZONE, "MX"), [f"3 10 mx.old.{ZONE}."])
        all_stopped(actions, "test_dns_actions")
