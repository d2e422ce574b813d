"""sluice ping: probes through real servers, and what it says of bad ones."""

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from cli_case import cli_case
from harness import (DOMAIN, SOURCE, expect, expect_true, message, plain_lab,
                     sluice_lab, wait_until)
from milter_host import A, SENDER, milter_host
from parts.dovecot import PASSWORD
from parts.process import Ports, run

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
MAIN = f"probe@{DOMAIN}"
GONE = f"gone@{DOMAIN}"


def password_file(lab, text=PASSWORD, mode=0o600, name="imap.password"):
    path = os.path.join(lab.directory, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    os.chmod(path, mode)
    return path


def mailbox(name, port, user, password, more="tls = none"):
    return (f'mailbox "{name}" {{\n  imap = "127.0.0.1:{port}"\n'
            f'  user = "{user}"\n  password-file = "{password}"\n'
            f"  {more}\n}}\n")


def path(name, port, to, *mailboxes, more="", sender=SENDER):
    names = ", ".join(f'"{box}"' for box in mailboxes)
    return (f'ping "{name}" {{\n  smtp = "127.0.0.1:{port}"\n  to = "{to}"\n'
            f'  from = "{sender}"\n  mailboxes = {{{names}}}\n'
            f"  {more}\n}}\n")


class Ping:
    """sluice ping of one configuration."""

    def __init__(self, sluice):
        self.sluice = sluice

    def __call__(self, *words):
        """(exit code, {path: its part of the document})"""
        code, out, err = self.sluice.cli("ping", *words, "--json")
        try:
            document = json.loads(out)
        except ValueError as error:
            raise AssertionError(f"no document: {out!r} {err!r}") from error
        return code, {one["name"]: one for one in document["paths"]}

    def one(self, name, *words):
        code, paths = self(name, *words)
        return code, paths[name]


def expect_said(one, *texts):
    for text in texts:
        expect_true(f"{text!r} in {one['text']!r}", text in one["text"])


def expect_fine(what, code, paths):
    expect(f"{what}: {[one['text'] for one in paths.values()]}", code, OK)
    for one in paths.values():
        expect_true(f"times of {one}", 0 <= one["connected_ms"]
                    <= one["accepted_ms"] <= one["arrived_ms"] < 30000)
        for box in one["mailboxes"]:
            expect(f"copies of {one}", box["copies"], 1)


def rows(redis):
    flat = redis.command("HGETALL", "sluice:pings")
    return dict(zip(flat[::2], flat[1::2]))


def headers(id, *lines):
    return message(id, to=MAIN).replace(
        f"Message-ID: <{id}@lab.test>\n", "".join(f"{x}\n" for x in lines))


def send_left_over(postfix):
    """Messages that look like probes; only the first one is ours and old."""
    now = int(time.time())
    own, name = "a" * 26, "new direct"
    for id, mark, header in [
            ("old", f"<sluice-ping.{own}@x.test>", f"{own} {now - 3600} {name}"),
            ("young", f"<sluice-ping.{own}@x.test>", f"{own} {now - 60} {name}"),
            ("other", f"<sluice-ping.{own}@x.test>", f"{own} {now - 3600} other"),
            ("bad", f"<sluice-ping.{own}@x.test>", f"{own[1:]} 17 {name}"),
            ("bare", f"<sluice-ping.{own}@x.test>", None),
            ("header", "<other@x.test>", f"{own} {now - 3600} {name}")]:
        lines = [f"Message-ID: {mark}"]
        if header:
            lines.append(f"X-Sluice-Ping: {header}")
        reply = postfix.smtp(SENDER, [MAIN], headers(id, *lines))
        expect(f"{id} is accepted", reply.code, 250)


def prepare_migration(lab):
    password = password_file(lab)
    old, new = lab.old, lab.new
    old.postfix.add_mailboxes([GONE])  # and Dovecot does not know it
    for side in (old, new):
        side.sluice.fence = "reload"
        side.dovecot.extra = ("lmtp_save_to_detail_mailbox = yes\n"
                              "lda_mailbox_autocreate = yes\n")
    old.postfix.virtual_alias(f"both@{DOMAIN}", MAIN, f"probe+x@{DOMAIN}")
    old.sluice.extra = "".join([
        mailbox("old box", old.dovecot.imap_port, MAIN, password),
        mailbox("new box", new.dovecot.imap_port, MAIN, password),
        mailbox("folders", old.dovecot.imap_port, MAIN, password,
                'tls = none\n  folders = {"INBOX", "Nowhere", "x"}'),
        path("internal", old.postfix.port, MAIN, "old box"),
        path("new MX still old", new.postfix.port, MAIN, "old box"),
        path("old forwarding", old.postfix.port, MAIN, "new box"),
        path("new direct", new.postfix.port, MAIN, "new box"),
        path("twice", old.postfix.port, f"both@{DOMAIN}", "folders"),
        path("bounced", old.postfix.port, GONE, "old box", sender=MAIN),
        path("junk", old.postfix.port, f"probe+x@{DOMAIN}", "folders"),
    ])


def test_paths_of_a_migration():
    """Before the flip, while locked, after it; and what is left behind."""
    with sluice_lab([MAIN], prepare=prepare_migration) as lab:
        old, new, ping = lab.old, lab.new, Ping(lab.old.sluice)
        reply = old.postfix.smtp(SENDER, [MAIN], message("letter", to=MAIN))
        expect("accepted", reply.code, 250)
        wait_until(lambda: lab.read_old([MAIN])[MAIN], 20, "the letter is there")

        expect_fine("before the flip", *ping("internal", "new MX still old"))
        expect("what is there", [found.id for found in
                                 lab.read_old([MAIN])[MAIN]], ["letter"])
        stored = rows(lab.redis)
        expect("stored", sorted(stored), [
            f"{old.sluice.hostname} internal",
            f"{old.sluice.hostname} new MX still old"])
        when, state = stored[f"{old.sluice.hostname} internal"].split()[:2]
        expect("state", state, "0")
        expect_true("when", abs(int(when) - time.time()) < 60)

        code, one = ping.one("twice")
        expect(f"twice: {one['text']}", code, WARNING)
        expect_said(one, "came 2 times into folders")
        code, one = ping.one("junk")
        expect(f"junk: {one['text']}", code, WARNING)
        expect_said(one, "lies in folder x of folders")

        code, one = ping.one("bounced")
        expect(f"bounced: {one['text']}", code, CRITICAL)
        expect_said(one, "accepted, and returned to the sender: smtp; 550 5.1.1")
        expect("no bounce is left", [found.id for found in
                                     lab.read_old([MAIN])[MAIN]], ["letter"])

        old.sluice.cli("lock", MAIN, check=True)
        code, one = ping.one("internal", "--timeout", "3s")
        expect(f"locked: {one['text']}", code, CRITICAL)
        expect_said(one, "accepted, but not in old box within",
                    f"{MAIN} is locked since", "sluice flip or sluice unlock")
        expect("stored", rows(lab.redis)[
            f"{old.sluice.hostname} internal"].split()[1], "2")
        old.sluice.cli("flip", MAIN, check=True)
        expect_fine("after the flip", *ping("old forwarding", "new direct"))
        code, one = ping.one("internal", "--timeout", "3s")
        expect(f"internal: {one['text']}", code, CRITICAL)
        expect_true(f"no lock in {one['text']}", "locked" not in one["text"])

        wait_until(lambda: len(lab.read_new([MAIN])[MAIN]) == 2, 30,
                   "the held probe and the late one are on the new side")
        send_left_over(new.postfix)
        wait_until(lambda: len(lab.read_new([MAIN])[MAIN]) == 8, 30,
                   "all are there")
        code, one = ping.one("new direct")
        expect(f"left: {one['text']}", code, OK)
        expect("removed", one["mailboxes"][0]["removed"], 1)
        expect_said(one, "1 left by earlier runs removed from new box")
        expect("what is left", sorted(
            found.id for found in lab.read_new([MAIN])[MAIN] if found.id),
            ["bad", "bare", "header", "other", "young"])
        expect("the letter", [found.id for found in
                              lab.read_old([MAIN])[MAIN]], ["letter"])


def test_continuity():
    """Two mailboxes for one message: the user's, and the copy."""
    copy = "copy@senders.test"

    def prepare(host):
        password, imap = password_file(host.lab), host.side.dovecot.imap_port
        host.lab.add_mailboxes([copy])
        host.sluice.extra = "".join([
            mailbox("main", imap, A, password),
            mailbox("outside", imap, SENDER, password),
            mailbox("copy", imap, copy, password),
            path("inbound", host.postfix.port, A, "main", "copy"),
            path("outbound", host.postfix.port, SENDER, "outside", "copy",
                 sender=A)])
    with milter_host(extra="  copy-outbound = true\n",
                     prepare=prepare) as host:
        ping = Ping(host.sluice)
        host.home(A, "old", copy=copy)
        code, paths = ping()
        expect_fine("with a copy address", code, paths)
        expect("mailboxes", [[box["name"] for box in one["mailboxes"]]
                             for one in paths.values()],
               [["main", "copy"], ["outside", "copy"]])
        host.home(A, "old")
        code, paths = ping("--timeout", "3s")
        expect("without one", code, CRITICAL)
        for one, here in ((paths["inbound"], "main"),
                          (paths["outbound"], "outside")):
            expect_said(one, "accepted, but not in copy within", f"in {here} 0.")
        expect("nothing is left", {
            user: len(found) for user, found
            in host.boxes(A, SENDER, copy).items()},
            {A: 0, SENDER: 0, copy: 0})


# TLS and logins

class Certificates:
    """A private authority, and what it has signed."""

    def __init__(self, directory):
        self.directory = directory
        self._make("ca", "/CN=Lab CA", "-x509", "-days", "30")
        self.good = self.sign("good", 30)
        self.expired = self.sign("expired", -1)

    def path(self, name):
        return os.path.join(self.directory, name)

    def _make(self, name, subject, *words):
        run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
             "-keyout", self.path(f"{name}.key"),
             "-out", self.path(f"{name}.pem"), *words])

    def sign(self, name, days):
        self._make(name, "/CN=mail.lab.test")
        os.rename(self.path(f"{name}.pem"), self.path(f"{name}.csr"))
        with open(self.path("san"), "w", encoding="ascii") as file:
            file.write("subjectAltName=DNS:mail.lab.test\n")
        run(["openssl", "x509", "-req", "-in", self.path(f"{name}.csr"),
             "-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"),
             "-CAcreateserial", "-extfile", self.path("san"),
             "-days", str(days), "-out", self.path(f"{name}.pem")])
        return name

    def pin(self, name):
        public = subprocess.run(
            ["openssl", "pkey", "-in", self.path(f"{name}.key"), "-pubout",
             "-outform", "DER"], check=True, capture_output=True).stdout
        digest = hashlib.sha256(public).digest()
        return "sha256//" + base64.b64encode(digest).decode()


DOVECOT_TLS = """\
ssl = yes
ssl_cert = <{cert}.pem
ssl_key = <{cert}.key
service imap-login {{
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service auth {{
  inet_listener {{
    port = {auth}
  }}
}}
"""
SUBMISSION = """\
127.0.0.1:{port} inet n - y - - smtpd
  -o syslog_name=postfix-old/submission
  -o smtpd_tls_cert_file={cert}.pem
  -o smtpd_tls_key_file={cert}.key
  -o smtpd_tls_security_level=encrypt
  -o smtpd_tls_wrappermode={wrapped}
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_sasl_type=dovecot
  -o smtpd_sasl_path=inet:127.0.0.1:{auth}
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
"""


class Secure:
    """A lab with TLS: submission and smtps, IMAP with STARTTLS and imaps; on
    the new side imaps with an expired certificate."""

    def __init__(self, lab):
        self.lab, self.sections, self.want = lab, [], {}
        ports = Ports()
        self._ports = ports
        self.certs = Certificates(lab.directory)
        self.submission, self.smtps, self.imaps, self.old_imaps, auth, other = (
            ports.take() for _ in range(6))
        good = self.certs.path("good")
        lab.old.dovecot.extra = DOVECOT_TLS.format(
            cert=good, imaps=self.imaps, auth=auth)
        lab.new.dovecot.extra = DOVECOT_TLS.format(
            cert=self.certs.path("expired"), imaps=self.old_imaps, auth=other)
        for port, wrapped in ((self.submission, "no"), (self.smtps, "yes")):
            lab.old.postfix.master(SUBMISSION.format(
                port=port, cert=good, auth=auth, wrapped=wrapped))
        self.password = password_file(lab)
        self.wrong = password_file(lab, "wrong", name="wrong.password")
        self.known = (f'ca-file = "{self.certs.path("ca.pem")}"\n'
                      '  tls-name = "mail.lab.test"')

    def add(self, name, code, *texts, smtp=None, imap=None, smtp_tls="starttls",
            smtp_trust=None, imap_tls="tls", imap_trust=None, smtp_login=None,
            imap_login=None):
        """A path, what it ends with, and what is said then."""
        login = smtp_login or self.password
        self.sections.append(mailbox(
            f"{name} box", imap or self.imaps, MAIN, imap_login or self.password,
            f"tls = {imap_tls}\n  "
            + (self.known if imap_trust is None else imap_trust)))
        self.sections.append(path(
            name, smtp or self.submission, MAIN, f"{name} box", sender=MAIN,
            more=f'tls = {smtp_tls}\n  user = "{MAIN}"\n'
            f'  password-file = "{login}"\n  '
            + (self.known if smtp_trust is None else smtp_trust)))
        self.want[name] = (code, texts)


def test_tls_and_logins():
    with plain_lab([MAIN], start=False) as lab:
        secure = Secure(lab)
        old, pin = lab.old, f'pin = "{secure.certs.pin("good")}"'
        no_pin = f'pin = "sha256//{"B" * 43}="'
        shown = secure.certs.pin("good")
        secure.add("starttls", OK, imap=old.dovecot.imap_port,
                   imap_tls="starttls")
        secure.add("implicit", OK, smtp=secure.smtps, smtp_tls="tls")
        secure.add("pinned", OK, smtp_trust=pin, imap_trust=pin)
        secure.add("untrusted", CRITICAL, "certificate", "ca-file",
                   f'pin = "{shown}"', smtp_trust="")
        secure.add("imap untrusted", CRITICAL, "certificate", "ca-file",
                   f'pin = "{shown}"', "nothing was sent", imap_trust="")
        secure.add("imap starttls untrusted", CRITICAL, "certificate",
                   f'pin = "{shown}"', imap=old.dovecot.imap_port,
                   imap_tls="starttls", imap_trust="")
        secure.add("mismatch", CRITICAL, "127.0.0.1", "does not match|no alternative",
                   "tls-name", smtp_trust=secure.known.partition("\n")[0])
        secure.add("expired", CRITICAL, "expired", imap=secure.old_imaps)
        secure.add("wrong pin", CRITICAL, "its key is not the pinned one", shown,
                   smtp_trust=no_pin)
        secure.add("smtp login", CRITICAL, f"login of {MAIN} is refused", "535",
                   smtp_login=secure.wrong)
        secure.add("imap login", CRITICAL, f"login of {MAIN} is refused",
                   "nothing was sent", imap_login=secure.wrong)
        secure.add("no login", CRITICAL, "offers no login",
                   smtp=old.postfix.port, smtp_tls="none", smtp_trust="")
        secure.add("no starttls", CRITICAL, "offers no STARTTLS",
                   smtp=old.postfix.port)
        secure.add("no tls at all", CRITICAL, "no TLS", smtp=old.postfix.port,
                   smtp_tls="tls")
        secure.add("open file", UNKNOWN, "has mode 0644: chmod 0600",
                   imap_login=password_file(lab, mode=0o644, name="open"))
        secure.add("no file", UNKNOWN, "No such file", "nothing was sent",
                   imap_login="/nowhere/password")
        old.sluice.extra = "".join(secure.sections)
        lab.start(sluice=False)
        old.sluice.write_config()
        code, paths = Ping(old.sluice)("--timeout", "30s")
        expect("exit", code, CRITICAL)
        states = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
        expect("paths", {name: one["state"] for name, one in paths.items()},
               {name: states[want[0]] for name, want in secure.want.items()})
        for name, (_, texts) in secure.want.items():
            for text in texts:
                expect_true(f"{name}: {text!r} in {paths[name]['text']!r}", any(
                    part in paths[name]["text"] for part in text.split("|")))
        expect("sent", len(set(re.findall(
            r"message-id=<(sluice-ping\.[a-z2-7]{26}@)", old.postfix.log()))), 3)
        expect("nothing is left", lab.read_old([MAIN])[MAIN], [])


# bad servers

class Fake:
    """A server of lines on a port of its own; talk(stream, number) has each
    connection, numbered from 1."""

    def __init__(self, talk):
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, daemon=True,
                             args=[connection, self.connections]).start()

    def _serve(self, connection, number):
        with contextlib.suppress(OSError, ValueError):
            with connection, connection.makefile("rwb", buffering=0) as stream:
                self._talk(stream, number)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def smtp(rcpt="250 fine", greeting="220 fake ESMTP", first=None):
    """first: the reply to RCPT of the first connection."""
    def talk(stream, number):
        stream.write(greeting.encode() + b"\r\n")
        in_text = False
        for line in stream:
            word = line.strip().upper()
            if in_text:
                if word == b".":
                    in_text = False
                    stream.write(b"250 queued\r\n")
                continue
            if word.startswith(b"EHLO"):
                reply = "250-fake\r\n250 8BITMIME"
            elif word.startswith(b"RCPT"):
                reply = first if first and number == 1 else rcpt
            elif word == b"DATA":
                in_text, reply = True, "354 go"
            else:
                reply = "250 fine"
            stream.write(reply.encode() + b"\r\n")
            if word == b"QUIT":
                return
    return talk


def imap(finds=True, after=0.0, **answers):
    """answers: what comes for a command in place of the usual (bytes, or a
    function of the connection's number); finds: whether the probe is there,
    so many seconds after the login."""
    def talk(stream, number):
        stream.write(b"* OK fake\r\n")
        began = time.monotonic()
        for line in stream:
            tag, _, rest = line.strip().partition(b" ")
            words = rest.upper().split()
            verb = words[0].decode() if words else ""
            if verb == "UID":
                verb = words[1].decode()
            if verb == "SEARCH" and b"SINCE" in words:
                verb = "OLDER"
            there = finds and time.monotonic() - began >= after
            reply = answers.get(verb, {
                "CAPABILITY": b"* CAPABILITY IMAP4rev1 UIDPLUS\r\n",
                "SELECT": b"* 3 EXISTS\r\n* OK [UIDNEXT 4] next\r\n",
                "OLDER": b"* SEARCH\r\n",
                "SEARCH": b"* SEARCH 7\r\n" if there else b"* SEARCH\r\n",
            }.get(verb, b""))
            if callable(reply):
                reply = reply(number)
            if verb == "STORE":
                finds_now.add(number)
            if reply is None:
                return
            if verb == "SEARCH" and number in finds_now:
                reply = b"* SEARCH\r\n"
            stream.write(reply + tag + b" OK done\r\n")
            if verb == "LOGOUT":
                return
    finds_now = set()
    return talk


def flood(stream, _number):
    stream.write(b"* OK fake\r\n")
    for line in stream:
        tag, _, rest = line.strip().partition(b" ")
        if rest.upper().startswith(b"NOOP"):
            while True:
                stream.write(b"* 1 EXISTS\r\n" * 1000)
        stream.write(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK done\r\n")


def mute(stream, _number):
    stream.read()


BAD = [  # name, smtp, imap, more, state, texts
    ("refused", smtp(rcpt="550 5.1.1 no such \x1b[31muser|x"), imap(), "",
     "CRITICAL", ["550 5.1.1 no such ?[31muser/x (after RCPT)"]),
    ("greylisted", smtp(first="450 4.2.0 greylisted"), imap(), "", "OK",
     ["accepted at attempt 2 (greylisting?)"]),
    ("always later", smtp(rcpt="450 4.2.0 greylisted"), imap(),
     "critical = 7s\n warning = 1s", "CRITICAL",
     ["not accepted in 2 attempts (greylisting?)", "450 4.2.0 greylisted"]),
    ("no smtp", lambda stream, _: stream.write(b"HTTP/1.1 400 Bad\r\n\r\n"),
     imap(), "", "CRITICAL", ["answers what no mail server does"]),
    ("mute smtp", mute, imap(), "critical = 3s\n warning = 1s", "CRITICAL",
     ["takes the connection, but does not greet in time"]),
    ("mute imap", smtp(), mute, "critical = 3s\n warning = 1s", "CRITICAL",
     ["mailbox mute imap:", "nothing was sent"]),
    ("never", smtp(), imap(finds=False), "critical = 3s\n warning = 1s",
     "CRITICAL", ["accepted, but not in never within 3 s"]),
    ("slow", smtp(), imap(after=2), "warning = 1s", "WARNING",
     ["slow took more than 1 s"]),
    ("twice", smtp(), imap(SEARCH=b"* SEARCH 7 9\r\n"), "", "WARNING",
     ["came 2 times into twice"]),
    ("literal", smtp(), imap(
        OLDER=b"* SEARCH 2\r\n",
        FETCH=b"* 2 FETCH (UID 2 BODY[HEADER.FIELDS (X)] {4294967296}\r\n"),
     "", "CRITICAL", ["wants to send 4294967296 bytes", "nothing was sent"]),
    ("long line", smtp(), imap(SEARCH=b"* SEARCH" + b" 7" * 40000), "",
     "CRITICAL", ["a line of its answer is too long"]),
    ("flood", smtp(), flood, "", "CRITICAL",
     ["its answer is longer than any answer may be"]),
    ("dropped", smtp(), imap(NOOP=lambda n: None if n == 1 else b""), "", "OK",
     ["the connection to dropped broke 1 time"]),
    ("bye", smtp(), imap(NOOP=lambda n: b"* BYE shutdown\r\n" if n == 1
                         else b""), "", "OK",
     ["the connection to bye broke 1 time"]),
    ("asks for more", smtp(), imap(SELECT=b"s0 NO x\r\n* NO\r\n+ go\r\n"), "",
     "CRITICAL", ["asks for more"]),
]


def test_bad_servers():
    servers, sections = [], []
    with contextlib.ExitStack() as stack:
        for name, sends, reads, more, _, _ in BAD:
            pair = Fake(sends), Fake(reads)
            servers.append(pair)
            for server in pair:
                stack.callback(server.close)
        case = stack.enter_context(cli_case(init=False, names=()))
        case.lab = type("Lab", (), {"directory": case.directory})
        password = password_file(case.lab)
        for (name, _, _, more, _, _), pair in zip(BAD, servers):
            sections.append(mailbox(name, pair[1].port, MAIN, password))
            sections.append(path(name, pair[0].port, MAIN, name, more=more))
        closed = Ports()
        sections.append(mailbox("well", servers[0][1].port, MAIN, password))
        sections.append(path("closed", closed.take(), MAIN, "well"))
        sections.append(path("nowhere", 25, MAIN, "well").replace(
            "127.0.0.1", "mx.nowhere.invalid"))
        with open(case.config, "a", encoding="utf-8") as file:
            file.write("".join(sections))
        began = time.monotonic()
        result = case.sluice("ping", "--json", "--timeout", "20s")
        expect_true("in time", time.monotonic() - began < 25)
        expect_true("no escape", "\\u001b" not in result.out)
        paths = {one["name"]: one for one in result.json["paths"]}
        expect("states", {name: one["state"] for name, one in paths.items()},
               {**{name: state for name, *_, state, _ in BAD},
                "closed": "CRITICAL", "nowhere": "CRITICAL"})
        for name, *_, texts in BAD:
            expect_said(paths[name], *texts)
        expect_said(paths["closed"], "127.0.0.1:", "refused")
        expect_said(paths["nowhere"], "mx.nowhere.invalid:25: ")
        expect("exit", result.code, CRITICAL)


# the plugin, and going on

PLUGIN = os.path.join(SOURCE, "contrib", "nagios", "check_sluice_mail")


def test_plugin_and_rounds():
    with contextlib.ExitStack() as stack:
        good = Fake(smtp()), Fake(imap())
        lost = Fake(imap(finds=False))
        for server in (*good, lost):
            stack.callback(server.close)
        case = stack.enter_context(cli_case(init=False, names=()))
        case.lab = type("Lab", (), {"directory": case.directory})
        password, program = password_file(case.lab), case.argv()[0]
        sections = "".join([
            mailbox("box", good[1].port, MAIN, password),
            mailbox("lost", lost.port, MAIN, password),
            path("good", good[0].port, MAIN, "box"),
            path("bad", good[0].port, MAIN, "lost")])
        with open(case.config, "a", encoding="utf-8") as file:
            file.write(sections)

        def plugin(*words):
            return run([PLUGIN, "-p", program, "-c", case.config, *words],
                       check=False, env={"PATH": "/usr/bin:/bin"})

        code, out, _ = plugin("good")
        expect(f"exit: {out}", code, OK)
        first = out.splitlines()[0]
        expect_true(f"first line: {first}", re.fullmatch(
            r"PING OK - 1 of 1 paths, the slowest \d+\.\d{3} s \(good\) \|"
            r" 'good connected'=\d+\.\d{3}s 'good accepted'=\d+\.\d{3}s"
            r" 'good box'=\d+\.\d{3}s;30;120;0", first))
        began = time.monotonic()
        code, out, _ = plugin("-t", "3")
        expect(f"exit: {out}", code, CRITICAL)
        expect_true("in time", time.monotonic() - began < 10)
        expect_true(f"first line: {out}", out.startswith(
            "PING CRITICAL - bad: accepted, but not in lost within 3 s"))
        expect_true(f"lines: {out}", "\ngood: OK: connected" in out)
        expect_true(f"figures: {out}", "'bad lost'=U;30;120;0" in out)
        for words, text in [
                (["nobody"], 'has no ping section "nobody"'),
                (["good", "good"], "is named twice"),
                (["-t", "x"], "must be a number"),
                (["-t", "1"], "--timeout must be at least"),
                (["-x"], "--help")]:
            code, out, _ = plugin(*words)
            expect(f"exit of {words}: {out}", code, UNKNOWN)
            expect_true(f"{text!r} in {out!r}",
                        out.startswith("PING UNKNOWN - ") and text in out)
        code, out, _ = run([PLUGIN, "-c", "/nowhere"], check=False,
                           env={"PATH": f"{os.path.dirname(program)}:/bin"})
        expect("no configuration", (code, "/nowhere" in out), (UNKNOWN, True))
        code, out, _ = run([PLUGIN, "-p", "/nowhere/sluice"], check=False)
        expect("no program", (code, out.startswith("PING UNKNOWN")),
               (UNKNOWN, True))
        code, out, _ = run([PLUGIN, "--help"])
        expect_true("usage", out.startswith("usage: check_sluice_mail"))

        # Redis is down: that is said, and changes no result.
        case.redis.stop()
        result = case.sluice("ping", "good")
        expect(f"exit: {result.err}", result.code, OK)
        expect_true(f"said: {result.err}",
                    "not on the status page" in result.err)
        case.redis.start()

        expect("both", case.sluice("ping", "--every", "1s", "--json").code, 64)
        log = os.path.join(case.directory, "rounds")
        with open(log, "wb") as out:
            process = subprocess.Popen(case.argv("ping", "good", "--every", "1s"),
                                       stdout=out, stderr=out)

        def lines():
            with open(log, encoding="utf-8") as text:
                return text.read().splitlines()
        try:
            wait_until(lambda: len(lines()) >= 3, 20, "three rounds")
            process.send_signal(signal.SIGINT)
            expect("exit", process.wait(10), OK)
        finally:
            process.kill()
        for line in lines()[:3]:
            expect_true(f"line {line!r}", re.match(
                r"\d{4}-\d\d-\d\d [\d:]{8} good: OK: connected 0\.", line))
        expect_true(f"summary {lines()[-1]!r}", re.fullmatch(
            r"good: \d+ sent, \d+ arrived, min/avg/max [\d./]+ s",
            lines()[-1]))
