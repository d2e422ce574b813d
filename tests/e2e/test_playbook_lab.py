"""mailroute from beginning to end between two real mail servers and on a real DNS.
Acknowledgements are scripted; from the DNS change to the verified flow nobody is
there."""

from play_case import (BOXES, DOMAIN, expect, expect_true, play_case)

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


def test_mailroute_from_beginning_to_end():
    with play_case(RECORDS, PLAN) as play:
        play.start("mailroute", follow_up="3s")
        play.go(to="guides-given")
        expect("nothing moved yet", set(play.homes().values()), {"o"})
        play.acknowledge("guides-given")
        # From the DNS change to the follow-up nobody is needed.
        said = play.run()
        expect(f"to the end, unattended ({said})", said.code, 0)
        expect("all moved", set(play.homes().values()), {"n"})
        for server in (play.first, play.second):
            expect("MX", server.live(DOMAIN, "MX"), ["1 10 mx.new.example.com."])
        for box, found in play.boxes(play.lab.new, BOXES[:1]).items():
            expect(f"three test messages in {box}", len(found), 3)
