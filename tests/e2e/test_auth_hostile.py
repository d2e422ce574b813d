"""Verification of what nobody sends by mistake: always a result, in bounded time
and memory. Straight over the milter protocol, since Postfix would cut most of it,
and with the sanitizers' build as well where there is one."""

import base64
import os
import re
import shutil

from auth_case import (HELO, LIMIT_S, MESSAGE_MS, OTHER_CLIENT, SENDER,
                       SENDER_DOMAIN, auth_host, bare_milter, verdicts)
from dns_hostile import (SERVFAIL, SILENT, Broken, Bytes, Garbage, Late, Oversize,
                         Rdata, Truncated, WrongId, WrongName)
from harness import SOURCE, expect, expect_true, skip
from milter_client import Message
from parts.process import run, tail

FROM = ("From", " " + SENDER)
GROWTH_MAX = 64 << 20   # of resident memory, by one test
RESULTS = {"none", "pass", "fail", "softfail", "neutral", "policy", "temperror",
           "permerror"}


def _bindirs():
    bindir = os.environ["SLUICE_BINDIR"]
    sanitized = os.path.join(bindir, "sanitizers")
    return [bindir] + [sanitized] * os.path.exists(
        os.path.join(sanitized, "sluice-milter"))


def _resident(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) << 10


def _each_build(test, records=(), auth=""):
    """Runs the test with each build; then memory has not grown, and an ordinary
    message passes."""
    for bindir in _bindirs():
        with bare_milter(records, auth, bindir) as bare:
            text = "From: someone@senders.test\nSubject: s\n\nText.\n"
            signed = bare.key.sign(text, headers=("From", "Subject")).decode()
            head, _, body = signed.partition("\n\n")
            headers = [tuple(line.split(":", 1)) for line in
                       re.split(r"\n(?=[^ \t])", head)]

            def ordinary():
                found = verdicts(bare.tell(headers,
                                           body.replace("\n", "\r\n")))
                expect("an ordinary message", found, {
                    "spf": "pass", "dkim": "pass", "dmarc": "pass"})
            ordinary()
            before = _resident(bare.milter.pid)
            test(bare)
            ordinary()
            growth = _resident(bare.milter.pid) - before
            if bindir == os.environ["SLUICE_BINDIR"]:
                expect_true(f"memory has grown by {growth >> 20} MB",
                            growth < GROWTH_MAX)


def _tell(bare, what, **options):
    found = verdicts(bare.tell(**options))
    expect_true(f"{what}: each method has a result: {found}",
                set(found) == {"spf", "dkim", "dmarc"}
                and set(found.values()) <= RESULTS)
    return found


# ---- headers -------------------------------------------------------------

def test_huge_headers():
    """60,000 bytes is what Postfix hands on; of 1 MB libmilter may end the
    connection, but nothing else."""
    def test(bare):
        for name in ("Subject", "From", "Received", "DKIM-Signature",
                     "Authentication-Results"):
            for size, may_close in ((60000, False), (1 << 20, True)):
                for value in (" " + "a" * size, " " + "(" * size,
                              " " + "=; " * (size // 3)):
                    headers = (FROM, (name, value))
                    try:
                        _tell(bare, f"{name} of {size}", headers=headers)
                    except ConnectionError:
                        expect_true(f"{name} of {size} is taken", may_close)
    _each_build(test)


def test_huge_headers_through_postfix():
    with auth_host() as host:
        for name in ("To", "Authentication-Results", "DKIM-Signature"):
            host.send(name, key=host.key, headers=("From", "Subject"),
                      extra=f"{name}: {'a' * (1 << 20)}\n")
        for id, found in host.delivered().items():
            expect(f"{id}: one field of ours", len(found.own), 1)
            expect(f"{id}: the good signature", "pass" in {
                result.value for result in found.of("dkim")}, True)


def test_ten_thousand_headers():
    """Also when all of them are of a kind that is read."""
    def test(bare):
        host = bare.host.postfix.hostname
        for name, value in (("X-Any", " thing"), ("From", " " + SENDER),
                            ("Received", " from a (b [192.0.2.1]) by c; d"),
                            ("Authentication-Results", f" x.{host}; spf=pass"),
                            ("DKIM-Signature", " v=1; a=rsa-sha256; b=x")):
            _tell(bare, f"10,000 times {name}",
                  headers=(FROM, *[(name, value)] * 10000))
        _trusted_chain(bare)
    _each_build(test)


def _trusted_chain(bare):
    """10,000 Received fields of trusted hosts."""
    line = (" from f.test (f.test [10.1.0.1]) by f.test (Postfix) with ESMTP"
            " id 1; Sun, 22 Nov 2026 05:59:00 +0000")
    bare.tell(headers=(*[("Received", line)] * 10000, FROM), client="10.1.0.1")


def test_hostile_bytes():
    values = ["\x01\x02\x7f", "\xff\xfe\x80" * 20, "\xc3\xa9@\xc3\xa9.test",
              "a\rb@c.test", "\r\r\r", "a@b.test\r\n x", "\t", "",
              "\"unterminated@c.test", "(unterminated a@b.test",
              "a@b.test (((((", "\\", "\"\\", "<", "<<<>>>", "a@[", "@", "@@",
              "=?utf-8?q?=?= <a@b.test>", "=?", ":;", "a:b:c;", ";" * 500,
              "," * 5000, "<a@b.test>" * 2000, "a@" + "b." * 5000,
              "(" * 20000 + ")" * 20000, "\"" * 9999, "\\" * 9999,
              "a@b.test\x00c@d.test"]

    def test(bare):
        for value in values:
            for name in ("From", "Authentication-Results", "DKIM-Signature",
                         "Received"):
                headers = [(name, " " + value)]
                if name != "From":
                    headers.append(FROM)
                _tell(bare, f"{name}: {value[:30]!r}", headers=headers)
            bare.tell(helo=value.replace("\0", "")[:500] or "x")
            _tell(bare, f"sender {value[:30]!r}",
                  sender=value.replace("\0", "")[:900])
        _tell(bare, "NUL and bare CR in the body",
              body="\0" * 1000 + "a\rb\r\r\n" * 1000 + "\n.\n" * 100)
    _each_build(test)


def test_five_hundred_signatures():
    """Valid ones, whose keys are there; then keys that never come."""
    def signature(bare, number, domain):
        return ("DKIM-Signature", f" v=1; a=rsa-sha256; d={domain}; "
                f"s=s{number}; h=From:Subject; bh="
                "g3zLYH4xKxcPrHOD18z9YfpQcnk/GaJedfustWU5uGs=; "
                f"b={'QUJD' * 85}{number:04}")

    def test(bare):
        for domain in (SENDER_DOMAIN, "silent.test"):
            results = bare.tell(headers=(*(
                signature(bare, number, domain) for number in range(500)),
                FROM))
            count = sum(result.method == "dkim" for result in results)
            expect_true(f"{domain}: not more than the limit: {count}",
                        1 <= count <= 33)
        asked = sum(times for (name, _), times in bare.dns.asked.items()
                    if name.endswith(".silent.test"))
        expect_true(f"questions are limited too: {asked}", asked <= 32 * 4)
    _each_build(test, {
        ("*.silent.test", "TXT"): SILENT,
        (f"*._domainkey.{SENDER_DOMAIN}", "TXT"): "v=DKIM1; p=AAAA"})


# ---- DNS -----------------------------------------------------------------

SPF = "v=spf1 ip4:192.0.2.0/24 -all"
TXT_BYTES = bytes([len(SPF)]) + SPF.encode()
LIES = {
    "servfail": SERVFAIL, "silent": SILENT, "late": Late(60, SPF),
    "wrong id": WrongId(SPF), "wrong name": WrongName(SPF),
    "garbage": Garbage(b"\xff" * 40), "short": Bytes(b"\0"),
    "broken": Broken(SPF), "truncated": Truncated(SPF),
    "never whole": Truncated(SILENT), "broken over TCP":
        Truncated(Broken(SPF)),
    "huge": [SPF, *["x" * 250] * 200], "huge over UDP": Oversize(["y" * 200] * 60),
    "long string": "v=spf1 " + "ip4:192.0.2.1 " * 4000 + "-all",
    "empty rdata": Rdata(b""), "length beyond": Rdata(b"\xffabc"),
    "zero strings": Rdata(b"\0" * 300), "NUL": Rdata(b"\x08v=spf1\0-"),
    "pointer to itself": Rdata(b"\xc0\x0c" * 20),
    "plain": Rdata(TXT_BYTES),
}
TRUE = ("truncated", "huge", "plain")


def test_dns_that_lies():
    """As the SPF record, the DKIM key and the DMARC record at once."""
    records = {}
    for number, lie in enumerate(LIES.values()):
        for name in ("", "_dmarc.", "lab._domainkey."):
            records[f"{name}lie{number}.test", "TXT"] = lie

    def test(bare):
        for number, what in enumerate(LIES):
            domain = f"lie{number}.test"
            key = bare.add_key(domain, publish=False)
            head, _, body = key.sign(
                f"From: a@{domain}\n\nText.\n", headers=("From",)).decode() \
                .partition("\n\n")
            headers = [tuple(line.split(":", 1)) for line in
                       re.split(r"\n(?=[^ \t])", head)]
            found = _tell(bare, what, headers=headers, sender=f"a@{domain}",
                          body=body.replace("\n", "\r\n"))
            expect(f"{what}: SPF passes", found["spf"] == "pass",
                   what in TRUE)
            expect_true(f"{what}: not a key {found}", found["dkim"] != "pass")
            expect_true(f"{what}: in time: {bare.seconds:.1f} s",
                        bare.seconds < LIMIT_S)
    _each_build(test, records)


def test_cnames_and_wide_answers():
    records = {(f"c{number}.test", "CNAME"): f"c{number + 1}.test"
               for number in range(40)}
    records |= {("loop.test", "CNAME"): "pool.test",
                ("pool.test", "CNAME"): "loop.test",
                ("self.test", "CNAME"): "self.test",
                ("good.test", "CNAME"): SENDER_DOMAIN}
    wide = {"mx": "MX", "a": "A", "ptr": "PTR"}
    for mechanism in wide:
        records[f"{mechanism}.wide.test", "TXT"] = f"v=spf1 {mechanism} -all"
    records["mx.wide.test", "MX"] = [(1, f"h{n}.wide.test") for n in range(400)]
    records["a.wide.test", "A"] = [f"10.9.{n // 250}.{n % 250}"
                                   for n in range(3000)]
    records["7.100.51.198.in-addr.arpa", "PTR"] = [
        f"h{n}.wide.test" for n in range(400)]
    records["*.wide.test", "A"] = "10.9.9.9"

    def test(bare):
        found = {domain: _tell(bare, domain, sender=f"a@{domain}",
                               client="192.0.2.25")["spf"]
                 for domain in ("loop.test", "self.test", "c0.test",
                                "good.test")}
        expect("the CNAME that leads somewhere", found.pop("good.test"), "pass")
        expect_true(f"and those that do not: {found}", set(found.values()) <= {
            "temperror", "none", "permerror"})
        for mechanism in wide:
            _tell(bare, f"wide {mechanism}", sender=f"a@{mechanism}.wide.test",
                  client=OTHER_CLIENT)
        asked = sum(times for (name, _), times in bare.dns.asked.items()
                    if name.startswith("h"))
        expect_true(f"not all names of a wide answer are asked for: {asked}",
                    asked <= 100)
    _each_build(test, records)


def test_spf_that_recurses():
    records = {
        ("self.test", "TXT"): "v=spf1 include:self.test -all",
        ("redirect.test", "TXT"): "v=spf1 redirect=redirect.test",
        ("ping.test", "TXT"): "v=spf1 include:pong.test -all",
        ("pong.test", "TXT"): "v=spf1 include:ping.test -all",
        ("macro.test", "TXT"):
            "v=spf1 include:%{l1r+-}.%{d}.macro.test exists:%{s}.%{p}.test -all",
        ("void.test", "TXT"): "v=spf1 " + " ".join(
            f"a:v{n}.test" for n in range(9)) + " -all",
        ("many.test", "TXT"): "v=spf1 " + " ".join(
            f"include:m{n}.many.test" for n in range(100)) + " -all",
        ("*.many.test", "TXT"): "v=spf1 ?all",
        ("tree.test", "TXT"): "v=spf1 include:a.tree.test include:b.tree.test",
        ("*.tree.test", "TXT"): lambda name, _type, _transport:
            f"v=spf1 include:a.{name} include:b.{name} -all"}

    def test(bare):
        found = {name: _tell(bare, name, sender=f"a@{name}")["spf"]
                 for name, _ in records if "*" not in name}
        expect("permerror each", found, dict.fromkeys(found, "permerror"))
        asked = sum(times for (name, _), times in bare.dns.asked.items()
                    if name.endswith(("many.test", "tree.test")))
        expect_true(f"and few questions: {asked}", asked <= 80)
    _each_build(test, records)


def _der(tag, data):
    if len(data) < 128:
        return bytes([tag, len(data)]) + data
    size = len(data).to_bytes(2, "big")
    return bytes([tag, 0x82]) + size + data


def _rsa_key(bits):
    """A SubjectPublicKeyInfo whose modulus is that long and nobody's."""
    rsa = _der(0x30, _der(2, b"\0" + b"\xa5" * (bits // 8)) + _der(2, b"\1\0\1"))
    algorithm = _der(0x30, bytes.fromhex("06092a864886f70d010101") + b"\5\0")
    return base64.b64encode(_der(0x30, algorithm + _der(3, b"\0" + rsa))).decode()


def test_keys_that_are_garbage():
    keys = {
        "empty": "", "tags": "v=DKIM1; k=rsa; p", "base64": "v=DKIM1; p=!!!!",
        "not DER": "v=DKIM1; p=AAAA", "long": "v=DKIM1; p=" + "A" * 30000,
        "zeros": "v=DKIM1; p=" + "A" * 392, "revoked": "v=DKIM1; p=",
        "version": "v=DKIM2; p=AAAA", "twice": "v=DKIM1; p=AAAA; p=AAAA",
        "ed25519 length": "v=DKIM1; k=ed25519; p=AAAA",
        "huge RSA": "v=DKIM1; p=" + _rsa_key(16384), "bytes": "v=DKIM1; \xff=\x01; p=AAAA"}
    records = {(f"k{number}._domainkey.{SENDER_DOMAIN}", "TXT"): text
               for number, text in enumerate(keys.values())}

    def test(bare):
        for number, what in enumerate(keys):
            signer = bare.add_key()
            signer.selector = f"k{number}"
            head, _, body = signer.sign(
                f"From: {SENDER}\n\nText.\n", headers=("From",)).decode() \
                .partition("\n\n")
            found = _tell(bare, what, headers=[
                tuple(line.split(":", 1)) for line in
                re.split(r"\n(?=[^ \t])", head)],
                body=body.replace("\n", "\r\n"))
            expect_true(f"{what}: {found}", found["dkim"] in (
                "permerror", "fail", "policy", "neutral"))
    _each_build(test, records)


# ---- the protocol --------------------------------------------------------

def test_message_time_limit():
    """However much waits for DNS, a message waits no longer than its limit."""
    records = {("silent.test", "*"): SILENT, ("*.silent.test", "*"): SILENT,
               ("slow.test", "TXT"): Late(0.35, "v=spf1 include:a.slow.test"),
               ("*.slow.test", "TXT"): lambda name, *_: Late(
                   0.35, f"v=spf1 include:a.{name} -all")}
    with bare_milter(records) as bare:
        for domain in ("silent.test", "slow.test"):
            headers = [("DKIM-Signature", " v=1; a=rsa-sha256; d=silent.test; "
                        f"s=s{number}; h=From; bh=AAAA; b=AAAA")
                       for number in range(8)]
            _tell(bare, domain, sender=f"a@{domain}", helo=f"h.{domain}",
                  headers=(*headers, ("From", f" a@{domain}")))
            expect_true(f"{domain}: {bare.seconds:.2f} s",
                        bare.seconds < MESSAGE_MS / 1000 + 1.5)


def test_interrupted_dialogues():
    """Connections that end at every step, with queries under way."""
    def test(bare):
        bare.dns.delay = 0.1
        for step in range(5):
            for _ in range(20):
                message = Message("192.0.2.25", HELO, f"a@i{step}.test",
                                  (FROM,))
                message.connect_to(bare.socket)
                if step > 0:
                    message.envelope()
                if step > 1:
                    message.content()
                if step > 2:
                    message._send("A", b"")
                if step > 3:
                    message.envelope()
                message.close()
        bare.dns.delay = 0
    _each_build(test)


def test_miltertest_script():
    """The protocol as OpenDKIM's own tool speaks it: what is negotiated, in which
    order the answers come, a second message on one connection."""
    if not shutil.which("miltertest"):
        skip("miltertest is not installed")
    script = os.path.join(SOURCE, "tests", "e2e", "auth.lua")
    with bare_milter() as bare:
        code, out, err = run(["miltertest", "-D", f"socket=unix:{bare.socket}",
                              "-D", f"host={bare.host.postfix.hostname}",
                              "-s", script], check=False, timeout=60)
        expect(f"miltertest: {out}{err}{tail(bare.milter.log_path)}", code, 0)
