"""sluice dns apply --back undoes what sluice wrote, and nothing that somebody else did
since; and no update overwrites what changes before it comes."""

import os

from dns_case import DOMAIN, dns_case
from dns_hostile import Twisting
from harness import expect, expect_true

CHECK, DATA, SERVICE, AGAIN = 1, 65, 69, 75
MX = (DOMAIN, "MX")


def test_the_way_back_leaves_what_others_changed():
    imap = "imap." + DOMAIN
    with dns_case() as case:
        case.alone()
        case.configure(timeout=5000)

        def back(*words, code=0):
            result = case.sluice("apply", DOMAIN, "--back", "--yes", "--json", *words)
            expect(f"back {words}: {result.err}", result.code, code)
            return result

        def texts(name=DOMAIN):
            return {row.split(" ", 1)[1] for row in case.first.live(name, "TXT")}
        before = case.first.dump(DOMAIN)
        expect("apply", case.sluice("apply", DOMAIN, "--yes").code, 0)
        case.by_hand(f"delete {DOMAIN}. MX", f"add {DOMAIN}. 60 MX 5 other.{DOMAIN}.",
                f"delete {imap}. CNAME", f"add {imap}. 60 CNAME other.{DOMAIN}.",
                f"add {DOMAIN}. 60 TXT \"theirs=1\"",
                f"delete {DOMAIN}. TXT \"site-verification=abc\"")
        shown = case.sluice("diff", DOMAIN, "--back")
        expect(f"diff says it, too: {shown.err}", shown.code, CHECK)
        for value in ("10 mx.old.", "20 mx2.new.", "5 other.", "no record", "192.0.2.1"):
            expect_true(f"{value} in {shown.out}", value in shown.out)
        result = back(code=CHECK)
        expect_true(f"one line, with the way out: {result.err}",
                    result.err.count("\n") == 1 and "(and 2 more)" in result.err
                    and "--only @/MX" in result.err)
        stays = {(row["name"], row["type"]): row for row in result.json["stays"]}
        expect("what stays", set(stays), {MX, (imap, "CNAME"), (imap, "A")})
        expect("three values", [stays[MX][key]["values"] for key in
                                ("snapshot", "written", "live")],
               [[f"10 mx.old.{DOMAIN}."],
                [f"10 mx1.new.{DOMAIN}.", f"20 mx2.new.{DOMAIN}."],
                [f"5 other.{DOMAIN}."]])
        expect("theirs", case.first.live(DOMAIN, "MX"), [f"60 5 other.{DOMAIN}."])
        expect("theirs", case.first.live(imap, "CNAME"), [f"60 other.{DOMAIN}."])
        expect("ours of TXT is back, theirs is as it was", texts(),
               {'"v=spf1 mx ~all"', '"theirs=1"'})
        expect("the name is gone", texts("_dmarc." + DOMAIN), set())
        back(code=CHECK)  # again: still so
        rest = ["--except", "@/MX", "--except", "imap"]
        back(*rest)
        for words, text in ([], "does not have the snapshot's"), (rest, " left: run"):
            result = case.sluice("wait", DOMAIN, "--back", "--timeout", "1", *words)
            expect_true(f"wait {words}: {result.err}", result.code == AGAIN
                        and text in result.err)
        back("--only", "@/MX")
        expect("all the same", case.first.live(DOMAIN, "MX"),
               [f"300 10 mx.old.{DOMAIN}."])
        expect("not that", case.first.live(imap, "CNAME"), [f"60 other.{DOMAIN}."])
        # Mended: what sluice wrote is there again.
        case.by_hand(f"delete {imap}. CNAME",
                f"add {imap}. 60 CNAME mx1.new.{DOMAIN}.")
        back()
        case.by_hand(f"delete {DOMAIN}. TXT \"theirs=1\"",
                f"add {DOMAIN}. 300 TXT \"site-verification=abc\"")
        expect("all is as it was", case.first.dump(DOMAIN), before)
        result = case.sluice("diff", DOMAIN, "--back", "--only", "nobody")
        expect_true(f"a name that it does not know: {result.err}", result.code == DATA
                    and "knows nothing of it" in result.err)


def test_after_a_wrong_clock():
    """What was kept while the clock stood ahead is not the last for ever."""
    mx = [f"60 5 other.{DOMAIN}."]
    with dns_case() as case:
        case.alone()
        case.configure(timeout=5000)
        for words in [], ["--back"]:
            result = case.sluice("apply", DOMAIN, "--yes", *words, shift=200)
            expect(f"{words}: {result.err}", result.code, 0)
        case.by_hand(f"delete {DOMAIN}. MX", f"add {DOMAIN}. 60 MX 5 other.{DOMAIN}.")
        for words in [], ["--back"]:
            result = case.sluice("apply", DOMAIN, "--yes", *words)
            expect(f"{words}: {result.err}", result.code, 0)
        expect("as it was before", case.first.live(DOMAIN, "MX"), mx)
        # What somebody else may have put there is not waited for, and not believed.
        kept = os.path.join(case.directory, "state", "dns", DOMAIN)
        fifo, last = os.path.join(kept, "20200101T000000Z.zone"), sorted(os.listdir(kept))[-1]
        os.mkfifo(fifo)
        result = case.sluice("apply", DOMAIN, "--yes", "--back", timeout=20)
        expect_true(f"a pipe: {result.err}", result.code == SERVICE
                    and f"{fifo} cannot be read" in result.err)
        os.unlink(fifo)
        os.chmod(os.path.join(kept, last), 0o666)
        result = case.sluice("apply", DOMAIN, "--yes", "--back")
        expect_true(f"others may write to it: {result.err}", result.code == SERVICE
                    and f"{last} cannot be read, or somebody else may have" in result.err)


def test_a_change_between_look_and_update():
    """It is not overwritten, on the way there and on the way back; and no CNAME is
    passed over in silence since an address came before it."""
    imap = "imap." + DOMAIN
    with dns_case() as case:
        case.alone()
        with Twisting(case.port) as dns:
            case.configure(timeout=5000, more=f'server = "{dns.server}" '
                           f'key-file = "{case.key_file}"')

            def meets(meanwhile, *words):
                dns.meanwhile = lambda: case.by_hand(*meanwhile)
                result = case.sluice("apply", DOMAIN, "--yes", *words)
                expect(f"{meanwhile}: {result.err}", result.code, AGAIN)
                expect_true(result.err, "has changed since it was looked at" in
                            result.err and "nothing was changed" in result.err)
                expect("it came", dns.meanwhile, None)
            mx = [f"delete {DOMAIN}. MX", f"add {DOMAIN}. 60 MX 5 other.{DOMAIN}."]
            meets(mx)
            expect("theirs", case.first.live(DOMAIN, "MX"), [f"60 5 other.{DOMAIN}."])
            case.by_hand(f"delete {imap}. A")
            meets([f"add {imap}. 60 A 192.0.2.9"])
            expect("nothing half", case.first.live("_dmarc." + DOMAIN, "TXT"), [])
            case.by_hand(f"delete {imap}. A")
            meets([f"add {DOMAIN}. 60 TXT \"theirs=1\""])
            expect("then it goes", case.sluice("apply", DOMAIN, "--yes").code, 0)
            meets([f"delete {DOMAIN}. MX", f"add {DOMAIN}. 60 MX 7 other.{DOMAIN}."],
                  "--back")
            expect("theirs", case.first.live(DOMAIN, "MX"), [f"60 7 other.{DOMAIN}."])
            result = case.sluice("apply", DOMAIN, "--yes", "--back")
            expect(f"then it stays: {result.err}", result.code, CHECK)
            expect("theirs", case.first.live(DOMAIN, "MX"), [f"60 7 other.{DOMAIN}."])
            expect("the rest is back", case.first.live("_dmarc." + DOMAIN, "TXT"), [])
