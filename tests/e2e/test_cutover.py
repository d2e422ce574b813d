"""`sluice cutover` itself: order of steps, resuming, failures, outages."""

import json
import os
import signal
import stat
import time

from cutover_case import DOMAIN, HOST, address, cutover_case
from harness import expect, expect_true, wait_until

ALL_NEW = {"": "n", "a": "n", "b": "n", "c": "n"}
ALL_OLD = {"": "o", "a": "o", "b": "o", "c": "o"}


def results(document):
    return {box["address"].partition("@")[0]: box["result"]
            for box in document["mailboxes"]}


def reason(document, local):
    for box in document["mailboxes"]:
        if box["address"] == address(local):
            return box["reason"] or ""
    raise AssertionError(f"{local} is not in the document")


def test_moves_a_domain_and_says_so():
    with cutover_case() as case:
        case.sync("env | grep ^SLUICE_ | sort >$dir/env.$mailbox\n"
                  "ls -l /proc/self/fd >$dir/fds.$mailbox\n"
                  "echo to stderr >&2")
        code, document = case.document()
        expect("exit code", code, 0)
        expect("homes", case.homes(), ALL_NEW)
        expect("moved", document["moved"], 3)
        expect("results", results(document),
               {"a": "moved", "b": "moved", "c": "moved"})
        expect("domain stays", document["domain_stays"], None)
        for key in ("hold_median_s", "hold_p99_s", "hold_worst_s", "fence_s",
                    "seconds"):
            expect_true(f"{key} is a time", document[key] > 0)
        expect("environment of the sync", case.read(f"env.a@{DOMAIN}"),
               f"SLUICE_DOMAIN={DOMAIN}\nSLUICE_MAILBOX=a@{DOMAIN}\n"
               f"SLUICE_NEW=127.0.0.1\nSLUICE_NEW_ADDRESS=a@{DOMAIN}\n"
               "SLUICE_OLD=127.0.0.1\n")
        expect("no descriptor of ours but the outputs",
               [line.split(" -> ")[0].split()[-1] for line in
                case.read(f"fds.a@{DOMAIN}").splitlines()
                if "socket" in line or "pipe" in line], [])
        expect_true("log has header and output",
                    case.log("a").startswith("=== ")
                    and case.log("a").endswith("to stderr\n"))
        mode = os.stat(case.path(f"state/cutover/{DOMAIN}/a.log")).st_mode
        expect("mode of the log", stat.S_IMODE(mode), 0o600)

        code, out, _ = case.cutover()
        expect("again: exit code", code, 0)
        expect_true("again: already there", "3 already there" in out)


def test_dry_run_locks_nothing():
    with cutover_case() as case:
        case.server.refuse.add(address("b"))
        before = case.redis.command("HGET", "sluice:chain", "epoch")
        code, out, _ = case.cutover("--dry-run", DOMAIN)
        expect("exit code: one would be refused", code, 1)
        expect_true("plan", "would move 2 mailboxes" in out)
        expect("homes", case.homes(), ALL_OLD)
        expect("no change in the store",
               case.redis.command("HGET", "sluice:chain", "epoch"), before)


def test_missing_sync_locks_nothing():
    with cutover_case() as case:
        for what, mode in (("missing", None), ("not executable", 0o644)):
            if mode is None:
                os.unlink(case.path("sync"))
            else:
                case.write("sync", "#!/bin/sh\n", mode)
            code, _, err = case.cutover()
            expect(f"{what}: exit code", code, 78)
            expect_true(f"{what}: names it", case.path("sync") in err)
            expect(f"{what}: homes", case.homes(), ALL_OLD)


def test_sync_with_missing_interpreter_stops_at_once():
    with cutover_case() as case:
        case.write("sync", "#!/nonexistent/shell\n", 0o755)
        code, _, err = case.cutover()
        expect("exit code", code, 78)
        expect_true("says why", "cannot be executed" in err)
        expect("homes", case.homes(), ALL_OLD)


def test_failed_sync_is_listed_and_unlocked():
    with cutover_case() as case:
        case.sync(f'[ $mailbox = b@{DOMAIN} ] && exit 3; exit 0')
        code, document = case.document()
        expect("exit code", code, 1)
        expect("results", results(document),
               {"a": "moved", "b": "failed", "c": "moved"})
        expect("homes", case.homes(),
               {"": "o", "a": "n", "b": "o", "c": "n"})
        expect_true("exit code and log are named",
                    "exit code 3" in reason(document, "b")
                    and "b.log" in reason(document, "b"))
        expect("domain stays", document["domain_stays"],
               "not all mailboxes are new")

        case.sync("exit 0")
        expect("repeated", case.cutover()[0], 0)
        expect("homes after that", case.homes(), ALL_NEW)


def test_failed_sync_keeps_the_lock_when_configured():
    with cutover_case(on_failure="keep") as case:
        case.sync(f'[ $mailbox = b@{DOMAIN} ] && kill -9 $$; exit 0')
        code, document = case.document()
        expect("exit code", code, 1)
        expect("homes", case.homes(),
               {"": "o", "a": "n", "b": "l", "c": "n"})
        expect_true("signal and state are named",
                    "signal 9" in reason(document, "b")
                    and "stays locked" in reason(document, "b"))


def test_hanging_sync_is_ended_with_all_it_started():
    with cutover_case(timeout="1s") as case:
        case.sync(f"""[ $mailbox = b@{DOMAIN} ] || exit 0
trap '' TERM
sh -c 'echo $$ >'$dir'/child.pid; trap "" TERM; sleep 600' &
sleep 600""")
        began = time.monotonic()
        code, document = case.document()
        expect("exit code", code, 1)
        expect_true("says so", "not done within 1 s" in reason(document, "b"))
        expect_true("in time", time.monotonic() - began < 15)
        expect("homes", case.homes(),
               {"": "o", "a": "n", "b": "o", "c": "n"})
        child = int(case.read("child.pid"))
        expect_true("nothing is left running",
                    not os.path.exists(f"/proc/{child}"))


def test_second_cutover_is_refused_by_name():
    with cutover_case() as case:
        case.sync("touch $dir/begun; while [ ! -e $dir/go ]; do sleep 0.1; "
                  "done")
        first = case.start(DOMAIN)
        case.wait_for("begun")
        code, _, err = case.cutover()
        expect("second: exit code", code, 75)
        expect_true("second: names the first",
                    f"pid {first.pid} " in err and f"@{HOST}" in err)
        case.write("go", "")
        expect("first: exit code", first.wait()[0], 0)
        expect("homes", case.homes(), ALL_NEW)


def test_new_server_down_locks_nothing():
    with cutover_case() as case:
        case.server.stop()
        code, _, err = case.cutover()
        expect("exit code", code, 69)
        expect_true("names it", str(case.server.port) in err)
        expect("homes", case.homes(), ALL_OLD)


def test_new_server_that_is_no_smtp_server():
    for greeting in ("554 5.3.2 go away", "SSH-2.0-OpenSSH_9.2", "220"):
        with cutover_case() as case:
            case.server.greeting = greeting
            code, _, err = case.cutover()
            wanted = 0 if greeting == "220" else 69
            expect(f"{greeting!r}: exit code ({err})", code, wanted)


def test_refused_recipient_stays_and_is_listed():
    for pipelining in (True, False):
        with cutover_case() as case:
            case.server.pipelining = pipelining
            case.server.refuse.add(address("b"))
            code, document = case.document()
            expect("exit code", code, 1)
            expect("results", results(document),
                   {"a": "moved", "b": "refused", "c": "moved"})
            expect("homes", case.homes(),
                   {"": "o", "a": "n", "b": "o", "c": "n"})
            expect("the server's words", reason(document, "b"),
                   "550 5.1.1 no such user here")
            expect("never synced", case.log("b"), "")


def test_greylisted_recipient_is_to_be_tried_again():
    with cutover_case() as case:
        case.server.later.add(address("b"))
        code, document = case.document()
        expect("exit code", code, 75)
        expect("results", results(document),
               {"a": "moved", "b": "undecided", "c": "moved"})
        asked = case.server.commands.count(f"RCPT TO:<{address('b')}>")
        expect("tries", asked, 3)
        case.server.later.clear()
        expect("repeated", case.cutover()[0], 0)
        expect("homes", case.homes(), ALL_NEW)


def test_warns_of_a_server_that_accepts_anyone():
    with cutover_case() as case:
        case.server.anyone = True
        code, _, err = case.cutover("--dry-run", DOMAIN)
        expect("exit code", code, 0)
        expect_true("warns", "proves nothing" in err)


def test_new_address_is_asked_for_and_given_to_the_sync():
    with cutover_case(mailboxes=("a",)) as case:
        case.configure(domain='new-address = "%l@tenant.example.net"')
        case.server.known.add("a@tenant.example.net")
        case.sync("echo $SLUICE_NEW_ADDRESS >$dir/target")
        expect("exit code", case.cutover()[0], 0)
        expect("target", case.read("target"), "a@tenant.example.net\n")
        expect_true("asked for", "RCPT TO:<a@tenant.example.net>" in
                    case.server.commands)


def test_without_a_new_hop_nothing_is_asked():
    with cutover_case(mailboxes=("a",), new="",
                      domain='new-address = "%l@tenant.example.net"') as case:
        code, document = case.document()
        expect("exit code", code, 0)
        expect("probed", document["probed"], False)
        expect("commands", case.server.commands, [])


def test_targets_that_cannot_be_moved():
    with cutover_case(mailboxes=(), extra='domain "example.org" {\n'
                      '  new = "[127.0.0.1]:1"\n}') as case:
        for words, wanted in (((DOMAIN,), 65), ((address("x"),), 65),
                              (("example.invalid",), 65), ((), 64),
                              ((DOMAIN, "example.org"), 64)):
            code, _, err = case.sluice("cutover", *words)
            expect(f"{words}: exit code ({err})", code, wanted)


def test_single_mailbox_leaves_the_domain():
    with cutover_case() as case:
        code, document = case.document(address("b"))
        expect("exit code", code, 0)
        expect("homes", case.homes(),
               {"": "o", "a": "o", "b": "n", "c": "o"})
        expect_true("says so", document["domain_stays"] is not None)


def test_silent_host_is_named_and_can_be_left_out():
    with cutover_case() as case:
        case.hosts.silent.add("mx9.example.net")
        old = str(int(time.time() * 1000) - 60000)
        case.redis.command("HSET", "sluice:hosts", "mx9.example.net",
                           f"side=new\tfenced=0\tjournaled=0\tswept=0\t"
                           f"seen={old}\tversion=0.1.0\tstate=")
        code, _, err = case.cutover()
        expect("exit code", code, 75)
        expect_true("named", "mx9.example.net" in err)
        expect("homes", case.homes(), ALL_OLD)
        code, _, err = case.cutover("--without-host", "MX9.example.net",
                                    DOMAIN)
        expect(f"without it: exit code ({err})", code, 0)
        expect("homes", case.homes(), ALL_NEW)


def test_nothing_is_synced_before_the_fence():
    with cutover_case() as case:
        case.hosts.confirm = False
        case.sync("touch $dir/synced")
        code, _, err = case.cutover("--give-up", "2", DOMAIN)
        expect("exit code", code, 75)
        expect_true("says what it waits for", HOST in err)
        expect_true("no sync ran", not os.path.exists(case.path("synced")))
        expect("unlocked again", case.homes(), ALL_OLD)


def test_goes_on_with_what_is_locked():
    with cutover_case() as case:
        code, _, err = case.sluice("lock", address("b"))
        expect(f"lock ({err})", code, 0)
        code, document = case.document()
        expect("exit code", code, 0)
        expect("results", results(document),
               {"a": "moved", "b": "moved", "c": "moved"})


def test_mailbox_unlocked_by_hand_is_not_flipped():
    with cutover_case() as case:
        case.sync(f"[ $mailbox = b@{DOMAIN} ] || exit 0\ntouch $dir/begun\n"
                  "while [ ! -e $dir/go ]; do sleep 0.1; done")
        running = case.start("--json", DOMAIN)
        case.wait_for("begun")
        case.sluice("unlock", address("b"), check=True)
        case.write("go", "")
        code, _, err = running.wait()
        expect("exit code", code, 1)
        expect_true("says so", "somebody else changed it" in err)
        expect("home", case.homes()["b"], "o")


# Says so when two syncs of one mailbox run at once.
WATCHED_SYNC = ("flock -n $dir/lock.$mailbox sleep {seconds} "
                "|| touch $dir/overlap\n"
                "touch $dir/synced.$mailbox")


def test_killed_run_is_finished_by_the_same_command():
    names = [f"m{n}" for n in range(12)]
    with cutover_case(mailboxes=names) as case:
        case.sync(WATCHED_SYNC.format(seconds=0.4))
        running = case.start(DOMAIN)
        wait_until(lambda: "n" in case.homes().values(), 20, "one has moved")
        running.send(signal.SIGKILL)
        running.wait()
        expect_true("some are locked", "l" in case.homes().values())
        code, _, err = case.cutover()
        expect(f"repeated: exit code ({err})", code, 0)
        expect("homes", set(case.homes().values()), {"n"})
        expect_true("no two syncs of one mailbox at once",
                    not os.path.exists(case.path("overlap")))


def test_killed_at_any_moment():
    names = [f"m{n}" for n in range(12)]
    with cutover_case(mailboxes=names, jobs=4) as case:
        case.sync(WATCHED_SYNC.format(seconds=0.05))
        case.hosts.delay = 0.1
        for attempt in range(40):
            running = case.start("--batch", "4", DOMAIN)
            time.sleep(0.02 + 0.037 * attempt % 0.7)
            running.send(signal.SIGKILL)
            running.wait()
            if set(case.homes().values()) == {"n"}:
                break
        code, _, err = case.cutover()
        expect(f"last: exit code ({err})", code, 0)
        expect("homes", set(case.homes().values()), {"n"})
        expect("all were synced",
               [n for n in names if not
                os.path.exists(case.path(f"synced.{address(n)}"))], [])
        expect_true("no two syncs of one mailbox at once",
                    not os.path.exists(case.path("overlap")))


def test_leftover_sync_of_a_killed_run_is_waited_for():
    with cutover_case(mailboxes=("a",)) as case:
        # What the killed run's script started lives on.
        case.sync("echo begin $mailbox >>$dir/order; touch $dir/begun\n"
                  "(trap '' TERM; sleep 2; echo end $mailbox >>$dir/order)")
        running = case.start(DOMAIN)
        case.wait_for("begun")
        running.send(signal.SIGKILL)
        running.wait()
        code, _, err = case.cutover()
        expect(f"repeated: exit code ({err})", code, 0)
        expect_true("it waited", "earlier sync of it is still running" in err)
        expect("order", case.read("order"),
               f"begin a@{DOMAIN}\nend a@{DOMAIN}\n" * 2)


def test_ctrl_c_lets_running_syncs_end():
    with cutover_case(mailboxes=[f"m{n}" for n in range(8)]) as case:
        case.sync("touch $dir/begun; while [ ! -e $dir/go ]; do sleep 0.1; "
                  "done")
        running = case.start("--json", DOMAIN)
        case.wait_for("begun")
        running.send(signal.SIGINT)
        wait_until(lambda: "l" in case.homes().values()
                   and list(case.homes().values()).count("l") == 2, 20,
                   "only the two running ones are locked")
        case.write("go", "")
        code, out, err = running.wait()
        expect(f"exit code ({err})", code, 75)
        expect_true("says how to go on", "repeat the same command" in err)
        letters = sorted(case.homes().values())
        expect("two moved, none locked", letters, ["n"] * 2 + ["o"] * 7)
        expect("repeated", case.cutover()[0], 0)
        expect("homes", set(case.homes().values()), {"n"})


def test_second_ctrl_c_stops_the_syncs():
    for on_failure, letter in (("unlock", "o"), ("keep", "l")):
        with cutover_case(on_failure=on_failure) as case:
            case.sync("touch $dir/begun; sleep 600")
            running = case.start(DOMAIN)
            case.wait_for("begun")
            running.send(signal.SIGTERM)
            wait_until(lambda: case.homes()["c"] == "o", 20,
                       "what was not begun is unlocked")
            running.send(signal.SIGTERM)
            code, _, err = running.wait()
            expect(f"exit code ({err})", code, 75)
            expect(f"{on_failure}: homes", case.homes(),
                   {"": "o", "a": letter, "b": letter, "c": "o"})


def test_redis_killed_in_mid_cutover():
    with cutover_case() as case:
        case.sync("touch $dir/begun; while [ ! -e $dir/go ]; do sleep 0.1; "
                  "done")
        running = case.start(DOMAIN)
        case.wait_for("begun")
        time.sleep(1.2)     # appendfsync everysec
        case.redis.kill()
        case.write("go", "")
        wait_until(lambda: case.log("a") and case.log("b"), 20, "syncs ran")
        time.sleep(1.5)
        case.redis.start()
        code, _, err = running.wait()
        expect(f"exit code ({err})", code, 0)
        expect_true("said so", "the store answers again" in err)
        expect("homes", case.homes(), ALL_NEW)


def test_redis_down_for_good():
    with cutover_case() as case:
        case.sync("touch $dir/begun; sleep 600")
        running = case.start("--give-up", "2", DOMAIN)
        case.wait_for("begun")
        time.sleep(1.2)
        case.redis.kill()
        code, _, err = running.wait()
        expect(f"exit code ({err})", code, 69)
        expect_true("says how to go on", "repeat the same command" in err)
        code, _, err = case.cutover()
        expect("while it is down: exit code", code, 69)
        case.redis.start()
        case.sync("exit 0")
        expect("repeated", case.cutover()[0], 0)
        expect("homes", case.homes(), ALL_NEW)


def test_redis_that_forgets_is_refused():
    with cutover_case() as case:
        case.redis.command("CONFIG", "SET", "appendonly", "no")
        code, _, err = case.cutover()
        expect(f"exit code ({err})", code, 78)
        expect("homes", case.homes(), ALL_OLD)


def test_held_mail_that_does_not_leave_is_named():
    with cutover_case() as case:
        case.hosts.sweep = False
        code, document = case.document("--give-up", "2", DOMAIN)
        expect("exit code", code, 75)
        expect("homes", case.homes(), ALL_NEW)
        expect_true("named", HOST in document["still_releasing"])
        case.hosts.sweep = True
        expect("repeated", case.cutover()[0], 0)


def test_batches_overlap_their_fences():
    names = [f"m{n:02}" for n in range(24)]
    with cutover_case(mailboxes=names) as case:
        case.hosts.delay = 1.5
        case.sync("sleep 0.3")
        code, out, err = case.cutover("--batch", "8", DOMAIN)
        expect(f"exit code ({err})", code, 0)
        expect_true("three batches", "batch 3: 8 locked" in err)
        # The third fence began before the second batch was synced.
        second = err.index("batch 2: fence confirmed")
        third = err.index("batch 3: 8 locked")
        moved = err.index("m15@")
        expect_true("order", second < third < moved)


# The second of two batches waits for the file "go"; the domain's own record is
# locked with it.
LAST_BATCH = [f"m{n}" for n in range(4, 8)]
LAST_BATCH_WAITS = """\
touch $dir/begun
case $mailbox in
m[0-3]@*) exit 0;;
esac
while [ ! -e $dir/go ]; do sleep 0.1; done
"""


def in_the_last_batch(case, sync=LAST_BATCH_WAITS):
    case.sync(sync)
    running = case.start("--json", "--batch", "4", DOMAIN)
    wait_until(lambda: case.homes()[""] == "l", 20, "the own record is locked")
    return running


def own_record_case():
    return cutover_case(mailboxes=[f"m{n}" for n in range(8)])


def test_domain_is_locked_with_the_last_batch_and_flipped_after_it():
    with own_record_case() as case:
        running = in_the_last_batch(case)
        wait_until(lambda: case.homes()["m0"] == "n", 20, "the first are new")
        expect("the last batch is locked too",
               {case.homes()[name] for name in LAST_BATCH}, {"l"})
        case.write("go", "")
        code, out, err = running.wait()
        expect(f"exit code ({err})", code, 0)
        expect("no fence of its own", json.loads(out)["fences"], 2)
        expect("homes", set(case.homes().values()), {"n"})


def test_domain_is_unlocked_when_one_of_the_last_batch_fails():
    with own_record_case() as case:
        running = in_the_last_batch(
            case, LAST_BATCH_WAITS + "case $mailbox in m4@*) exit 3;; esac\n"
            "while [ ! -e $dir/go2 ]; do sleep 0.1; done\n")
        case.write("go", "")
        wait_until(lambda: case.homes()[""] == "o", 20, "unlocked at once")
        expect("others are still at it", case.homes()["m7"], "l")
        case.write("go2", "")
        code, out, err = running.wait()
        expect(f"exit code ({err})", code, 1)
        expect("why", json.loads(out)["domain_stays"],
               "not all mailboxes are new")
        expect("homes", {name for name, home in case.homes().items()
                         if home == "o"}, {"", "m4"})


def test_killed_or_stopped_with_the_domain_locked():
    with own_record_case() as case:
        running = in_the_last_batch(case)
        running.send(signal.SIGINT)
        wait_until(lambda: case.homes()[""] == "o", 20, "Ctrl-C unlocks it")
        case.write("go", "")
        expect("exit code", running.wait()[0], 75)
    with own_record_case() as case:
        running = in_the_last_batch(case)
        running.send(signal.SIGKILL)
        running.wait()
        expect("still locked", case.homes()[""], "l")
        case.write("go", "")
        code, _, err = case.cutover()
        expect(f"repeated: exit code ({err})", code, 0)
        expect("homes", set(case.homes().values()), {"n"})
    with own_record_case() as case:
        running = in_the_last_batch(case)
        running.send(signal.SIGKILL)
        running.wait()
        case.write("go", "")
        case.sync("case $mailbox in m7@*) exit 3;; esac")
        code, _, err = case.cutover()
        expect(f"another one fails: exit code ({err})", code, 1)
        expect("unlocked, also when found locked", case.homes()[""], "o")


def test_lost_lease_ends_the_run_and_leaves_the_locks():
    with cutover_case() as case:
        case.sync("touch $dir/begun; sleep 600")
        running = case.start("--json", DOMAIN)
        case.wait_for("begun")
        case.redis.command("SET", f"sluice:lease:cutover:{DOMAIN}",
                           "root@mx2.example.com pid 1 since now", "EX", "60")
        code, out, err = running.wait()
        expect(f"exit code ({err})", code, 75)
        expect_true("names who has it", "root@mx2.example.com" in err)
        expect("homes: the other run goes on with them", case.homes(),
               {"": "o", "a": "l", "b": "l", "c": "l"})


def test_redis_emptied_in_mid_cutover():
    with cutover_case() as case:
        case.sync("touch $dir/begun; while [ ! -e $dir/go ]; do sleep 0.1; "
                  "done")
        running = case.start("--give-up", "2", DOMAIN)
        case.wait_for("begun")
        case.redis.command("FLUSHALL")
        case.write("go", "")
        code, _, err = running.wait()
        expect(f"exit code ({err})", code, 69)
        expect_true("says that nothing was flipped",
                    "moved (" not in err and "not complete" in err)
        expect("no home was made up",
               case.redis.command("KEYS", "sluice:home:*"), [])


def test_host_that_comes_during_the_sync_is_fenced_too():
    with cutover_case(mailboxes=("a",)) as case:
        case.sync("echo run >>$dir/runs\n"
                  "while [ ! -e $dir/go ]; do sleep 0.1; done")
        running = case.start(DOMAIN)
        case.wait_for("runs")
        seen = str(int(time.time() * 1000))
        case.redis.command("HSET", "sluice:hosts", "late.example.com",
                           f"side=old\tfenced=0\tjournaled=0\tswept=0\t"
                           f"seen={seen}\tversion=0.1.0\tstate=new here")
        case.write("go", "")
        time.sleep(1)
        expect("not flipped", case.homes()["a"], "l")
        case.hosts.names["late.example.com"] = "old"
        code, _, err = running.wait()
        expect(f"exit code ({err})", code, 0)
        expect("synced again, after its fence", case.read("runs"),
               "run\nrun\n")
        expect("homes", case.homes(), {"": "n", "a": "n"})
