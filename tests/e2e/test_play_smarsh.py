"""smarsh from start to finish: the new side relays back to the old one, MX moves
first, the flip ends the redirection, and a copy after it deletes nothing."""

from play_case import (BOXES, DOMAIN, expect, expect_true, message, play_case,
                       wait_until)
from web_case import outlook_answer

PLAN = """\
  record "MX" { name = "@" value = {"10 mx.new.example.com."} ttl = 1 }
  record "TXT" { name = "@" value = {"v=spf1 ip4:198.51.100.0/24 -all"} ttl = 1 }
  record "CNAME" { name = "autodiscover" value = {"mx.new.example.com."} ttl = 1 }
"""
RECORDS = ["@ 1 MX 10 mx.old", "@ 1 TXT \"v=spf1 mx ~all\"",
           "autodiscover 1 CNAME mx.old", "filter 1 A 203.0.113.9",
           "mx.old 1 A 192.0.2.1", "mx.new 1 A 198.51.100.1"]
ANN = BOXES[0]
AUTODISCOVER = "/autodiscover/autodiscover.xml"


def ids(play, side, box):
    return sorted(found.id for found in play.boxes(side, [box])[box] if found.id)


def send(play, postfix, id):
    reply = postfix.smtp("someone@senders.test", [ANN], message(id))
    expect_true(f"{id} is accepted: {reply}", reply.accepted)


def seed(side, id, when=None):
    side.dovecot.seed(ANN, [message(id).encode()], when=when)


def test_smarsh():
    with play_case(RECORDS, PLAN) as play:
        lab = play.lab
        seed(lab.old, "of-old")
        play.start("smarsh")
        play.go(to="rest")
        # MX is the new one, and mail still goes to the old mailbox.
        expect("MX", play.first.live(DOMAIN, "MX"), ["1 10 mx.new.example.com."])
        expect("SPF waits for the flip", play.first.live(DOMAIN, "TXT"),
               ['1 "v=spf1 mx ~all"'])
        send(play, lab.new.postfix, "redirected")
        lab.wait_drained()
        expect_true("redirected to the old side",
                    "redirected" in ids(play, lab.old, ANN))
        # A user who has looked around on the new side has moved this there.
        seed(lab.new, "new-alone")

        # The copy has missed an old one: the count says how to go on, and that works.
        seed(lab.old, "missed", when=1_700_000_000)
        seed(lab.old, "missed-too", when=1_700_000_000)
        play.acknowledge("rest")
        play.stops("counted", "copy them again", f"rollback {DOMAIN} --to first-sync, and "
                   "then run")
        play.rollback("--to", "first-sync")
        play.go(to="rest")
        # What comes to the old side since is no fault: it is never still.
        for id in ("since-1", "since-2"):
            seed(lab.old, id)
        play.go(to="profiles")
        expect_true(f"they came since: {play.note('counted')}",
                    "since first-sync: 1 have such ones" in play.note("counted"))
        old = ("127.0.0.1", lab.old.dovecot.imap_port)
        page = play.web.pages.pop(AUTODISCOVER)
        play.refused("profiles", "no way that mail programs ask")
        play.web.pages[AUTODISCOVER] = (200, {}, outlook_answer(old))
        play.refused("profiles", "still name the old server")
        play.web.pages[AUTODISCOVER] = page
        play.acknowledge("profiles")
        play.go(to="clients")
        expect("all moved", set(play.homes().values()), {"n"})
        expect("one SPF record", play.first.live(DOMAIN, "TXT"),
               ['1 "v=spf1 ip4:198.51.100.0/24 -all"'])
        # Somebody's client is still at the old server.
        seed(lab.old, "late-at-old")
        send(play, lab.new.postfix, "after-flip")
        lab.wait_drained()
        play.go()
        expect("everything, and nothing deleted", ids(play, lab.new, ANN),
               sorted(["of-old", "redirected", "new-alone", "after-flip",
                       "late-at-old", "missed", "missed-too", "since-1", "since-2"]))
        report = play("report", DOMAIN, "--format", "html").out
        expect_true("the report names who agreed", "in the lab" in report)


def behind_a_filter():
    """Records and plan."""
    return [record.replace("mx.old", "filter") if "MX" in record else record
            for record in RECORDS], PLAN.replace("10 mx.new", "10 filter")


def test_smarsh_behind_a_filter():
    records, plan = behind_a_filter()
    with play_case(records, plan) as play:
        filter = play.filter(play.lab.old)
        play.start("smarsh", "--variant", "filter", filter_smtp=filter.smtp,
                   old_name=play.lab.old.postfix.hostname)
        play.go(to="repoint")
        expect("MX stays", play.first.live(DOMAIN, "MX"),
               ["1 10 filter.example.com."])
        play.refused("repoint", f"went through {play.lab.old.postfix.hostname}")
        filter.point(play.lab.new)
        # Postfix reloads while mail flows: the old route may be used once more.
        wait_until(lambda: play.ack("repoint").code == 0, 60, "the filter's new route")
        play.go()
        expect("all moved", set(play.homes().values()), {"n"})
