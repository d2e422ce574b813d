"""A private redis-server: unix socket and TCP, AOF, noeviction.

Contract
  start() stop() kill()      kill() is a crash; start() afterwards loads what
      the AOF holds
  command(*words)            one command, its reply as Python values; an error
      reply raises RedisError
  pause() resume()           the server stops answering, connections stay open
  snapshot() restore(copy)   the data directory set aside and put back: the
      store of an earlier moment ("rolled back")
"""

import os
import shutil
import signal
import socket

from .process import Child

CONFIG = """\
bind 127.0.0.1
port {port}
unixsocket {socket}
unixsocketperm 777
dir {data}
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
{extra}
"""


class RedisError(Exception):
    """An error reply of the server."""


class Redis:
    def __init__(self, directory, port):
        self.directory = directory
        self.port = port
        self.socket = os.path.join(directory, "redis.sock")
        self.unix_url = f"unix:{self.socket}"
        self.tcp_url = f"tcp:127.0.0.1:{port}"
        self.extra = ""
        self.log_path = os.path.join(directory, "redis.log")
        self._data = os.path.join(directory, "data")
        self._config = os.path.join(directory, "redis.conf")
        self._copies = 0
        self._child = Child("redis-server", self.log_path)
        os.makedirs(self._data)

    @property
    def pid(self):
        return self._child.pid

    @property
    def running(self):
        return self._child.running

    def start(self):
        """`extra` (configuration text) is written anew at every start."""
        with open(self._config, "w", encoding="utf-8") as config:
            config.write(CONFIG.format(
                port=self.port, socket=self.socket, data=self._data,
                extra=self.extra))
        self._child.start(["redis-server", self._config])
        self._child.wait_ready(self._answers, 20, "answers PING")

    def stop(self):
        return self._child.end(signal.SIGTERM)

    def kill(self):
        self._child.kill()

    def pause(self):
        self._child.send(signal.SIGSTOP)

    def resume(self):
        self._child.send(signal.SIGCONT)

    def snapshot(self):
        """A copy of the data directory as it is on the disk now."""
        self._copies += 1
        copy = os.path.join(self.directory, f"snapshot{self._copies}")
        shutil.copytree(self._data, copy)
        return copy

    def restore(self, copy):
        """Crashes the server and starts it with the data of `copy`."""
        self.kill()
        shutil.rmtree(self._data)
        shutil.copytree(copy, self._data)
        self.start()

    def command(self, *words, timeout=10):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(self.socket)
            connection.sendall(_request(words))
            with connection.makefile("rb") as stream:
                return _reply(stream)

    def _answers(self):
        try:
            return self.command("PING", timeout=1) == "PONG"
        except (OSError, RedisError, EOFError):
            return False


def _request(words):
    parts = [word if isinstance(word, bytes) else str(word).encode()
             for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(
        b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _reply(stream):
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError("redis closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        raise RedisError(rest.decode())
    if kind == b":":
        return int(rest)
    if int(rest) < 0:
        return None
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2].decode(errors="replace")
    return [_reply(stream) for _ in range(int(rest))]
