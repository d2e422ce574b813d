"""`sluice cutover` between two real mail servers, with mbsync."""

from harness import expect, expect_true, message, sluice_lab, wait_until

BOXES = ["a@example.com", "b@example.com", "c@example.com"]


def reload_fence(lab):
    """A fence of a few seconds in place of 32."""
    for side in (lab.old, lab.new):
        side.sluice.fence = "reload"


def send(lab, id, *recipients):
    reply = lab.old.postfix.smtp("someone@senders.test", list(recipients),
                                 message(id))
    expect_true(f"{id} is accepted: {reply}", reply.accepted)


def test_mail_before_during_and_after():
    with sluice_lab(BOXES, prepare=reload_fence) as lab:
        send(lab, "before", *BOXES)
        lab.wait_drained()
        sluice = lab.old.sluice
        sluice.cli("lock", BOXES[0], check=True)
        send(lab, "during", *BOXES)
        wait_until(lambda: any(
            "during" in str(box) for box in lab.read_old(BOXES[1:]).values()),
            30, "unlocked mailboxes get theirs at once")
        code, out, err = sluice.cli("cutover", "example.com")
        expect(f"exit code ({out} {err})", code, 0)
        send(lab, "after", *BOXES)
        lab.wait_drained()
        for box, found in lab.read_new(BOXES).items():
            expect(f"{box} on the new side",
                   sorted(each.id for each in found),
                   ["after", "before", "during"])
        for box, found in lab.read_old(BOXES[:1]).items():
            expect(f"{box} on the old side", [each.id for each in found],
                   ["before"])


def test_mailbox_that_the_new_server_does_not_have():
    with sluice_lab(BOXES, prepare=reload_fence) as lab:
        stranger = "d@example.com"
        lab.add_mailboxes([stranger], sides=[lab.old])
        lab.import_mailboxes(BOXES + [stranger])
        code, out, err = lab.old.sluice.cli("cutover", "example.com")
        expect(f"exit code ({out} {err})", code, 1)
        expect_true("listed with the new server's words",
                    f"{stranger}: refused by the new server: 550" in err)
        send(lab, "stays", stranger)
        wait_until(lambda: lab.read_old([stranger])[stranger], 20,
                   "its mail is delivered on the old side")
