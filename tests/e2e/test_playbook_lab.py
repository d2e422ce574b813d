"""mailroute from beginning to end between two real mail servers and on a real DNS.
Acknowledgements are scripted; from the DNS change to the verified flow nobody is
there."""

import os
import subprocess

from ledger import LogFacts, reconcile
from parts.mailbox import read_maildir
from play_case import BOXES, DOMAIN, expect, expect_true, message, play_case
from traffic import SENDERS, Traffic

PLAN = """\
  record "MX" { name = "@" value = {"10 mx.new.example.com."} ttl = 1 }
  record "TXT" { name = "@" value = {"v=spf1 ip4:198.51.100.0/24 -all"} ttl = 1 }
  record "TXT" { name = "_dmarc" value = {"v=DMARC1; p=none"} ttl = 1 }
"""
RECORDS = ["@ NS ns", "@ 3 MX 10 mx.old", "@ 3 TXT \"v=spf1 mx ~all\"",
           # There before, so that no negative answer (SOA minimum, 300 s) is
           # waited for.
           "_dmarc 3 TXT \"v=DMARC1; p=quarantine\"",
           "mx.old 3 A 192.0.2.1", "mx.new 3 A 198.51.100.1"]


ANN = BOXES[0]


def send(play, postfix, id):
    reply = postfix.smtp("someone@senders.test", [ANN], message(id))
    expect_true(f"{id} is accepted: {reply}", reply.accepted)


def ids(play, side):
    return sorted(found.id for found in play.boxes(side, [ANN])[ANN])


def test_mailroute_from_beginning_to_end():
    with play_case(RECORDS, PLAN) as play:
        lab = play.lab
        beginning = play.picture()
        play.start("mailroute", follow_up="3s")
        play.go(to="guides-given")
        expect("nothing moved yet", set(play.homes().values()), {"o"})
        send(play, lab.old.postfix, "before")
        send(play, lab.new.postfix, "before-by-new")
        play.acknowledge("guides-given")
        # From the DNS change to the follow-up nobody is needed.
        said = play.run()
        expect(f"to the end, unattended ({said})", said.code, 0)
        expect("all moved", set(play.homes().values()), {"n"})
        for server in (play.first, play.second):
            expect("MX", server.live(DOMAIN, "MX"), ["1 10 mx.new.example.com."])
        send(play, lab.old.postfix, "after")
        send(play, lab.new.postfix, "after-by-new")
        lab.wait_drained()
        expect("all of it, and no test message is left", ids(play, lab.new),
               ["after", "after-by-new", "before", "before-by-new"])
        play.back_to(beginning)


def test_mailroute_stops_and_goes_on():
    """Each thing that can be wrong stops the run with its reason; when it is mended
    the same command goes on."""
    with play_case(RECORDS, PLAN) as play:
        lab, cleo = play.lab, BOXES[2]
        play.on_new_side(cleo, False)
        beginning = play.picture()
        play.start("mailroute", follow_up="1s")

        play.go(to="source")
        play.people("users.csv", BOXES, wrong=[cleo])
        play.refused("source", cleo)
        play.people("users.csv", BOXES)
        play.go(to="provision")
        play.refused("provision", cleo, "550")
        play.on_new_side(cleo, True)
        play.go(to="guides-given")
        play.acknowledge("guides-given")

        # A window in which it does not fit: nothing is begun.
        said = play.run("--window", "10m")
        expect(f"the window is too short ({said})", said.code, 1)
        expect_true(f"says so: {said}", "dns-change is not begun" in said.err)
        expect("not begun", play.states()["dns-change"], "pending")

        lowered = play.picture()
        play.second.behind()
        said = play.run("--window", "6h")
        expect(f"a name server does not follow ({said})", said.code, 1)
        expect("it stops there", play.failed(), ["dns-change"])
        expect_true(f"and says which: {play.note('dns-change')}",
                    "127.0.0.2" in play.note("dns-change"))
        expect("nothing moves", set(play.homes().values()), {"o"})
        play.stops("dns-change", "127.0.0.2")   # still so
        play.second.caught_up()
        play.back_to(lowered, "--to", "dns-change")

        lab.new.dovecot.stop()
        play.stops("move", "sync")
        expect("what was not copied stays where it was", set(play.homes().values()),
               {"o"})
        lab.new.dovecot.start()
        play.back_to(beginning, "--to", "ttl")
        play.go()
        expect("all moved", set(play.homes().values()), {"n"})
        play.back_to(beginning)


def test_mailroute_goes_back_while_it_waits():
    """A long TTL is brought down, and put back before it has run out."""
    records = [record.replace("@ 3 MX", "@ 7200 MX") for record in RECORDS]
    with play_case(records, PLAN) as play:
        beginning = play.picture()
        play.start("mailroute", follow_up="1s")
        play.go(to="guides-given")
        play.acknowledge("guides-given")
        said = play("run", DOMAIN)
        expect(f"the old TTL has to run out ({said})", said.code, 75)
        expect("brought down", play.first.live(DOMAIN, "MX"),
               ["1 10 mx.old.example.com."])
        play.back_to(beginning)


SWITCH = """\
title = "DNS alone"
phase "p" {
  step "switch" { title = "DNS" owner = "sluice"
    action = {"dns-apply", "%{domain}", "--timeout", "3s"} undo = {"dns-back", "%{domain}"} }
  step "seen" { title = "Seen" owner = "admin" action = {"acknowledge"} }
}
"""


def on_other_host(play):
    """The command line of another server of the same Redis, with a state-dir of its
    own."""
    old = play.lab.old.sluice
    with open(old.config_path, encoding="utf-8") as file:
        text = file.read()
    state = play.path("other-state")
    os.makedirs(state)
    text = text.replace(f'"{old.state}"', f'"{state}"')
    text = "".join(line for line in text.splitlines(True)
                   if not line.startswith("hostname"))
    path = play.file("other.conf", f'hostname = "other.lab.test"\n{text}')
    argv = old.argv("playbook")
    argv[argv.index(old.config_path)] = path

    def call(*words):
        return subprocess.run(argv + list(words), capture_output=True, text=True,
                              timeout=60, check=False)
    return call


def test_the_way_back_is_on_one_host():
    """Snapshots are of one host: another neither begins the step again, with a snapshot
    of the changed zone, nor says that there is nothing to undo."""
    with play_case(RECORDS, PLAN) as play:
        before = play.zone()
        other = on_other_host(play)
        said = play("start", play.file("switch.conf", SWITCH), DOMAIN)
        expect(f"start ({said})", said.code, 0)
        play.second.behind()
        play.stops("switch", "127.0.0.2")
        for words in (("run", DOMAIN), ("rollback", DOMAIN)):
            done = other(*words)
            expect(f"{words} elsewhere ({done.stderr})", done.returncode, 1)
            expect_true(f"names the host: {done.stderr}", "was begun on "
                        "old.lab.test" in done.stderr)
        play.second.caught_up()
        # What somebody changed since is theirs: the way back stops, until it is mended.
        play.record("@", 1, "MX", "5 mx.other")
        for _ in range(2):
            said = play("rollback", DOMAIN)
            expect(f"somebody's MX is in the way ({said})", said.code, 1)
            expect_true(f"the reason: {play.note('switch')}", "example.com MX stays" in
                        play.note("switch") and "--only @/MX" in play.note("switch"))
        expect("theirs", play.first.live(DOMAIN, "MX"), ["1 5 mx.other.example.com."])
        play.record("@", 1, "MX", "10 mx.new")
        play.rollback()
        expect("restored", play.zone(), before)


def began_copying(lab, box, after):
    """When the copying of a mailbox began that came after this time."""
    with open(os.path.join(lab.sync_directory, box, "times"), encoding="utf-8") as file:
        times = [float(line.split()[1]) for line in file if line.startswith("start")]
    return min(time for time in times if time > after)


def test_mailroute_killed_at_every_step():
    """`sluice playbook run` and its child get SIGKILL once at the beginning of every
    step, while mail flows; nothing is lost, and nobody needs to know."""
    def senders(lab):
        lab.add_mailboxes(SENDERS)

    with play_case(RECORDS, PLAN, prepare=senders, auth=True) as play:
        lab = play.lab
        traffic = Traffic(lab, BOXES, 4)
        traffic.prepare()
        for side in (lab.old, lab.new):
            side.postfix.reload()
        play.start("mailroute", follow_up="1s")
        killer = play.killer()
        traffic.start()
        play.go(run=killer.run)
        traffic.stop()
        lab.wait_drained()

        unkilled = [id for id, step in play.steps().items()
                    if step["owner"] == "sluice" and id not in killer.killed]
        expect("killed in every step", unkilled, [])
        expect("all moved", set(play.homes().values()), {"n"})
        found = {box: [it.id for it in read] for box, read in
                 play.boxes(lab.new).items()}
        moved = play.steps()["move"]["began"]
        stored = {box: [(it.id, it.delivered) for it in read_maildir(
            lab.old.dovecot.maildir(box))] for box in BOXES}
        account = reconcile(
            traffic.sent, {}, found, stored,
            {box: began_copying(lab, box, moved) for box in BOXES},
            {side.name: LogFacts(side.postfix.log()) for side in (lab.old, lab.new)}, [])
        expect_true(f"mail flowed: {len(account.sent)}", len(account.sent) > 40)
        expect("lost", account.lost, [])
        expect("bounced", account.bounced, [])
        expect("delivered into a locked mailbox", account.into_locked, [])
        expect("twice", account.duplicated, [])
