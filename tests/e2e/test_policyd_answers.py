"""sluice-policyd's answers: the tables, the policy service, and bad input."""

from harness import expect, expect_true
from policyd_case import (LATER, netstring, policy_request, policyd_case,
                          read_netstring, read_policy)

DUNNO = "action=DUNNO\n"
MOVED = "action=DEFER_IF_PERMIT 4.2.1 mailbox is being moved\n"
TRY_LATER = "action=DEFER_IF_PERMIT 4.3.0 try again later\n"

TABLE = [
    # table, key, reply
    ("transport", "here@example.com", "NOTFOUND "),
    ("transport", "unlisted@example.com", "NOTFOUND "),
    ("transport", "locked@example.com", "OK sluice-hold:"),
    ("transport", "LOCKED@Example.COM", "OK sluice-hold:"),
    ("transport", "locked+tag@example.com", "OK sluice-hold:"),
    ("transport", "locked@localhost", "OK sluice-hold:"),
    ("transport", "back@example.com", "OK sluice-hold:"),
    ("transport", "moved@example.com", "OK sluice-forward:[127.0.0.1]:10026"),
    ("transport", "away@example.com", "OK sluice-hold:"),
    ("transport", "damaged@example.com", LATER),
    ("transport", "away@tenant.example.net", "OK sluice-forward:"),
    ("transport", "x@other.example", "NOTFOUND "),
    ("transport", "*", "NOTFOUND "),
    ("transport", "example.com", "NOTFOUND "),
    ("virtual", "here@example.com", "NOTFOUND "),
    ("virtual", "locked@example.com", "NOTFOUND "),
    ("virtual", "moved@example.com", "NOTFOUND "),
    ("virtual", "moved@localhost", "OK moved@example.com"),
    ("virtual", "away@example.com", "OK away@tenant.example.net"),
    ("virtual", "damaged@example.com", "NOTFOUND "),
    ("virtual", "x@other.example", "NOTFOUND "),
    ("aliases", "here@example.com",
     "PERM no such map: there are transport, virtual and srs"),
]


def test_tables():
    with policyd_case() as case:
        for table, key, reply in TABLE:
            expect(f"{table} {key}", case.ask(table, key), reply)


def test_pipelined_keys_are_answered_in_order():
    """Keys that need Redis and keys that do not, all sent at once."""
    with policyd_case() as case, case.connect("map.sock") as client:
        rounds = TABLE * 20
        client.sendall(b"".join(netstring(f"{table} {key}")
                                for table, key, _ in rounds))
        with client.makefile("rb") as stream:
            expect("replies", [read_netstring(stream) for _ in rounds],
                   [reply for _, _, reply in rounds])


def test_policy():
    with policyd_case() as case:
        for recipient, state, answer in [
                ("here@example.com", "RCPT", DUNNO),
                ("locked@example.com", "RCPT", DUNNO),
                ("moved@example.com", "RCPT", DUNNO),
                ("damaged@example.com", "RCPT", TRY_LATER),
                ("damaged@example.com", "DATA", DUNNO),
                ("damaged@example.com", "END-OF-MESSAGE", DUNNO),
                ("x@other.example", "RCPT", DUNNO),
                ("", "RCPT", DUNNO)]:
            expect(f"{state} {recipient}", case.policy(recipient, state),
                   answer)


def test_policy_with_hold_defer():
    def prepare(case):
        case.hold = "defer"
    with policyd_case(prepare) as case:
        expect("locked", case.policy("locked@example.com"), MOVED)
        expect("here", case.policy("here@example.com"), DUNNO)
        expect("away", case.policy("away@example.com"), DUNNO)


def test_policy_requests_in_pieces_and_pipelined():
    requests = [("damaged@example.com", TRY_LATER),
                ("here@example.com", DUNNO)] * 30
    data = b"".join(policy_request(recipient) for recipient, _ in requests)
    with policyd_case() as case:
        for step in (1, 100, len(data)):
            with case.connect("policy.sock") as client:
                for start in range(0, len(data), step):
                    client.sendall(data[start:start + step])
                with client.makefile("rb") as stream:
                    expect(f"answers to pieces of {step} bytes",
                           [read_policy(stream) for _ in requests],
                           [answer for _, answer in requests])


def test_unmanaged_keys_cost_no_lookup():
    with policyd_case() as case:
        case.ask("transport", "here@example.com")
        # policyd itself looks at the history now and then.
        expect("lookups", min(lookups_of_unmanaged(case) for _ in range(5)), 0)


def lookups_of_unmanaged(case):
    before = case.lookups()
    for key in ("*", "example.com", "x@other.example", "x@"):
        case.ask("transport", key)
        case.ask("virtual", key)
        case.policy(key)
    return case.lookups() - before


BAD_POLICY = [
    b"\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"request=smtpd_access_policy\nno equals sign\n\n",
    b"protocol_state=RCPT\nrecipient=a@example.com\n\n",
    b"request=other\nrecipient=a@example.com\n\n",
    b"request=smtpd_access_policy\nrecipient=a\0b@example.com\n\n",
    b"x" * 5000,
    b"request=smtpd_access_policy\n" + b"a=b\n" * 300 + b"\n",
    b"\0\xff\xfe" * 100 + b"\n",
]
BAD_MAP = [
    b"hello\n",
    b"999999999999:",
    b"9000:" + b"x" * 9000 + b",",
    b"3:abcd",
    b"03:abc,",
    b"-3:abc,",
    b":",
    b"4:none,",
    b"0:,",
    b"\0\xff\xfe",
]


def test_malformed_input_closes_without_an_answer():
    with policyd_case() as case:
        for name, inputs in (("policy.sock", BAD_POLICY),
                             ("map.sock", BAD_MAP)):
            for data in inputs:
                answer = case.exchange(name, data,
                                       lambda stream: stream.read())
                expect(f"{name}: answer to {data[:40]!r}", answer, b"")
        expect("afterwards", case.ask("transport", "locked@example.com"),
               "OK sluice-hold:")


def test_bad_input_after_good_keeps_the_good_answer():
    data = policy_request("damaged@example.com") + b"garbage\n\n"
    with policyd_case() as case:
        answer = case.exchange("policy.sock", data,
                               lambda stream: stream.read().decode())
        expect("all that was answered", answer, TRY_LATER + "\n")


def test_client_that_goes_away():
    """Clients leave with requests unfinished, and unanswered."""
    with policyd_case() as case:
        for _ in range(300):
            for name, data in (
                    ("policy.sock", policy_request("here@example.com")),
                    ("policy.sock", policy_request("here@example.com")[:60]),
                    ("map.sock", netstring("transport here@example.com") * 9),
                    ("map.sock", b"26:transport here@ex")):
                with case.connect(name) as client:
                    client.sendall(data)
        expect("afterwards", case.ask("transport", "here@example.com"),
               "NOTFOUND ")
        expect_true("policyd runs", case.child.running)
