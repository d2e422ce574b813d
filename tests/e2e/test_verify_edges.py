"""Where verification meets the rest: what DMARC holds and who gets a copy of it,
mail for others than the domains that move, floods of forged results, odd forms of
a header's name."""

import json
import time

from auth_case import A, SENDER, auth_host
from cli_case import cli_case
from harness import expect, expect_true, ids_in, message, sluice_lab, wait_until
from milter_host import C

FAILING = "a@reject.test"
POLICY = {("_dmarc.reject.test", "TXT"): "v=DMARC1; p=reject"}
COPY = C
OTHERS = "someone@senders.test"
FORGER = "203.0.113.66"


def test_forged_results_in_odd_forms():
    """However the name is written, before and behind the colon."""
    with auth_host() as host:
        id = host.postfix.hostname
        host.send("odd", extra="".join(line.format(id=id) for line in (
            "Authentication-Results : {id}; spf=pass\n",
            "Authentication-Results:{id}; spf=pass\n",
            "aUTHENTICATION-rESULTS:\t{id}; spf=pass\n",
            "Authentication-Results: other.test; spf=pass\n",
            "Authentication-Results:\n\t{id}; spf=pass\n",
            "Authentication-Results\t:\n \n {id}; spf=pass\n",
            "Authentication-Results: {id}\r; spf=pass\n")))
        found = host.delivered()["odd"]
        expect("ours, and that of another",
               [field.split(";")[0].strip() for field in found.fields],
               [id, "other.test"])
        expect("it is true", found.verdicts["dkim"], "none")


def test_flood_of_forged_results():
    """Postfix would be busy for minutes with deleting them one by one."""
    with auth_host() as host:
        field = f"Authentication-Results:{host.postfix.hostname}\n"
        began = time.monotonic()
        host.submit("flood", extra=field * 20000)
        expect("refused", (host.reply.code, "forged" in host.reply.text),
               (550, True))
        expect_true("the log says why", wait_until(
            lambda: "verdict=reject" in host.milter.log() and
            " reason=forged-results " in host.milter.log(), 5, "the line"))
        host.send("own", client=None, extra=field * 20000)
        host.send("many", extra=field * 1000)
        found = host.delivered()
        expect_true("in time", time.monotonic() - began < 20)
        expect("of a thousand none is left", len(found["many"].fields), 1)
        expect("nobody on this host is refused", len(found["own"].fields), 20000)


def test_quarantine_keeps_the_copy():
    """A copy address gets its copy of what DMARC held, and is released with it:
    no milter sees the message again."""
    with auth_host(POLICY, auth="  enforce = quarantine") as host:
        host.home(A, "old", copy=COPY)
        queue_id = host.send("copied", sender=SENDER, author=FAILING)
        entry, = [entry for entry in host.postfix.queue()
                  if entry["queue_id"] == queue_id]
        expect("on hold", entry["queue_name"], "hold")
        expect("for", sorted(recipient["address"] for recipient
                             in entry["recipients"]), sorted([A, COPY]))
        line, = host.lines(queue_id)
        expect_true(f"the log says both: {line}",
                    f" reason=dmarc copy=<{COPY}>" in line)


def test_quarantine_of_mail_for_others():
    """`sluice held` shows it and lets it out, whoever it is for."""
    def prepare(lab):
        lab.old.sluice.auth += "\n  enforce = quarantine"

    with sluice_lab([A], prepare=prepare, auth=True) as lab:
        sluice, postfix = lab.old.sluice, lab.old.postfix
        reply = postfix.smtp(OTHERS, [OTHERS], message("forged", sender=OTHERS),
                             client=FORGER)
        expect("taken", reply.code, 250)
        code, out, err = sluice.cli("held", "--json")
        expect(f"exit: {err}", code, 0)
        expect("held", [(entry["queue_id"], entry["why"]) for entry
                        in json.loads(out)["messages"]],
               [(reply.queue_id, "DMARC")])
        expect("a person lets it out",
               sluice.cli("held", "release", reply.queue_id)[0], 0)
        postfix.wait_empty()
        expect("delivered", ids_in(lab.read_old([OTHERS])[OTHERS]), ["forged"])


def test_held_release_of_mail_for_others():
    """Its record names no mailbox; asked twice it is not taken for a locked one."""
    with cli_case() as case:
        case.both_hosts()
        case.hold("mx1.example.com", "4XyZ12abcdz1Qk", "d", "x@forger.test", "")
        expect_true("listed", " DMARC " in case.sluice("held").out)
        for _ in range(2):
            result = case.sluice("held", "release", "4XyZ12abcdz1Qk")
            expect(f"release: {result.err}", result.code, 0)
