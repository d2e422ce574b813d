"""The status page's server: what it answers, to whom, and to hostile clients."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import policyd_case
from harness import (address, expect, expect_true, message, skip, sluice_lab,
                     wait_until)
from policyd_case import BINDIR, USER, policyd_case as case_of

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
NUMBER = (int, float)
HOST = "Host: localhost\r\n"
GET = "GET {} HTTP/1.1\r\n" + HOST + "\r\n"


@contextlib.contextmanager
def http_case(lines="", top=""):
    def prepare(case):
        case.http = case.ports.take()
        original = policyd_case.CONFIG
        text = original.replace(
            "policyd {{\n", "policyd {{\n"
            f'  http = "127.0.0.1:{case.http}"\n' +
            lines.replace("DIRECTORY", case.directory)
            .replace("{", "{{").replace("}", "}}"))
        case.write_config = lambda: write(case, top.replace(
            "{", "{{").replace("}", "}}") + text)
        with open(case.path("secret"), "w", encoding="ascii") as file:
            file.write("open sesame\n")
        os.chmod(case.path("secret"), 0o600)
        shutil.chown(case.path("secret"), USER)
    with case_of(prepare) as case:
        wait_until(lambda: get(case, "/status.json")[0] != 503, 10, "first figures")
        yield case


def write(case, text):
    with open(case.config_path, "w", encoding="utf-8") as file:
        file.write(text.format(
            redis=case.redis_url, directory=case.directory,
            timeout=case.timeout, hold=case.hold, user=USER,
            extra=case.extra))


def get(case, path, method="GET", **fields):
    """(status, fields, body)"""
    return get_at(case.http, path, method, **fields)


def get_at(port, path, method="GET", **fields):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        client.request(method, path, headers=fields)
        answer = client.getresponse()
        return (answer.status, {name.lower(): value for name, value
                                in answer.getheaders()}, answer.read().decode())
    finally:
        client.close()


def status_of(case):
    code, _, body = get(case, "/status.json")
    expect("/status.json", code, 200)
    return json.loads(body)


def raw(case, data, timeout=10):
    """What a client gets that sends these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", case.http), timeout) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(data if isinstance(data, bytes) else data.encode())
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(65536):
                answer += part
    return answer.decode(errors="replace")


def code_of(answer):
    return int(answer.split(" ")[1]) if answer.startswith("HTTP/1.1 ") else 0


def wait_up(case):
    wait_until(lambda: get(case, "/healthz")[0] == 200, 10, "healthy")


# ---- what is served

def shape(value):
    """Types of a document, with a list's elements merged."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, NUMBER):
        return "number"
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def differences(example, actual, path=""):
    """Fields of one that the other has not, or with another type."""
    if isinstance(example, dict) and isinstance(actual, dict):
        for name in sorted(set(example) | set(actual)):
            if name not in actual or name not in example:
                yield f"{path}.{name} is only in one"
            else:
                yield from differences(example[name], actual[name],
                                       f"{path}.{name}")
    elif isinstance(example, list) and isinstance(actual, list):
        if example and actual:
            yield from differences(example[0], actual[0], path + "[]")
    elif example != actual and "NoneType" not in (example, actual):
        yield f"{path}: {example} and {actual}"


def fill(case):
    """Something of everything that the document shows."""
    redis = case.redis
    run = [os.path.join(BINDIR, "sluice"), "import", "-c", case.config_path]
    with open(case.path("m.csv"), "w", encoding="ascii") as file:
        file.write("address\na@example.com\nb@example.com\nc@example.com\n")
    subprocess.run([*run, case.path("m.csv")], check=True, capture_output=True)
    now = int(time.time())
    redis.command("HSET", "sluice:hosts", "mx9.example.com",
                  f"side=new\tfenced=1\tjournaled=1\tswept=0\tseen={now}000\theld=7"
                  f"\tloops=1\tleft=2\toldest={now - 50}\twaiting=3\twaits={now - 1000}"
                  "\tversion=0.1\tstate=drains <b>\"3\" messages\\")
    redis.command("HSET", "sluice:totals:example.com", "n", "5", "flipped",
                  str(now - 3600))
    redis.command("HSET", "sluice:locks:example.com", f"l3.{now - 600:x}", "4")
    redis.command("HSET", "sluice:hours:example.com", "total", "12", "last",
                  str(now - 100), str(now // 3600), "5", str(now // 3600 - 1), "7",
                  str(now // 3600 - 500), "9")
    redis.command("HSET", "sluice:senders:example.com", "192.0.2.1",
                  f"11 {now - 500} {now - 100} </script><b>\x01\xff", "*",
                  f"99 {now - 500} {now - 100} ")
    redis.command("HSET", "sluice:playbook:example.com",
                  "", f"4\tg\t{now - 900}\t{now - 800}\t21600\t0"
                  "\t/etc/sluice/mine.conf\tnadia\t",
                  "@outline", "4\tHold, sync, flip\tBefore\tone,two\tMove\tthree,four",
                  "one", f"5\td\t{now - 900}\t{now - 890}\t0\tnadia\t",
                  "two", f"6\td\t{now - 800}\t{now - 790}\t0\tnadia\t",
                  "three", f"7\tr\t{now - 700}\t0\t0\tnadia\tgoes on",
                  "=who", "4\tnobody")
    redis.command("HSET", "sluice:pings", "ops1 new-mx",
                  f"{now - 10} 2 12 300 - not found within 60 s")
    redis.command("HSET", "sluice:monitors", "mx1.example.com",
                  f"{now - 30} 1 {now - 900000} {now - 200} 2 0 259200 still "
                  f"forwarding <b>\nexample.com {now - 200} 2",
                  "mx7.example.com", f"{now - 9000} 0 {now - 900000} 0 0 0 259200 quiet",
                  "mx8.example.com", "what is this")
    with open(case.path("state/milter.counters"), "w", encoding="ascii") as file:
        file.write(f"sluice-milter 1 {now}\nmessages 10\nforward 4\nspf_pass 3\n"
                   "unheard_of 1\n")
    return now


def test_document():
    with http_case() as case:
        now = fill(case)
        wait_until(lambda: status_of(case)["pings"], 10, "the document is made")
        status = status_of(case)
        with open(os.path.join(HERE, "status_example.json"),
                  encoding="utf-8") as file:
            example = json.load(file)
        expect("fields like the example's",
               list(differences(shape(example), shape(status))), [])
        check_figures(status, now)
        page = get(case, "/status.json")[2]
        for character in "<>&'":
            expect(f"unescaped {character}", page.count(character), 0)
        check_metrics(get(case, "/metrics")[2])
        check_promtool(get(case, "/metrics")[2])


def check_figures(status, now):
    domain = status["domains"][0]
    expect("total", (domain["old"], domain["new"]), (3, 5))
    expect("lock", domain["lock"],
           {"since": now - 600, "deadline": now - 600 + 4 * 3600, "overdue": 0})
    floaters = domain["floaters"]
    expect("floaters", (floaters["total"], floaters["last"],
                        floaters["quiet_since"], sum(floaters["hours"])),
           (12, now - 100, now - 100, 12))
    expect("hours", len(floaters["hours"]), 96)
    expect("the last hour begins", status["floaters"]["first_hour"] + 95 * 3600,
           now // 3600 * 3600)
    expect("senders", [(sender["client"], sender["count"])
                       for sender in domain["senders"]],
           [("192.0.2.1", 11), ("*", 99)])
    run = domain["playbook"]
    expect("run", (run["name"], run["title"], run["state"], run["done"],
                   run["total"], run["phase"], run["window_ends"]),
           ("mine", "Hold, sync, flip", "going on", 2, 4, 1,
            now - 800 + 21600))
    expect("phases", run["phases"], [
        {"title": "Before", "done": 2, "total": 2},
        {"title": "Move", "done": 0, "total": 2}])
    expect("logs", [(log["host"], log["old"], log["state"], log["waiting"])
                    for log in status["monitors"]],
           [("mx1.example.com", False, "warning", 2),
            ("mx7.example.com", True, "ok", 0)])
    floaters = domain["floaters"]
    expect("the milter saw one later than the log",
           (floaters["quiet_since"], floaters["log_since"], floaters["logs"]),
           (now - 100, now - 200, 1))
    expect("steps under way", [(step["id"], step["state"], step["note"])
                               for step in run["now"]],
           [("three", "running", "goes on")])
    host = [host for host in status["hosts"]
            if host["name"] == "mx9.example.com"][0]
    expect("host", (host["held"], host["deferred"], host["state"], host["here"]),
           (7, 3, 'drains <b>"3" messages\\', False))
    expect("alarms", [(alarm["kind"], alarm["about"], alarm["since"])
                      for alarm in status["alarms"]],
           [("forward-failing", "mx9.example.com", now - 100)])
    expect("ping", (status["pings"][0]["path"], status["pings"][0]["ok"],
                    status["pings"][0]["legs"]),
           ("new-mx", False, [{"name": "connected", "ms": 12},
                              {"name": "accepted", "ms": 300}]))
    expect("milter", (status["milter"]["messages"],
                      status["milter"]["forward"]), (10, 4))


def kinds(case):
    return [alarm["kind"] for alarm in status_of(case)["alarms"]]


def names_in(metrics):
    return set(re.findall(r"^([a-z_]+)(?:\{| )", metrics, re.MULTILINE))


def check_metrics(metrics):
    # Labels keep a line a line.
    for line in metrics.splitlines():
        expect_true(f"a sample or a comment: {line}", line.startswith("# ") or
                    re.fullmatch(r'sluice_[a-z0-9_]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)+\})?'
                                 r" [-+0-9.e]+", line))
    for sample in ('sluice_mailboxes{domain="example.com",home="old"} 3',
                   'sluice_forward_deferred_messages{host="mx9.example.com"} 3',
                   'sluice_milter_spf_total{result="pass"} 3',
                   'sluice_milter_recipients_total{verdict="forward"} 4',
                   'sluice_ping_state{host="ops1",path="new-mx"} 2',
                   'sluice_monitor_state{host="mx1.example.com"} 1',
                   'sluice_monitor_waiting{host="mx1.example.com"} 2',
                   "sluice_alarm_command_failing 0"):
        expect_true(f"{sample} is there", sample in metrics.splitlines())


def used_names(text):
    return set(re.findall(r"\bsluice_[a-z_]+", text))


def test_rules_use_what_is_there():
    """Every metric that the rules and the dashboard name is really served."""
    with http_case() as case:
        fill(case)
        wait_until(lambda: status_of(case)["pings"], 10, "the document is made")
        served = names_in(get(case, "/metrics")[2])
    for name in ("prometheus/sluice.rules.yml", "grafana/sluice.json"):
        with open(os.path.join(SOURCE, "contrib", name), encoding="utf-8") as file:
            text = file.read()
        used = used_names(text)
        expect_true(f"{name} uses some", used)
        expect(f"what {name} uses and nothing serves", sorted(used - served), [])
    dashboard = json.loads(text)
    targets = [target["expr"] for panel in dashboard["panels"]
               for target in panel.get("targets", ())]
    expect_true("panels with questions", len(targets) >= 8)
    # As rules, so that promtool says whether they are questions at all.
    rules = {"groups": [{"name": "dashboard", "rules": [
        {"record": f"panel:{number}", "expr": expr.replace("$domain", ".*")}
        for number, expr in enumerate(targets)]}]}
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        json.dump(rules, file)
        file.flush()
        done = promtool("check", "rules", file.name)
    if done is not None:
        expect_true(f"promtool takes the dashboard's questions: {done[1]}",
                    done[0] == 0)


def promtool(*words, stdin=None):
    try:
        done = subprocess.run(["promtool", *words], input=stdin, text=True,
                              capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        return None
    return done.returncode, done.stdout + done.stderr


def check_promtool(metrics):
    done = promtool("check", "metrics", stdin=metrics)
    if done is not None:
        expect("promtool check metrics", done, (0, ""))


def test_rules():
    directory = os.path.join(SOURCE, "contrib", "prometheus")
    done = promtool("check", "rules", os.path.join(directory, "sluice.rules.yml"))
    if done is None:
        skip("promtool is not installed: apt-get install prometheus")
    expect("promtool check rules", done[0], 0)
    done = promtool("test", "rules", os.path.join(directory, "sluice.test.yml"))
    if done[0] != 0:
        print(done[1])
    expect("promtool test rules", done[0], 0)


def test_headers():
    with http_case() as case:
        wait_up(case)
        for path, kind in (("/", "text/html; charset=utf-8"),
                           ("/status.json", "application/json"),
                           ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
                           ("/healthz", "text/plain; charset=utf-8"),
                           ("/nothing", "text/plain; charset=utf-8")):
            code, fields, body = get(case, path)
            expect(path, code, 404 if path == "/nothing" else 200)
            expect(f"type of {path}", fields["content-type"], kind)
            for name, value in (("x-content-type-options", "nosniff"),
                                ("x-frame-options", "DENY"),
                                ("cache-control", "no-store"),
                                ("referrer-policy", "no-referrer")):
                expect(f"{name} of {path}", fields[name], value)
            expect_true("nothing by default", fields["content-security-policy"]
                        .startswith("default-src 'none'; "))
            expect_true("no word about the program", "server" not in fields)
            head = get(case, path, "HEAD")
            expect(f"HEAD {path}", (head[0], head[2]), (code, ""))
            if path in ("/", "/nothing"):
                expect("its length", head[1]["content-length"], str(len(body.encode())))
        # What is refused has no body either (RFC 9110 9.3.2).
        for fields in ("Host: evil.example\r\n", "", "Host: a\r\nContent-Length: 5\r\n"):
            answer = raw(case, f"HEAD / HTTP/1.1\r\n{fields}\r\n")
            expect_true(f"no body: {answer!r}", code_of(answer) in (400, 413, 421)
                        and answer.endswith("\r\n\r\n"))
        check_policy(*get(case, "/")[1:])
        expect("with a query", get(case, "/healthz?x=/y")[0], 200)


def check_policy(fields, page):
    """What the policy lets run is what is in the page."""
    policy = fields["content-security-policy"]
    for tag in ("style", "script"):
        parts = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        expect(f"{tag} elements", len(parts), 1)
        digest = base64.b64encode(hashlib.sha256(
            parts[0].encode()).digest()).decode()
        expect_true(f"the policy names the {tag}",
                    f"{tag}-src 'sha256-{digest}';" in policy)
    expect("what loads something from outside",
           re.findall(r"""(?:src|href)=["'](?:\w+:)?//""", page), [])


def test_reading_only():
    with http_case() as case:
        wait_up(case)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
                       "CONNECT", "BREW"):
            answer = raw(case, f"{method} / HTTP/1.1\r\n{HOST}"
                         "Content-Length: 5\r\n\r\nhello" + GET.format("/"))
            expect(method, (code_of(answer), answer.count("HTTP/1.1 ")), (405, 1))
            expect_true("says what is allowed", "\r\nAllow: GET, HEAD\r\n" in answer)


HOSTILE = (
    ("GET / HTTP/1.1\n\n", 400),
    ("GET / HTTP/1.1\nHost: localhost\n\n", 400),
    ("GET / HTTP/1.1\r\n\r\n", 400),                       # no Host
    (f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n", 400),          # two
    ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),  # DNS rebinding
    ("GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 421),
    ("GET / HTTP/1.1\r\nHost: localhost:80:80\r\n\r\n", 421),
    ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 421),
    (f"GET http://evil.example/ HTTP/1.1\r\n{HOST}\r\n", 400),
    (f"GET / HTTP/2.0\r\n{HOST}\r\n", 505),
    (f"GET / HTTP/1.1 more\r\n{HOST}\r\n", 400),
    (f"GET  / HTTP/1.1\r\n{HOST}\r\n", 400),
    (f"GET /\r\n{HOST}\r\n", 400),
    ("\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
    (b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST} folded: x\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}Name : x\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}: x\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}X: a\rb\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}Content-Length: 4\r\n\r\nbody", 413),
    (f"GET / HTTP/1.1\r\n{HOST}Content-Length: 0\r\nContent-Length: 4\r\n\r\nbody",
     413),
    (f"GET / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
    ("GET /" + "x" * 9000 + f" HTTP/1.1\r\n{HOST}\r\n", 414),
    (f"GET / HTTP/1.1\r\n{HOST}X: " + "x" * 9000 + "\r\n\r\n", 431),
    (f"GET / HTTP/1.1\r\n{HOST}" + "X: y\r\n" * 70 + "\r\n", 431),
    (f"GET / HTTP/1.0\r\n{HOST}\r\n", 200),
    (f"GET /../../etc/passwd HTTP/1.0\r\n{HOST}\r\n", 404),
    (f"GET /%2e%2e/ HTTP/1.0\r\n{HOST}\r\n", 404),
    (f"GET /{'y' * 500} HTTP/1.0\r\n{HOST}\r\n", 404),
    ("GET / HTTP/1.0\r\nHost: 127.0.0.1:1\r\n\r\n", 200),
    ("GET / HTTP/1.0\r\nHost: [::1]:9125\r\n\r\n", 200),
    ("GET / HTTP/1.0\r\nHost: MX1.example.com\r\n\r\n", 200),
    ("GET / HTTP/1.0\r\nHost: status.example.org\r\n\r\n", 200),
)


def test_hostile_clients():
    with http_case('  http-hosts = {"status.example.org"}\n') as case:
        wait_up(case)
        for data, code in HOSTILE:
            answer = raw(case, data)
            expect(f"{data[:60]!r} gets", code_of(answer), code)
            if code != 200:
                expect_true("and no second answer",
                            answer.count("HTTP/1.1 ") == 1)
        # One byte at a time, and several at once.
        with socket.create_connection(("127.0.0.1", case.http), 10) as client:
            for byte in GET.format("/healthz").encode():
                client.sendall(bytes([byte]))
            expect_true("an answer", b"200 OK" in client.recv(65536))
            client.sendall(GET.format("/healthz").encode() * 3 +
                           f"GET /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
                           .encode())
            answer = b""
            while part := client.recv(65536):
                answer += part
            expect("answers to four requests", answer.count(b"HTTP/1.1 200"), 4)
        check_slow_clients(case)
        expect("lookups go on", case.ask("transport", "here@example.com"),
               policyd_case.HERE_ANSWER)


def check_slow_clients(case):
    """Any number of clients that say little keep nobody out."""
    slow = []
    try:
        for _ in range(200):
            client = socket.create_connection(("127.0.0.1", case.http), 10)
            client.sendall(b"GET / HTTP/1.1\r\nHost: local")
            slow.append(client)
        began = time.monotonic()
        expect("a client beside them", get(case, "/healthz")[0], 200)
        expect_true("is served at once", time.monotonic() - began < 2)
        # The last ones are still open, the first ones gone; ten seconds later all.
        slow[-1].settimeout(20)
        began = time.monotonic()
        while time.monotonic() - began < 20:
            try:
                slow[-1].sendall(b"h")  # each byte is no new time
            except OSError:
                break
            time.sleep(0.5)
        expect_true("a slow client is let go after about ten seconds",
                    time.monotonic() - began < 15)
    finally:
        for client in slow:
            client.close()
    # One that reads nothing, and one that goes in the middle.
    for _ in range(20):
        client = socket.create_connection(("127.0.0.1", case.http), 10)
        client.sendall(GET.format("/metrics").encode() * 50)
        client.close()
    expect("after them", get(case, "/healthz")[0], 200)


def basic(password, user="anybody"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_password():
    with http_case('  http-password-file = "DIRECTORY/secret"\n') as case:
        for path in ("/", "/status.json", "/metrics", "/healthz", "/x"):
            code, fields, _ = get(case, path)
            expect(f"{path} without", code, 401)
            expect_true("asks", fields["www-authenticate"].startswith("Basic "))
        expect("with it", get(case, "/", Authorization=basic("open sesame"))[0], 200)
        for wrong in (basic("open sesam"), basic("open sesameX"), basic(""),
                      basic("Open sesame"), "Basic", "Basic !!!!", "Bearer x",
                      "Basic " + base64.b64encode(b"open sesame").decode()):
            began = time.monotonic()
            expect(f"{wrong!r}", get(case, "/", Authorization=wrong)[0], 401)
            expect_true("not at once", time.monotonic() - began > 0.9)
        # Another password by a reload.
        with open(case.path("secret"), "w", encoding="ascii") as file:
            file.write("another\n")
        case.reload("read again")
        expect("the old one", get(case, "/", Authorization=basic("open sesame"))[0],
               401)
        expect("the new one", get(case, "/", Authorization=basic("another"))[0], 200)
        # The file's next address needs none; the one that is listened on may.
        with open(case.config_path, encoding="ascii") as file:
            text = file.read()
        with open(case.config_path, "w", encoding="ascii") as file:
            file.write(re.sub("  http(-password-file)? = .*\n", "", text))
        for _ in range(2):
            case.reload("read again")
            expect("still asked for", get(case, "/")[0], 401)
        case.wait_log("http-password-file has gone: restart sluice-policyd")


ACTIVATE = """
import os, socket, sys
listener = socket.socket()
listener.bind((sys.argv[1], 0))
listener.listen()
os.dup2(listener.fileno(), 3, inheritable=True)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="http")
os.execv(sys.argv[2], [sys.argv[2], "-c", sys.argv[3]])
"""


def test_refuses_an_open_socket():
    """The configuration says loopback, the service manager's socket does not."""
    with case_of(started=False) as case:
        write(case, policyd_case.CONFIG.replace(
            "policyd {{\n", 'policyd {{\n  http = "127.0.0.1:9125"\n'))
        linked = subprocess.run(["ldd", case.program], capture_output=True, text=True,
                                check=True).stdout
        if "libsystemd" not in linked:
            skip("built without libsystemd")
        done = subprocess.run(["python3", "-c", ACTIVATE, "0.0.0.0", case.program,
                               case.config_path], capture_output=True, text=True,
                              check=False, timeout=20)
        expect("exit", done.returncode, 69)
        expect_true(f"says why: {done.stderr}",
                    "it needs an http-password-file" in done.stderr)


def test_refuses_to_start_open():
    with case_of(started=False) as case:
        port = case.ports.take()
        for address, code, words in (
                (f"0.0.0.0:{port}", 78, "needs an http-password-file"),
                (f"[::]:{port}", 78, "needs an http-password-file"),
                (f"mx1.example.com:{port}", 78, "needs an http-password-file"),
                (f"192.0.2.1:{port}", 78, "needs an http-password-file"),
                (f"127.0.0.1:{port}", 0, "good"),
                (f"[::1]:{port}", 0, "good"),
                (f"localhost:{port}", 0, "good"),
                ("unix:/run/sluice/http.sock", 0, "good")):
            write(case, policyd_case.CONFIG.replace(
                "policyd {{\n", f'policyd {{{{\n  http = "{address}"\n'))
            done = subprocess.run([case.program, "-t", "-c", case.config_path],
                                  capture_output=True, text=True, check=False)
            expect(address, done.returncode, code)
            expect_true(f"{address}: says {words}", words in done.stdout + done.stderr)
        with open(case.path("secret"), "w", encoding="ascii") as file:
            file.write("x\n")
        os.chmod(case.path("secret"), 0o644)
        write(case, policyd_case.CONFIG.replace(
            "policyd {{\n", f'policyd {{{{\n  http = "0.0.0.0:{port}"\n'
            f'  http-password-file = "{case.path("secret")}"\n'))
        done = subprocess.run([case.program, "-t", "-c", case.config_path],
                              capture_output=True, text=True, check=False)
        expect_true("a file that others read is refused",
                    done.returncode == 78 and "0600" in done.stderr)


def test_redis_down():
    with http_case() as case:
        fill(case)
        wait_until(lambda: status_of(case)["pings"], 10, "the document is made")
        case.redis.stop()
        wait_until(lambda: get(case, "/healthz")[0] == 503, 10, "unhealthy")
        line = get(case, "/healthz")[2]
        expect("one line", line.count("\n"), 1)
        wait_until(lambda: not status_of(case)["redis"]["up"], 10, "says so")
        status = status_of(case)
        expect_true("why", status["redis"]["error"])
        expect("what was known last", status["domains"][0]["name"], "example.com")
        expect("the page", get(case, "/")[0], 200)
        metrics = get(case, "/metrics")[2]
        expect_true("up is 0", "\nsluice_redis_up 0\n" in metrics)
        expect_true("no old figure", "sluice_mailboxes" not in metrics)
        wait_until(lambda: "redis-down" in kinds(case), 20, "an alarm")
        expect_true("what was known stays", "forward-failing" in kinds(case))
        case.redis.start()
        wait_up(case)
        wait_until(lambda: status_of(case)["redis"]["up"] and
                   "redis-down" not in kinds(case), 10, "over")
        # Its history is another: also said here.
        case.redis.command("FLUSHALL")
        wait_until(lambda: get(case, "/healthz")[0] == 503, 10, "emptied")


def test_redis_hangs():
    """A wait is no reason to look away: that it is back is seen at once."""
    with http_case(top="command-timeout = 1000\n") as case:
        wait_up(case)
        info = case.redis.command("INFO", "server")
        pid = int(re.search(r"process_id:(\d+)", info).group(1))
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: not status_of(case)["redis"]["up"], 10, "says so")
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: status_of(case)["redis"]["up"], 6, "is back")


def test_reload_and_end():
    with http_case() as case:
        wait_up(case)
        client = socket.create_connection(("127.0.0.1", case.http), 10)
        case.reload("read again")
        expect("after a reload", get(case, "/healthz")[0], 200)
        began = time.monotonic()
        case.child.send(signal.SIGTERM)
        wait_until(lambda: not case.child.running, 10, "it ends")
        expect_true("open connections do not hold it up",
                    time.monotonic() - began < 4)
        client.close()


# ---- with real mail


def test_real_mail():
    """Floaters, held mail, failing forwards and the milter's counters, as real
    servers make them."""
    def prepare(lab):
        lab.http = lab._ports.take()
        lab.old.sluice.fence = lab.new.sluice.fence = "reload"
        lab.old.sluice.policyd_extra = f'  http = "127.0.0.1:{lab.http}"'

    moved, locked, here = (address(number) for number in (1, 2, 3))
    with sluice_lab([moved, locked, here], prepare) as lab:
        for words in (("lock", moved, locked), ("flip", moved)):
            lab.old.sluice.cli(*words, check=True)
        for number, recipient in enumerate((moved, moved, locked, here)):
            lab.old.postfix.smtp("someone@senders.test", [recipient],
                                 message(f"m{number}"))
        wait_until(lambda: seen(lab)["floaters"]["total"] == 2 and
                   seen(lab)["held"]["messages"] == 1, 60, "floaters and held mail")
        check_real(lab, seen(lab))
        # The new server goes away: what is forwarded waits, visibly.
        lab.new.postfix.stop()
        lab.old.postfix.smtp("someone@senders.test", [moved], message("late"))
        wait_until(lambda: [host["deferred"] for host in seen(lab)["hosts"]
                            if host["here"]] == [1], 60, "it waits for the new server")
        lab.new.postfix.start()
        lab.old.postfix.flush()
        wait_until(lambda: [host["deferred"] for host in seen(lab)["hosts"]
                            if host["here"]] == [0], 60, "it is through")
        wait_until(lambda: 'sluice_milter_recipients_total{verdict="forward"} 3' in
                   get_at(lab.http, "/metrics")[2].splitlines(), 20,
                   "the metrics count the third forward")


def seen(lab):
    return json.loads(get_at(lab.http, "/status.json")[2])


def check_real(lab, status):
    domain = status["domains"][0]
    expect("mailboxes", (domain["old"], domain["locked"], domain["new"]), (1, 1, 1))
    expect("floaters this hour, or the hour before", sum(domain["floaters"]["hours"][-2:]),
           2)
    expect("who sent them", [(sender["client"], sender["count"])
                             for sender in domain["senders"]], [("127.0.0.1", 2)])
    expect_true("and its name", domain["senders"][0]["name"])
    expect_true("quiet since the last one", domain["floaters"]["quiet_since"] ==
                domain["floaters"]["last"] > 0)
    expect("hosts", sorted((host["side"], host["fence"], host["silent"])
                           for host in status["hosts"]),
           [("new", "complete", False), ("old", "complete", False)])
    wait_until(lambda: (seen(lab)["milter"] or {}).get("messages") == 4, 20,
               "the milter's figures")
    milter = seen(lab)["milter"]
    expect("recipients by verdict", [milter[name] for name in (
        "deliver", "hold", "forward", "redirect", "later", "rejected")],
           [1, 1, 2, 0, 0, 0])
    expect("alarms", status["alarms"], [])
