"""The command line: usage, init, import, status, held, recover."""

import os
import signal
import subprocess
import zlib

from cli_case import cli_case, wait_for
from harness import expect, expect_true
from parts.process import run

USAGE, DATA, SERVICE, AGAIN, CONFIGURATION = 64, 65, 69, 75, 78


def test_usage():
    with cli_case() as case:
        cases = [
            (["statsu"], USAGE, 'did you mean "status"?'),
            (["roll"], USAGE, 'did you mean "rollback"?'),
            (["xyzzy"], USAGE, 'no command "xyzzy" (sluice --help'),
            ([], USAGE, "no command given"),
            (["lock"], USAGE, "name an address, a domain or @FILE"),
            (["lock", "--bogus", "example.com"], USAGE,
             "unknown option --bogus"),
            (["lock", "--timeout", "5x", "example.com"], USAGE,
             "is not a duration"),
            (["status", "--dry-run"], USAGE, "changes nothing"),
            (["import"], USAGE, "name one CSV file"),
            (["held", "relase", "x"], USAGE, "sluice held release ID"),
        ]
        for words, code, text in cases:
            result = case.sluice(*words)
            expect(f"exit of {words}", result.code, code)
            expect_true(f"{text!r} in {result.err!r}", text in result.err)
            expect(f"nothing on stdout of {words}", result.out, "")


def test_shared_options_stand_anywhere():
    with cli_case() as case:
        first = case.sluice("--json", "status")
        last = case.sluice("status", "--json")
        for result in (first, last):
            expect("command", result.json["command"], "status")
        expect("help", case.sluice("lock", "--help").code, 0)
        expect("help", case.sluice("--help", "lock").out,
               case.sluice("help", "lock").out)
        for name in ("init", "import", "status", "lock", "flip", "unlock",
                     "rollback", "held", "cutover", "auth", "doctor", "recover"):
            result = case.sluice(name, "--help")
            expect_true(f"usage of {name}",
                        result.out.startswith(f"usage: sluice {name}"))
            expect("nothing on stderr", result.err, "")


def test_configuration_errors():
    with cli_case() as case:
        bad = case.file("bad.conf", "sidee = old\n")
        code, out, err = run([case.argv()[0], "-c", bad, "status"],
                             check=False)
        expect("exit", code, CONFIGURATION)
        expect("one line", err.count("\n"), 1)
        expect_true(f"names line and key: {err}", "bad.conf:1: " in err
                    and "sidee" in err)
        code, out, err = run([case.argv()[0], "-c", "/no/file", "--json",
                              "status"], check=False)
        expect("exit", code, CONFIGURATION)
        expect_true("a document all the same", '"exit": 78' in out)


def test_init_refuses_a_redis_that_forgets():
    with cli_case(init=False) as case:
        case.redis.command("CONFIG", "SET", "appendonly", "no")
        result = case.sluice("init")
        expect("exit", result.code, SERVICE)
        expect_true("way out", "config set appendonly yes" in result.err)
        expect("nothing written", case.redis.command("DBSIZE"), 0)
        case.redis.command("CONFIG", "SET", "appendonly", "yes")
        case.redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        result = case.sluice("init")
        expect("exit", result.code, SERVICE)
        expect_true("way out", "noeviction" in result.err)
    with cli_case(init=False, top="redis-durable = false") as case:
        case.redis.command("CONFIG", "SET", "appendonly", "no")
        expect("told otherwise", case.sluice("init").code, 0)


def test_init_twice_and_dry_run():
    with cli_case(init=False) as case:
        expect("before", case.sluice("status").code, SERVICE)
        result = case.sluice("init", "--dry-run")
        expect("dry run", result.code, 0)
        expect("nothing written", case.redis.command("DBSIZE"), 0)
        for _ in range(2):
            expect("init", case.sluice("init").code, 0)
            expect("homes", case.homes(), {"": "o"})
        expect("one event each", case.redis.command(
            "HGET", "sluice:chain", "epoch"), "2")


def test_init_does_not_begin_anew_after_redis_was_emptied():
    with cli_case() as case:
        chain = case.redis.command("HGET", "sluice:chain", "id")
        case.file("state/journal", _journal(chain))
        case.redis.command("FLUSHALL")
        for command in ("init", "status"):
            result = case.sluice(command)
            expect(f"exit of {command}", result.code, SERVICE)
            expect_true(f"says what to run: {result.err}",
                        "sluice recover" in result.err)
        expect("nothing written", case.redis.command("DBSIZE"), 0)


def _journal(event_id):
    """One record as lib/journal.h describes it: the second domain's init."""
    record = f"event 2 {event_id} - init o 1700000000 example.org 1\n\n"
    crc = zlib.crc32(record.encode())
    return f"{record}end {2:016x} {event_id} {crc:08x}\n"


def test_remove_host():
    with cli_case() as case:
        old, new = case.both_hosts()
        result = case.sluice("init", "--remove-host", "mx2.example.com")
        expect("alive", result.code, 1)
        expect_true("says why", "is alive" in result.err)
        new.silence()
        result = case.sluice("init", "--remove-host", "MX2.example.com")
        expect("silent", (result.code, result.err), (0, ""))
        expect("hosts", case.redis.command("HKEYS", "sluice:hosts"),
               ["mx1.example.com"])
        expect("unknown", case.sluice("init", "--remove-host", "x").code, DATA)
        old.held = 3
        old.silence()
        result = case.sluice("init", "--remove-host", "mx1.example.com")
        expect("holds mail", result.code, 1)
        expect_true("says how much", "3 held messages" in result.err)
        expect("forced", case.sluice("init", "--force", "--remove-host",
                                     "mx1.example.com").code, 0)


def test_import_good():
    files = [
        ("plain", b"address\na@example.com\nb@example.org\n"),
        ("BOM and CRLF", b"\xef\xbb\xbfaddress\r\na@example.com\r\n\r\n"
                         b"b@example.org\r\n"),
        ("email, quotes, case", b'name,EMail\n"Doe, ""J""",A@Example.COM\n'
                                b'x,"b@EXAMPLE.org"\n'),
        ("no line end", b"address\nb@example.org\na@example.com"),
        ("trailing blanks", b" address ,x\n a@example.com\t,1\n"
                            b"b@example.org ,2\n"),
    ]
    for what, data in files:
        with cli_case() as case:
            path = case.file("list.csv", data)
            result = case.sluice("--json", "import", path)
            expect(f"{what}: exit, {result.err}", result.code, 0)
            expect(what, result.json["new"], 2)
            expect(what, case.homes(), {"": "o", "a": "o"})
            again = case.sluice("--json", "import", "-",
                                input=data.decode())
            expect(f"{what} again", again.json["unchanged"], 2)


def test_import_keeps_secrets_out():
    with cli_case() as case:
        path = case.csv("email,password", "a@example.com,hunter2-secret")
        expect("exit", case.sluice("import", path).code, 0)
        case.redis.command("SAVE")
        for folder, _, names in os.walk(case.redis.directory):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.isfile(path):
                    continue
                with open(path, "rb") as file:
                    expect_true(f"no password in {path}",
                                b"hunter2" not in file.read())


def test_import_bad_rows():
    rows = [
        ("bad@@", 'list.csv:3: "bad@@" is not an address'),
        ("", None),
        ("x@nowhere.net", "list.csv:5: nowhere.net is not configured: add  "
                          'domain "nowhere.net"'),
        ("A@example.com", "list.csv:6: a@example.com is in line 2 already"),
        ("b@example.com,c@evil.net", 'list.csv:7: new_address: evil.net is '
                                     "not in redirect-domains"),
        ("l" * 200 + "@example.com,", "list.csv:8: the part before the @"),
        ("c@example.com", "list.csv:9: the row has only 1 field"),
        (",d@tenant.example.net", "list.csv:10: the address is empty"),
        ('e"@example.com,', "list.csv:11: a quote inside"),
        ('"f@example.com,', "list.csv:12: the quote that begins here"),
    ]
    with cli_case() as case:
        lines = ["address,new_address", "a@example.com,"]
        for row, _ in rows:
            lines.append(row + "," if "," not in row and row and
                         not row.startswith("c@") else row)
        result = case.sluice("import", case.csv(*lines))
        expect("exit", result.code, DATA)
        for _, text in rows:
            expect_true(f"{text!r} in {result.err}",
                        text is None or text in result.err)
        expect_true("says so", "nothing was imported" in result.err)
        expect("nothing imported", case.homes(), {"": "o"})


def test_import_many_errors_and_headers():
    with cli_case() as case:
        result = case.sluice("import", case.csv("address", *["x"] * 50))
        expect("lines of messages", result.err.count(" is not an address"), 20)
        expect_true("count of the rest", "and 30 more bad rows" in result.err)
        for header, text in (("a@example.com", "this is a mailbox, not a"),
                             ("name;address", "separated by commas"),
                             ("", "the file is empty")):
            result = case.sluice("import", case.csv(header))
            expect(header, result.code, DATA)
            expect_true(result.err, text in result.err)
        result = case.sluice("import", "/no/such/file")
        expect("no file", result.code, DATA)


def test_import_addresses():
    with cli_case() as case:
        def import_row(header, row):
            return case.sluice("--json", "import", case.csv(header, row)).json

        def addresses():
            record = case.redis.command("HGET", "sluice:home:example.com", "a")
            return record.split("\t")[1:]

        header = "address,new_address,copy"
        row = "a@example.com,A@tenant.example.net,c@tenant.example.net"
        expect("dry run", case.sluice(
            "--dry-run", "--json", "import",
            case.csv(header, row)).json["new"], 1)
        expect("nothing yet", case.homes(), {"": "o"})
        expect("new", import_row(header, row)["new"], 1)
        expect("record", addresses(),
               ["n=a@tenant.example.net", "c=c@tenant.example.net"])
        expect("a missing column keeps",
               import_row("address", "a@example.com")["unchanged"], 1)
        expect("an empty one removes", import_row(
            "address,copy", "a@example.com,")["changed"], 1)
        expect("record", addresses(), ["n=a@tenant.example.net"])
        expect("its own address is none", import_row(
            "address,new_address", "a@example.com,A@example.com")["changed"],
            1)
        expect("record", addresses(), [])


def test_import_again_changes_no_home():
    with cli_case() as case:
        case.both_hosts()
        case.add("a@example.com")
        expect("lock", case.sluice("lock", "example.com").code, 0)
        case.add("a@example.com", "b@example.com")
        expect("the later one takes its domain's home", case.homes(),
               {"": "l", "a": "l", "b": "l"})


def test_status():
    with cli_case() as case:
        old, new = case.both_hosts()
        case.add("a@example.com", "b@example.com", "c@example.org")
        expect("lock", case.sluice("lock", "b@example.com").code, 0)
        new.silence()
        document = case.sluice("--json", "status").json
        domain = document["domains"][0]
        expect("domain", (domain["domain"], domain["home"], domain["old"],
                          domain["locked"], domain["mailboxes"]),
               ("example.com", "old", 1, 1, 2))
        hosts = {host["host"]: host for host in document["hosts"]}
        expect("hosts", sorted(hosts), [old.name, new.name])
        expect("silent", (hosts[old.name]["silent"],
                          hosts[new.name]["silent"]), (False, True))
        expect_true("alarm", any(new.name in alarm and "no sign of life" in
                                 alarm for alarm in document["alarms"]))
        text = case.sluice("status").out
        expect_true(text, "alarm: mx2.example.com: no sign of life" in text)
        case.redis.command("CONFIG", "SET", "appendonly", "no")
        expect_true("not durable", "alarm: this Redis would forget" in
                    case.sluice("status").out)


def test_status_of_a_mailbox():
    with cli_case() as case:
        host, _ = case.both_hosts()
        case.add("a@example.com")
        expect("lock", case.sluice("lock", "a@example.com").code, 0)
        case.hold(host.name, "4XyZ12abcdz1Qk", "l", "s@senders.test",
                  "a+tag@example.com", "z@example.com")
        case.redis.command("HSET", "sluice:floaters:example.com", "a",
                           "7 1700000000 1700000100")
        document = case.sluice("--json", "status", "A@example.com",
                               "x@example.com").json
        first, second = document["mailboxes"]
        expect("locked", (first["address"], first["home"], first["listed"],
                          first["floaters"]),
               ("a@example.com", "locked", True, 7))
        expect("held", [held["queue_id"] for held in first["held"]],
               ["4XyZ12abcdz1Qk"])
        expect("not listed", (second["listed"], second["home"],
                              second["held"]), (False, "old", []))
        text = case.sluice("status", "a@example.com").out
        expect_true(text, "4XyZ12abcdz1Qk on mx1.example.com" in text)


def test_status_watch_on_a_pipe():
    with cli_case() as case:
        process = subprocess.Popen(
            case.argv("status", "--watch", "1"), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        seen = []
        while sum("example.org" in line for line in seen) < 2:
            seen.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        expect("exit", process.wait(10), 0)
        expect_true("no escape sequences", "\x1b" not in "".join(seen))
        process.stdout.close()
        process.stderr.close()


def test_hostile_text_is_printed_harmless():
    with cli_case() as case:
        host, _ = case.both_hosts()
        host.state = "\x1b]0;owned\x07bad"
        case.hold(host.name, "4XyZ12abcdz1Qk", "x", "\x1b[2J\xffs@x.test",
                  "a@example.com")
        wait_for(lambda: "owned" in case.redis.command(
            "HGET", "sluice:hosts", host.name), "the state is in Redis")
        for words in (("held",), ("status",)):
            result = case.sluice(*words)
            expect("exit", result.code, 0)
            expect_true(f"{words}: {result.out!r}",
                        "\x1b" not in result.out + result.err)
        expect("a document", len(case.sluice("--json", "held")
                                 .json["messages"]), 1)


def test_held_and_release():
    with cli_case() as case:
        host, _ = case.both_hosts()
        case.add("a@example.com", "b@example.com")
        expect("lock", case.sluice("lock", "a@example.com").code, 0)
        case.hold(host.name, "4XyZ12abcdz1Qk", "l", "", "a@example.com")
        case.hold(host.name, "4XyZ12abcdz1Ql", "x", "s@senders.test",
                  "b@example.com")
        text = case.sluice("held").out
        for part in ("4XyZ12abcdz1Qk", "<>", "a@example.com", "loop",
                     "2 messages are on hold",
                     "1 of them because of a loop"):
            expect_true(f"{part!r} in {text}", part in text)
        result = case.sluice("held", "release", "4XyZ12abcdz1Qk")
        expect("locked", result.code, 1)
        expect_true("says why", "flip or unlock releases it" in result.err)
        expect("dry run", case.sluice("--dry-run", "held", "release",
                                      "4XyZ12abcdz1Ql").code, 0)
        kind = ("HGET", f"sluice:held:{host.name}", "4XyZ12abcdz1Ql")
        expect("still a loop", case.redis.command(*kind)[0], "x")
        expect("release", case.sluice("held", "release",
                                      "4XyZ12abcdz1Ql").code, 0)
        expect("as any other now", case.redis.command(*kind)[0], "l")
        expect("unknown", case.sluice("held", "release", "ALL").code, DATA)


def test_redis_down():
    with cli_case() as case:
        case.add("a@example.com")
        path = case.csv("address", "b@example.com")
        case.redis.stop()
        for words in (("status",), ("init",), ("import", path), ("held",),
                      ("lock", "example.com"), ("flip", "example.com"),
                      ("unlock", "a@example.com"),
                      ("rollback", "example.com")):
            result = case.sluice(*words)
            expect(f"exit of {words}", result.code, SERVICE)
            expect(f"one line: {result.err}", result.err.count("\n"), 1)
            expect_true(f"names it: {result.err}",
                        case.redis.unix_url in result.err)
        expect_true("in JSON", case.redis.unix_url in
                    case.sluice("--json", "status").json["error"])


def test_redis_hangs():
    with cli_case() as case:
        case.redis.pause()
        try:
            result = case.sluice("lock", "example.com", timeout=20)
        finally:
            case.redis.resume()
        expect("exit", result.code, SERVICE)


def test_a_closed_pipe_is_no_success():
    with cli_case() as case:
        read, write = os.pipe()
        os.close(read)
        process = subprocess.Popen(case.argv("--json", "status"),
                                   stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        _, err = process.communicate(timeout=20)
        expect("exit, not a signal", (process.returncode, err), (SERVICE, b""))


def test_recover():
    with cli_case() as case:
        result = case.sluice("recover")
        expect("no journal", result.code, DATA)
        expect_true("way out", "--from" in result.err)
        path = case.file("damaged", "this is not a journal\n")
        expect("damaged", case.sluice("recover", "--from", path).code, DATA)


def test_journal_that_cannot_be_read():
    with cli_case() as case:
        case.both_hosts()
        case.add("a@example.com")
        case.file("state/journal", "event 1 torn")
        for words in (("status",), ("lock", "a@example.com"), ("held",)):
            result = case.sluice(*words)
            expect(f"exit of {words}", result.code, SERVICE)
            expect_true(result.err, "/state/journal cannot be read" in
                        result.err)
        expect("homes", case.homes(), {"": "o", "a": "o"})
