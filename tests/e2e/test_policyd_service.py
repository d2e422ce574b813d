"""sluice-policyd as a service: many clients, signals, sockets, systemd."""

import fcntl
import os
import resource
import signal
import socket
import stat
import struct
import termios
import time

from harness import expect, expect_true, wait_until
from parts.process import run
from policyd_case import (LATER, netstring, policy_request,
                          policyd_case, read_netstring)

IDLE = 10000
KEY = "here@example.com"
OTHER_DOMAIN = 'domain "second.example" { new = "[127.0.0.1]:10027" }'


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status
                    if line.startswith("VmRSS"))


def raise_open_files(wanted):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    expect_true(f"{wanted} open files are allowed (hard limit {hard})",
                hard == resource.RLIM_INFINITY or hard >= wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def test_ten_thousand_idle_connections():
    raise_open_files(IDLE + 200)
    with policyd_case() as case:
        before = resident_kb(case.child.pid)
        idle = [case.connect("policy.sock") for _ in range(IDLE)]
        for _ in range(200):
            expect("busy", case.ask("transport", "locked@example.com"),
                   "OK sluice-hold:")
        grown = resident_kb(case.child.pid) - before
        expect_true(f"memory grew by {grown} KB", grown < 40000)
        idle[-1].sendall(policy_request(KEY))
        expect("an idle one wakes up", idle[-1].recv(100),
               b"action=DUNNO\n\n")
        for client in idle:
            client.close()


def test_more_clients_than_open_files():
    """They wait in the kernel's queue, and are served when others leave."""
    with policyd_case(started=False) as case:
        case.write_config()
        case.child.start(
            ["/bin/sh", "-c", 'ulimit -n 256; exec "$0" -c "$1"',
             case.program, case.config_path])
        case.child.wait_ready(lambda: os.path.exists(case.path("map.sock")),
                              10, "listens")
        case.init()
        case.wait_answers()
        clients = [case.connect("policy.sock") for _ in range(300)]
        case.wait_log("no more are accepted")
        before, end = cpu_ticks(case.child.pid), time.monotonic() + 1
        wait_until(lambda: time.monotonic() > end, 5, "a second goes by")
        used = cpu_ticks(case.child.pid) - before
        expect_true(f"it does not spin: {used} ticks in a second", used < 30)
        for client in clients:
            client.close()
        case.wait_answers()


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_answers_that_are_not_read():
    """The client is paused, the server's memory bounded, nobody else waits."""
    with policyd_case() as case, case.connect("map.sock") as client:
        before = resident_kb(case.child.pid)
        query = netstring("transport locked@example.com")
        sent = 0
        client.settimeout(0.5)
        try:
            while sent < 50_000_000:
                sent += client.send(query * 1000)
        except TimeoutError:
            pass
        expect_true(f"it was paused after {sent} bytes", sent < 50_000_000)
        grown = resident_kb(case.child.pid) - before
        expect_true(f"memory grew by {grown} KB", grown < 40000)
        expect("others", case.ask("transport", "locked@example.com"),
               "OK sluice-hold:")
        client.settimeout(10)
        with client.makefile("rb") as stream:
            for _ in range(sent // len(query)):
                expect("late", read_netstring(stream), "OK sluice-hold:")


def test_reload():
    with policyd_case() as case:
        asked = ("transport", "x@second.example")
        expect("before", case.ask(*asked), "NOTFOUND ")
        case.extra = OTHER_DOMAIN
        case.write_config()
        case.reload("read again")
        expect("registered nowhere yet", case.ask(*asked), LATER)
        case.extra = "nonsense = 1"
        case.write_config()
        case.reload("the configuration stays as it was")
        expect("kept", case.ask(*asked), LATER)
        with open(case.config_path, encoding="utf-8") as file:
            text = file.read().replace("nonsense = 1", OTHER_DOMAIN)
        with open(case.config_path, "w", encoding="utf-8") as file:
            file.write(text.replace("/map.sock", "/map2.sock"))
        case.reload("policyd.map has changed: restart")
        expect("still here", case.ask(*asked), LATER)
        with open(case.config_path, "w", encoding="utf-8") as file:
            file.write(text.replace('hostname = "', 'hostname = "other-'))
        case.reload("hostname has changed, which needs a restart: "
                    "the configuration stays as it was")
        expect("kept", case.ask(*asked), LATER)


def test_reload_names_another_redis():
    with policyd_case() as case:
        case.redis_url = case.redis.tcp_url
        case.write_config()
        case.reload("lookups are answered")
        expect("by TCP", case.ask("transport", "locked@example.com"),
               "OK sluice-hold:")


def test_term_finishes_what_is_being_answered():
    def prepare(case):
        case.timeout = 3000
    with policyd_case(prepare) as case:
        case.redis.pause()
        client = case.connect("map.sock")
        client.sendall(netstring("transport locked@example.com"))
        wait_until(lambda: unread(client) == 0, 5, "the request is read",
                   interval=0.01)
        idle = case.connect("policy.sock")
        os.kill(case.child.pid, signal.SIGTERM)
        expect("an idle connection is closed", idle.recv(10), b"")
        expect_true("no new one is accepted",
                    wait_until(lambda: not os.path.exists(
                        case.path("map.sock")) or refuses(case), 5,
                        "the socket is closed"))
        case.redis.resume()
        with client.makefile("rb") as stream:
            expect("the answer", read_netstring(stream), "OK sluice-hold:")
            expect("then", stream.read(), b"")
        expect("exit code", case.child.process.wait(20), 0)


def unread(client):
    """Bytes that the other end of a unix socket has not read (unix(7))."""
    count = fcntl.ioctl(client, termios.TIOCOUTQ, struct.pack("i", 0))
    return struct.unpack("i", count)[0]


def refuses(case):
    try:
        case.connect("map.sock").close()
        return False
    except OSError:
        return True


def test_sockets():
    with policyd_case() as case:
        for name in ("policy.sock", "map.sock"):
            mode = os.stat(case.path(name)).st_mode
            expect(name, oct(stat.S_IMODE(mode)), oct(0o660))
        code, _, error = run([case.program, "-c", case.config_path],
                             check=False)
        expect("a second instance", code, 69)
        expect_true(error, "policy.sock" in error and "already" in error)
        expect("the first goes on", case.ask("transport", "x@other.example"),
               "NOTFOUND ")
        case.child.kill()
        expect_true("a stale socket", os.path.exists(case.path("map.sock")))
        case.start()
        case.wait_answers()


def test_sockets_that_cannot_be():
    with policyd_case(started=False) as case:
        for path, code, text in [
                ("/nonexistent/policy.sock", 69, "directory does not exist"),
                (case.path("sluice.conf"), 69, "is not a socket"),
                ("/tmp/" + "x" * 200, 78, "socket path")]:
            case.write_config()
            with open(case.config_path, encoding="utf-8") as file:
                text_of = file.read().replace(case.path("policy.sock"), path)
            with open(case.config_path, "w", encoding="utf-8") as file:
                file.write(text_of)
            got, _, error = run([case.program, "-c", case.config_path],
                                check=False)
            expect(f"{path}: exit code", got, code)
            expect_true(f"{path}: {error}", text in error)


def test_options():
    with policyd_case(started=False) as case:
        case.write_config()
        for words, code in [(["-c", case.config_path, "-t"], 0),
                            (["--help"], 0), (["--version"], 0),
                            (["--nonsense"], 64), (["argument"], 64),
                            (["-c", "/nonexistent.conf"], 78)]:
            expect(words, run([case.program, *words], check=False)[0], code)
        case.extra = "nonsense = 1"
        case.write_config()
        code, _, error = run([case.program, "-c", case.config_path, "-t"],
                             check=False)
        expect("a bad file", code, 78)
        expect_true(error, "nonsense" in error)


ACTIVATE = """
import os, socket, sys
listeners = [socket.socket(socket.AF_UNIX) for _ in range(8)]
for number, path in ((3, sys.argv[1]), (4, sys.argv[2])):
    listener = listeners[number]
    listener.bind(path)
    listener.listen()
    os.dup2(listener.fileno(), number, inheritable=True)
    os.set_inheritable(number, True)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()),
                  LISTEN_FDNAMES="map:policy")
os.execv(sys.argv[3], [sys.argv[3], "-c", sys.argv[4]])
"""


def test_socket_activation_and_notify():
    with policyd_case(started=False) as case:
        case.write_config()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(case.path("notify"))
        os.chmod(case.path("notify"), 0o777)
        notify.settimeout(10)
        case.child.start(
            ["/usr/bin/env", "python3", "-c", ACTIVATE, case.path("m.sock"),
             case.path("p.sock"), case.program, case.config_path],
            env={**os.environ, "NOTIFY_SOCKET": case.path("notify")})
        message = notify.recv(1000)
        if message == b"":
            print("no libsystemd")
        expect("state", message, b"READY=1")
        expect_true("its own are not made",
                    not os.path.exists(case.path("map.sock")))
        for name, data, answer in [
                ("m.sock", netstring("transport *"), b"9:NOTFOUND ,"),
                ("p.sock", policy_request("x@other.example"),
                 b"action=DUNNO\n\n")]:
            with case.connect(name) as client:
                client.sendall(data)
                expect(name, client.recv(100), answer)
        case.child.send(signal.SIGHUP)
        expect_true("reloading", notify.recv(1000).startswith(b"RELOADING=1"))
        expect("ready again", notify.recv(1000), b"READY=1")
        case.child.send(signal.SIGTERM)
        expect("stopping", notify.recv(1000), b"STOPPING=1")
        expect("exit code", case.child.process.wait(20), 0)
        notify.close()
