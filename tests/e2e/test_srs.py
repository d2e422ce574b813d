"""Rewritten envelope senders (SRS): forwarded by one Postfix, bounced by the
other, and made and read by PostSRSd as well."""

import contextlib
import os
import shutil
import socket
import tempfile

from harness import (address, expect, expect_true, ids_in, message, skip,
                     sluice_lab, wait_until)
from milter_host import A, SENDER, milter_host
from policyd_case import policyd_case
from srs_case import SECRETS, secret_file, wire_srs

from parts.process import Child, Ports, accepts  # isort: skip

SRS_DOMAIN = "srs.example.net"
MOVED, REFUSED, STAYS = (address(number) for number in range(3))
ORIGINALS = ["user@example.org", "First.Last+tag@Example.ORG",
             "o'brien=x@example.org",
             "SRS0=ABCD=XY=orig.example=bob@first.example",
             "SRS0-ABCD=XY=orig.example=bob@first.example",
             "SRS1=QQQQ=first.example==ABCD=XY=orig.example=bob@2nd.example"]


def return_path(found):
    return (found.headers["Return-Path"] or "").strip().strip("<>")


@contextlib.contextmanager
def srs_lab():
    """Old rewrites; new delivers MOVED and bounces REFUSED, back to old."""
    def prepare(lab):
        wire_srs(lab.old, SRS_DOMAIN)
        for side in (lab.old, lab.new):
            # Known to Postfix, but not to Dovecot.
            side.postfix.add_mailboxes([REFUSED])
        way_back = f"smtp:[127.0.0.1]:{lab.old.postfix.port}"
        lab.new.postfix.postconf(
            transport_maps=f"{lab.new.postfix.value('transport_maps')}, "
                           f"inline:{{{{{SRS_DOMAIN} = {way_back}}}}}")
    with sluice_lab([MOVED, STAYS], prepare=prepare) as lab:
        # Records as they stand after a flip; no lock and no fence to wait for.
        for mailbox in (MOVED, REFUSED):
            lab.redis.command("HSET", "sluice:home:example.com",
                              mailbox.partition("@")[0], "n1.6740a1b2")
        yield lab


def test_forwarded_and_bounced():
    with srs_lab() as lab:
        old = lab.old.postfix
        both = old.smtp(SENDER, [MOVED, STAYS], message("both"))
        stays = old.smtp(SENDER, [STAYS], message("stays"))
        null = old.smtp("", [MOVED], message("null"))
        refused = old.smtp(SENDER, [REFUSED], message("refused"))
        expect("accepted", [reply.code for reply in
                            (both, stays, null, refused)], [250] * 4)

        # Forwarded: a sender of the srs domain; else nothing is touched.
        wait_until(lambda: ids_in(lab.read_new([MOVED])[MOVED]) ==
                   ["both", "null"], 30, "both are forwarded", interval=0.3)
        paths = {found.id: return_path(found)
                 for found in lab.read_new([MOVED])[MOVED]}
        rewritten = paths["both"]
        expect_true(f"rewritten sender {rewritten!r}",
                    rewritten.startswith("SRS0=") and rewritten.endswith(
                        f"=senders.test=someone@{SRS_DOMAIN}"))
        expect("null sender", paths["null"], "")
        wait_until(lambda: len(lab.read_old([STAYS])[STAYS]) == 2, 30,
                   "delivered here", interval=0.3)
        expect("one sender for all recipients of a message",
               {found.id: return_path(found)
                for found in lab.read_old([STAYS])[STAYS]},
               {"both": rewritten, "stays": SENDER})

        # The new server's bounce comes back to the sender.
        old.wait_log(rf"to=<{SENDER}>, orig_to=<SRS0=.*status=sent", 30)
        boxes = lab.read_old([SENDER])[SENDER]
        expect("one bounce", len(boxes), 1)
        expect_true("by the new server: " + str(boxes[0].headers),
                    "MAILER-DAEMON@new.lab.test"
                    in boxes[0].headers["From"])
        log = lab.new.postfix.log()
        expect_true("it was sent to the rewritten address",
                    f"@{SRS_DOMAIN}>, relay=127.0.0.1" in log)

        # Forged and altered ones are nobody's.
        for bad in (rewritten.replace("=someone@", "=victim@"),
                    f"SRS0=AAAA=AA=senders.test=someone@{SRS_DOMAIN}",
                    f"postmaster@{SRS_DOMAIN}"):
            reply = old.smtp("", [bad], message("forged"))
            expect(f"{bad} refused", reply.refused, {bad: 550})
        reply = old.smtp("", [rewritten.lower()], message("lower"))
        expect("case does not matter", reply.code, 250)
        wait_until(lambda: "lower" in ids_in(lab.read_old([SENDER])[SENDER]),
                   30, "it comes back", interval=0.3)


def ask_postsrsd(port, key):
    """One line of tcp_table(5): "200 value" or "500 why"."""
    with socket.create_connection(("127.0.0.1", port), 10) as client, \
            client.makefile("rb") as stream:
        client.sendall(f"get {key}\n".encode())
        return stream.readline().decode().strip()


@contextlib.contextmanager
def postsrsd(directory):
    program = shutil.which("postsrsd", path=os.environ["PATH"] + ":/usr/sbin")
    if not program:
        skip("postsrsd is not installed")
    ports = Ports()
    forward, reverse = ports.take(), ports.take()
    child = Child("postsrsd", os.path.join(directory, "postsrsd.log"))
    try:
        child.start([program, "-s", secret_file(directory), "-d", SRS_DOMAIN,
                     "-4", "-l", "127.0.0.1", "-f", str(forward),
                     "-r", str(reverse)])
        child.wait_ready(lambda: accepts(("127.0.0.1", reverse)), 10,
                         "accepts connections")
        yield (lambda key: ask_postsrsd(forward, key),
               lambda key: ask_postsrsd(reverse, key))
    finally:
        child.end()
        ports.release()


def section(path):
    return f'srs {{\n  domain = "{SRS_DOMAIN}"\n  secret-file = "{path}"\n}}\n'


def test_postsrsd_reads_ours():
    with tempfile.TemporaryDirectory() as directory, \
            postsrsd(directory) as (_, reverse):
        def prepare(host):
            host.sluice.extra = section(secret_file(host.sluice.directory))
        with milter_host(prepare=prepare) as host:
            host.home(A, "new")
            for number, original in enumerate(ORIGINALS):
                reply = host.postfix.smtp(original, [A], message(f"m{number}"))
                expect(f"{original} accepted", reply.code, 250)
            paths = {found.id: return_path(found)
                     for found in host.boxes(A)[A]}
        for number, original in enumerate(ORIGINALS):
            # What they call the address that SRS1 goes back to.
            if original.startswith("SRS1"):
                original = "SRS0=ABCD=XY=orig.example=bob@first.example"
            expect(f"{original} from {paths[f'm{number}']}",
                   reverse(paths[f"m{number}"]), f"200 {original}")


def test_we_read_those_of_postsrsd():
    with tempfile.TemporaryDirectory() as directory, \
            postsrsd(directory) as (forward, reverse):
        def prepare(case):
            # The secret that signs there is the second one here.
            case.extra = section(secret_file(case.directory, SECRETS[::-1]))
        with policyd_case(prepare) as case:
            for original in ORIGINALS:
                code, _, rewritten = forward(original).partition(" ")
                expect(f"{original} rewritten", code, "200")
                for key in (rewritten, rewritten.lower()):
                    theirs = reverse(key).removeprefix("200 ")
                    expect(key, case.ask("srs", key), f"OK {theirs}")
            expect("not theirs", case.ask("srs", f"user@{SRS_DOMAIN}"),
                   "NOTFOUND ")
