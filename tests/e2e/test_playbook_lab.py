"""mailroute from beginning to end between two real mail servers, with a real DNS
server that takes updates. Acknowledgements are scripted; from the DNS change to the
verified flow it runs unattended, for as long as the TTLs take."""

import contextlib
import json
import os
import subprocess

from harness import SOURCE, expect, expect_true, sluice_lab, wait_until
from parts.dns import Dns, Tsig
from parts.dovecot import PASSWORD

BOXES = ["a@example.com", "b@example.com"]
DOMAIN = "example.com"
PLAN = """\
  record "MX" { name = "@" value = {"10 mx.new.example.com."} ttl = 5 }
  record "TXT" { name = "@" value = {"v=spf1 ip4:198.51.100.0/24 -all"} ttl = 5 }
  record "TXT" { name = "_dmarc" value = {"v=DMARC1; p=none"} ttl = 5 }
"""
RECORDS = ["@ NS ns", "@ 5 MX 10 mx.old", "@ 5 TXT \"v=spf1 mx ~all\"",
           # There before, so that no negative answer (SOA minimum, 300 s) is
           # waited for.
           "_dmarc 5 TXT \"v=DMARC1; p=quarantine\"",
           "mx.old 5 A 192.0.2.1", "mx.new 5 A 198.51.100.1"]


class Move:
    def __init__(self, lab, dns):
        self.lab, self.dns = lab, dns
        self.users = self.people("users.csv", BOXES)
        self.pilots = self.people("pilots.csv", BOXES[:1])

    def people(self, name, addresses):
        path = os.path.join(self.lab.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("email,password\n" + "".join(
                f"{address},{PASSWORD}\n" for address in addresses))
        os.chmod(path, 0o600)
        return path

    def __call__(self, *words, timeout=300):
        return self.lab.old.sluice.cli("playbook", *words, timeout=timeout)

    def start(self):
        settings = {
            "users": self.users, "pilots": self.pilots,
            "old-imap": f"127.0.0.1:{self.lab.old.dovecot.imap_port}",
            "new-imap": f"127.0.0.1:{self.lab.new.dovecot.imap_port}",
            "old-smtp": f"127.0.0.1:{self.lab.old.postfix.port}",
            "new-smtp": f"127.0.0.1:{self.lab.new.postfix.port}"}
        words = [word for name, value in settings.items()
                 for word in ("--set", f"{name}={value}")]
        code, out, err = self("start", "mailroute", DOMAIN, *words)
        expect(f"start ({out} {err})", code, 0)

    def run_to_person(self):
        """(code, step that waits, what was said)"""
        code, out, err = self("run", DOMAIN, "--wait")
        mark = f"ack {DOMAIN} "
        step = out.rsplit(mark, 1)[1].split()[0] if mark in out else None
        return code, step, f"{out}\n{err}"

    def run_to(self, last):
        """Acknowledges whatever comes, until that step is what waits."""
        while True:
            code, step, said = self.run_to_person()
            expect(f"waits for a person ({said})", (code, bool(step)),
                   (75, True))
            if step == last:
                return
            self.ack(step)

    def states(self):
        _, out, _ = self("status", DOMAIN, "--json")
        return {step["id"]: step["state"]
                for step in json.loads(out)["steps"]}

    def run_unattended(self):
        """Until the 48 hours of the follow-up are waited for."""
        log = os.path.join(self.lab.directory, "run.log")
        with open(log, "w", encoding="utf-8") as file, subprocess.Popen(
                self.lab.old.sluice.argv("playbook", "run", DOMAIN, "--wait"),
                stdout=file, stderr=file) as runner:
            def there():
                return (runner.poll() is not None or
                        self.states()["follow-up"] == "waiting for time")
            wait_until(there, 200, "the run waits for 48 hours")
            ended = runner.poll()
            runner.terminate()
        with open(log, encoding="utf-8") as file:
            expect(f"it goes on ({file.read()})", ended, None)

    def ack(self, step):
        code, out, err = self("ack", DOMAIN, step, "--by", "test")
        expect(f"ack {step} ({out} {err})", code, 0)


@contextlib.contextmanager
def move_case():
    def prepare(lab):
        port = lab._ports.take()
        key = Tsig("sluice-key")
        key_file = os.path.join(lab.directory, "tsig.key")
        key.write(key_file)
        state["dns"] = dns = Dns(os.path.join(lab.directory, "zone"), port)
        state["parent"] = parent = Dns(os.path.join(lab.directory, "parent"),
                                       lab._ports.take())
        parent.zone("com", ["example NS ns.example",
                            "ns.example A 127.0.0.1"])
        dns.allow_updates(key)
        dns.zone(DOMAIN, RECORDS)
        parent.start()
        dns.start()
        old = lab.old.sluice
        for side in (lab.old, lab.new):
            side.sluice.fence = "reload"
        old.extra = (f'playbooks = "{SOURCE}/conf/playbooks"\n'
                     f'dns {{\n resolvers = {{"{dns.server}"}}\n'
                     f' parent = {{"{parent.server}"}}\n port = {port}\n'
                     f' key-file = "{key_file}"\n}}\n')
        old.domains[DOMAIN] = lab.domain_section(lab.old, PLAN)

    state = {}
    with sluice_lab(BOXES, prepare=prepare) as lab:
        try:
            yield Move(lab, state["dns"])
        finally:
            state["dns"].stop()
            state["parent"].stop()


def homes(lab):
    flat = lab.redis.command("HGETALL", f"sluice:home:{DOMAIN}")
    return {value[0] for value in flat[1::2]}


def test_mailroute_from_beginning_to_end():
    with move_case() as move:
        move.start()
        move.run_to("guides-given")
        expect("nothing moved yet", homes(move.lab), {"o"})
        move.ack("guides-given")
        # From the DNS change to the verified flow nobody is needed; then 48 h.
        move.run_unattended()
        expect("all moved", homes(move.lab), {"n"})
        expect_true("MX is the new one", "mx.new" in str(
            move.dns.live(DOMAIN, "MX")))
        for box, found in move.lab.read_new(BOXES[:1]).items():
            expect(f"two test messages in {box}", len(found), 2)


def test_rollback_restores_records_and_routing():
    with move_case() as move:
        before = move.dns.live(DOMAIN, "MX")
        move.start()
        move.run_to("guides-given")
        move.ack("guides-given")
        move.run_unattended()
        expect("it moved", homes(move.lab), {"n"})
        code, out, err = move("rollback", DOMAIN)
        expect(f"back ({out} {err})", code, 0)
        expect("home", homes(move.lab), {"o"})
        expect("records", move.dns.live(DOMAIN, "MX"), before)
