"""sluice-milter when something is down, slow, stopped, or started twice."""

import os
import re
import signal
import socket
import threading
import time

from harness import expect, expect_true, ids_in, message, wait_until
from milter_host import A, B, SENDER, milter_host
from parts.process import run

OTHER = "someone@senders.test"


def test_redis_down_at_start_and_later():
    with milter_host(start=False) as host:
        host.redis.kill()
        host.milter.start()
        wait_until(lambda: "until Redis answers" in host.milter.log(), 10,
                   "the warning at start")
        expect("managed", host.postfix.smtp(SENDER, [A], message("1")).code, 451)
        expect("mixed", host.postfix.smtp(SENDER, [A, OTHER],
                                          message("2")).code, 451)
        expect("others", host.postfix.smtp(SENDER, [OTHER], message("3")).code,
               250)
        expect_true("reason", "verdict=later to=<u1@example.com> home=unknown" in
                    host.milter.log() and "reason=lookup-failed" in host.milter.log())
        host.redis.start()
        wait_until(lambda: host.postfix.smtp(
            SENDER, [A], message("4")).code == 250, 20, "Redis answers again")
        expect("delivered", ids_in(host.boxes(A)[A]), ["4"])


def test_store_emptied_or_not_initialised():
    with milter_host() as host:
        host.redis.command("DEL", "sluice:home:example.com")
        reply = host.postfix.smtp(SENDER, [A], message("1"))
        expect("no own record", reply.code, 451)
        host.redis.command("FLUSHALL")
        reply = host.postfix.smtp(SENDER, [A], message("2"))
        expect("emptied", reply.code, 451)
        expect("others", host.postfix.smtp(SENDER, [OTHER], message("3")).code,
               250)


def test_stopped_redis_holds_up_nobody_else():
    with milter_host() as host:
        host.postfix.smtp(SENDER, [A], message("warm"))
        host.redis.pause()
        try:
            codes = []
            threads = [threading.Thread(target=lambda: codes.append(
                host.postfix.smtp(SENDER, [A], message("m")).code))
                for _ in range(20)]
            for thread in threads:
                thread.start()
            began = time.monotonic()
            for number in range(20):
                reply = host.postfix.smtp(SENDER, [OTHER], message(f"o{number}"))
                expect("others", reply.code, 250)
            took = time.monotonic() - began
            for thread in threads:
                thread.join(30)
            expect("managed", codes, [451] * 20)
            expect_true(f"20 messages in {took:.1f} s", took < 5)
        finally:
            host.redis.resume()
        wait_until(lambda: host.postfix.smtp(
            SENDER, [A], message("after")).code == 250, 20, "Redis answers again")


def test_killed_and_stopped_in_mid_traffic():
    with milter_host() as host:
        host.home(A, "locked")
        accepted, refused, stop = [], [], threading.Event()

        def send(worker):
            number = 0
            while not stop.is_set():
                number += 1
                id = f"k{worker}-{number}"
                reply = host.postfix.smtp(SENDER, [A if worker % 2 else B],
                                          message(id))
                (accepted if reply.code == 250 else refused).append((worker, id))
                if reply.code not in (250, 451):
                    refused.append(repr(reply))
        workers = [threading.Thread(target=send, args=(n,)) for n in range(6)]
        for worker in workers:
            worker.start()
        for end in (host.milter.kill, host.milter.stop, host.milter.kill):
            seen = len(accepted)
            wait_until(lambda: len(accepted) > seen + 20, 30, "traffic")
            end()
            seen = len(refused)
            wait_until(lambda: len(refused) > seen, 30, "451 while it is down")
            host.milter.start()
        stop.set()
        for worker in workers:
            worker.join(60)
        expect("only 250 and 451", [each for each in refused
                                    if isinstance(each, str)], [])
        held = [entry["queue_id"] for entry in host.postfix.queue()
                if entry["queue_name"] == "hold"]
        expect("held messages", len(held),
               len([1 for worker, _ in accepted if worker % 2]))
        expect("each has its record", set(held) - set(host.held()), set())
        host.postfix.postsuper("-d", "ALL", "hold")
        found = host.boxes(A, B)
        expect("into the locked one", found[A], [])
        expect("all others", ids_in(found[B]),
               sorted(id for worker, id in accepted if worker % 2 == 0))


def test_reload():
    with milter_host() as host:
        expect("managed", "verdict=deliver" in host.wait_lines(
            host.postfix.smtp(SENDER, [A], message("1")).queue_id)[0], True)
        good = open(host.sluice.config_path, encoding="utf-8").read()
        _write(host.sluice.config_path, good + "\nno-such-key = 1\n")
        host.milter.send(signal.SIGUSR1)
        wait_until(lambda: "old configuration stays" in host.milter.log(), 10,
                   "the bad file is named")
        expect_true("with its line", re.search(
            r"sluice\.conf:\d+: .*no-such-key", host.milter.log()))
        expect("still managed", "verdict=deliver" in host.wait_lines(
            host.postfix.smtp(SENDER, [A], message("2")).queue_id)[0], True)
        _write(host.sluice.config_path,
               good.replace('domain "example.com"', 'domain "moved.test"'))
        host.milter.send(signal.SIGUSR1)
        wait_until(lambda: "configuration read again" in host.milter.log(), 10,
                   "the good file")
        reply = host.postfix.smtp(SENDER, [A], message("3"))
        host.postfix.wait_empty()
        expect("not managed any more", host.lines(reply.queue_id), [])


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def test_clean_stop_with_idle_connections():
    with milter_host() as host:
        path = os.path.join(host.sluice.sockets, "milter.sock")
        idle = []
        for _ in range(50):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            idle.append(connection)
        expect("answers", host.postfix.smtp(SENDER, [A], message("1")).code, 250)
        for number in (signal.SIGTERM, signal.SIGINT):
            began = time.monotonic()
            expect("exit code", host.milter._child.end(number), 0)
            took = time.monotonic() - began
            expect_true(f"{took:.1f} s", took < 8)
            expect("socket removed", os.path.exists(path), False)
            host.milter.start()
        for connection in idle:
            connection.close()
        expect("answers", host.postfix.smtp(SENDER, [A], message("2")).code, 250)


def test_stale_socket_and_second_instance():
    with milter_host() as host:
        path = os.path.join(host.sluice.sockets, "milter.sock")
        mode = os.stat(path)
        expect("mode", oct(mode.st_mode & 0o777), "0o660")
        code, _, err = run([host.milter.program, "-c", host.sluice.config_path],
                           check=False)
        expect("second instance", code, 69)
        expect_true(err, f"{path}: another sluice-milter is listening there" in err)
        expect("first one", host.postfix.smtp(SENDER, [A], message("1")).code, 250)
        host.milter.kill()
        expect_true("stale socket", os.path.exists(path))
        host.milter.start()
        expect("again", host.postfix.smtp(SENDER, [A], message("2")).code, 250)
        host.milter.stop()
        _write(path, "not a socket")
        code, _, err = run([host.milter.program, "-c", host.sluice.config_path],
                           check=False)
        expect("a file", code, 69)
        expect_true(err, "is not a socket" in err)
        os.unlink(path)


def test_flood_of_connections():
    with milter_host() as host:
        path = os.path.join(host.sluice.sockets, "milter.sock")
        flood = []
        for number in range(2000):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            connection.sendall(b"\0\0" if number % 2 else b"\xff\xff\xff\xffgarbage")
            flood.append(connection)
        # A busy machine may take longer than the lab's SMTP time limit.
        wait_until(lambda: host.postfix.smtp(SENDER, [A], message("1")).code == 250,
                   120, "mail is taken beside the flood")
        for connection in flood:
            connection.close()
        wait_until(lambda: host.postfix.smtp(SENDER, [A], message("2")).code == 250,
                   120, "mail is taken after the flood")
        expect_true("runs", host.milter.running)


def test_bad_configuration():
    with milter_host(start=False) as host:
        cases = [
            ("side = middle\n", "side"),
            ("milter { listen = \"unix:/" + "x" * 200 + "\" }\n", "socket path"),
            ("user = \"no-such-user\"\n", "no-such-user"),
        ]
        good = open(host.sluice.config_path, encoding="utf-8").read()
        for text, named in cases:
            name = text.split()[0]
            changed = re.sub(rf"(?ms)^{name} *(=.*?$|{{.*?^}})", text.strip(), good,
                             count=1)
            _write(host.sluice.config_path, changed)
            code, _, err = run([host.milter.program, "-c", host.sluice.config_path],
                               check=False, timeout=10)
            expect_true(f"{text!r}: exit code {code}", code in (69, 78))
            expect_true(f"{text!r}: {err}", named in err and err.count("\n") == 1)
