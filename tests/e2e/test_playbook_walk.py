"""Each of the five playbooks, each variant: killed at every step, resumed, and rolled back
from every step (walk_case.py says how)."""

import csv
import io
import os
import subprocess

import test_play_bystar as bystar
import test_play_clrstream as clrstream
import test_play_skyconnect as skyconnect
import test_play_smarsh as smarsh
import test_playbook_lab as mailroute
from parts.process import accepts
from play_case import BOXES, DOMAIN, play_case, wait_until
from walk_case import Walk

ANN = BOXES[0]


def test_mailroute():
    with play_case(mailroute.RECORDS, mailroute.PLAN) as play:
        walk = Walk(play, "mailroute")
        play.start("mailroute", follow_up="1s")
        walk.through()


def test_smarsh():
    with play_case(smarsh.RECORDS, smarsh.PLAN) as play:
        smarsh.seed(play.lab.old, "of-old")
        walk = Walk(play, "smarsh")
        play.start("smarsh")
        walk.through()


def test_smarsh_behind_a_filter():
    records, plan = smarsh.behind_a_filter()
    with play_case(records, plan) as play:
        lab, filter = play.lab, play.filter(play.lab.old)
        words = ("--variant", "filter")
        walk = Walk(play, "smarsh", *words, filter=filter,
                    acks={"repoint": lambda: filter.turn(lab.new)},
                    undone={"repoint": lambda: filter.turn(lab.old)})
        play.start("smarsh", *words, filter_smtp=filter.smtp,
                   old_name=lab.old.postfix.hostname)
        walk.through()


def walk_bystar(*words, whole=True, **acks):
    context, state = bystar.case()
    with context as play:
        lab, services = play.lab, state["services"]
        ports = {"IMAP": services.old_imap, "submission": services.old_submission}

        def more():
            return {"services": {name: accepts(("127.0.0.1", port))
                                 for name, port in ports.items()}}

        bystar.rehearse(play, services, *words)
        walk = Walk(play, "bystar", *words, more=more, whole=whole,
                    touched=lambda: os.path.exists(services.public),
                    acks={"mtas-off": lab.old.postfix.stop,
                          "backup-seen": lambda: backed_up_again(play),
                          **{id: lambda act=act: act(lab) for id, act in acks.items()}})
        bystar.begin(play, services, *words)
        walk.through()


def backed_up_again(play):
    """Messages of the walk's pictures came after the backup."""
    for box in BOXES:
        subprocess.run([play.path("backup"), play.directory()], check=True, timeout=60,
                       env={**os.environ, "SLUICE_MAILBOX": box})


def test_bystar_to_an_own_server():
    walk_bystar()


def test_bystar_to_a_hosted_one():
    walk_bystar("--variant", "hosted", whole=False,
                guide=bystar.copy_as_the_provider_does)


def applications(play, senders):
    """What each of them sends when it is asked for a test message."""
    number = 0

    def send():
        nonlocal number
        number += 1
        before = counted(play)
        for client in senders:
            clrstream.send_as_domain(play, play.lab.old.postfix, client,
                                     f"application-{number}-of-{client}")
        wait_until(lambda: all(counted(play).get(client, 0) > before.get(client, 0)
                               for client in senders), 30, f"{senders} are counted",
                   interval=0.2)
    return send


def counted(play):
    """{client: messages} that sluice-milter has counted."""
    found = {}
    _, out, _ = play.lab.old.sluice.cli("auth", "report", DOMAIN, "--csv")
    for row in csv.DictReader(io.StringIO(out)):
        found[row["client"]] = found.get(row["client"], 0) + int(row["messages"])
    return found


def walk_clrstream(play, *words, **options):
    filter = play.filter(play.lab.old)
    send = applications(play, (clrstream.SHOP, clrstream.OWN))
    walk = Walk(play, "clrstream", *words, filter=filter,
                acks={"applications": send}, **options)
    clrstream.start(play, filter, *words)
    walk.through()


def test_clrstream():
    with clrstream.case() as play:
        walk_clrstream(play)


def test_clrstream_continuity():
    with clrstream.case(clrstream.continuity, clrstream.COPIES) as play:
        walk_clrstream(play, "--variant", "continuity", to=[ANN],
                       boxes=[("old", ANN), ("new", ANN), ("new", clrstream.SECOND)])


def test_skyconnect():
    with skyconnect.case() as (play, services):
        senders = (skyconnect.SHOP, skyconnect.HOSTED)
        walk = Walk(play, "skyconnect",
                    acks={"applications": applications(play, senders)})
        skyconnect.start(play, services)
        walk.through()
