"""Each of the five playbooks, rehearsed from beginning to end with one pilot mailbox:
the zone, the other mailboxes, the users and the old services notice nothing, and the
rollback of the rehearsal leaves nothing behind."""

import os

import test_play_bystar as bystar
import test_play_clrstream as clrstream
import test_playbook_lab as mailroute
import test_play_skyconnect as skyconnect
import test_play_smarsh as smarsh
from parts.process import accepts
from play_case import BOXES, DOMAIN, expect, expect_true, play_case

PILOT = BOXES[0]
WORDS = ("--rehearse", PILOT)


def sent(play):
    """Notices that were sent."""
    directory = os.path.join(play.lab.old.sluice.state, "playbook", DOMAIN)
    return [name for name in os.listdir(directory) if name.endswith(".sent")]


def rehearse(play, *left, moves=True, services=lambda: None):
    """The rehearsal is started; what it must not change, and what it leaves out besides
    the change of DNS."""
    def picture():
        return play.zone(), {box: home for box, home in play.homes().items()
                             if not PILOT.startswith(f"{box}@") or not box}, services()

    before, homes = picture(), play.homes()
    play.go()
    expect("the rest is as it was", picture(), before)
    expect("the pilot", play.homes()[PILOT.split("@")[0]], "n" if moves else "o")
    expect("nobody was told", sent(play), [])
    notes = {id: step["note"] or "" for id, step in play.steps().items()}
    for step in ("dns-change", *left):
        expect_true(f"{step} is left out: {notes[step]}",
                    notes[step].startswith("rehearsal:"))
    play.rollback()
    expect("all of it", (picture(), play.homes()), (before, homes))


def test_mailroute_rehearsed():
    with play_case(mailroute.RECORDS, mailroute.PLAN) as play:
        play.start("mailroute", *WORDS, follow_up="48h")
        rehearse(play)


def test_smarsh_rehearsed():
    with play_case(smarsh.RECORDS, smarsh.PLAN) as play:
        play.start("smarsh", *WORDS)
        rehearse(play)


def test_bystar_rehearsed():
    context, state = bystar.case()
    with context as play:
        services = state["services"]
        bystar.start(play, services, *WORDS)
        rehearse(play, "services-off", "tell-users", "imap-off", "submission-gone",
                 "mtas-off", services=lambda: [
                     accepts(("127.0.0.1", port))
                     for port in (services.old_imap, services.old_submission)])


def test_clrstream_rehearsed():
    with clrstream.case() as play:
        clrstream.start(play, play.filter(play.lab.old), *WORDS)
        rehearse(play, moves=False)


def test_skyconnect_rehearsed():
    with skyconnect.case() as (play, services):
        skyconnect.start(play, services, *WORDS)
        rehearse(play, "tell-users", "class-applied", "catchall")
