"""A headless Chromium of the test's own, driven through its debugging pipe.

Contract
  Browser(directory) starts one with its profile there, and nothing from
  outside: no proxy, no update, no first-run pages. Page(browser) is a tab;
  what its console said, what its policies blocked and what failed is in
  complaints. Every wait has a limit; a browser that does not answer fails
  the test by name. Protocol: NUL-terminated JSON over the file descriptors 3
  and 4 (--remote-debugging-pipe).
"""

import base64
import json
import os
import select
import subprocess
import time

BINARY = "/usr/bin/chromium"
LIMIT_S = 30


class Browser:
    def __init__(self, directory):
        out_read, self._write = os.pipe()
        self._read, in_write = os.pipe()
        self._serial = 0
        self._buffer = b""
        self.events = []
        command = [BINARY, "--headless", "--no-sandbox", "--disable-gpu",
                   "--hide-scrollbars", "--no-first-run", "--disable-sync",
                   "--disable-background-networking", "--no-proxy-server",
                   "--disable-component-update", "--disable-dev-shm-usage",
                   "--remote-debugging-pipe",
                   f"--user-data-dir={directory}", "about:blank"]

        def pipes():
            # First out of the way of 3 and 4, which either may be already.
            ours, theirs = os.dup(out_read), os.dup(in_write)
            high = [os.dup2(ours, 98), os.dup2(theirs, 99)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)
            for fd in (3, 4):
                os.set_inheritable(fd, True)

        with open(os.path.join(directory, "chromium.log"), "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                close_fds=False, preexec_fn=pipes)
        os.close(out_read)
        os.close(in_write)

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(LIMIT_S)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method, session=None, **parameters):
        self._serial += 1
        message = {"id": self._serial, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + LIMIT_S
        while True:
            answer = self._next(deadline, method)
            if answer.get("id") != self._serial:
                self.events.append(answer)
                continue
            assert "error" not in answer, f"{method}: {answer['error']}"
            return answer["result"]

    def _next(self, deadline, what):
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._read], [], [], left)[0]
            assert ready, f"chromium does not answer to {what}"
            part = os.read(self._read, 1 << 16)
            assert part, f"chromium ended while asked for {what}"
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(text)


class Page:
    def __init__(self, browser, width=1200, height=900, dark=False,
                 phone=False):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")
        self._session = browser.call(
            "Target.attachToTarget", targetId=target["targetId"],
            flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width,
                  height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme",
             "value": "dark" if dark else "light"}])

    def call(self, method, **parameters):
        return self.browser.call(method, self._session, **parameters)

    def go(self, url, user=None, password=None):
        if user is not None:
            word = base64.b64encode(f"{user}:{password}".encode()).decode()
            self.call("Network.setExtraHTTPHeaders",
                      headers={"Authorization": f"Basic {word}"})
        answer = self.call("Page.navigate", url=url)
        assert not answer.get("errorText"), f"{url}: {answer['errorText']}"
        self.wait("location.href !== 'about:blank' && "
                  "document.readyState === 'complete'", f"{url} is loaded")

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression,
                           returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self):
        return self.value("document.body.innerText") or ""

    def wait(self, expression, what, limit=LIMIT_S):
        deadline = time.monotonic() + limit
        while not self.value(expression):
            assert time.monotonic() < deadline, \
                f"{what}: not within {limit} s; the page says:\n{self.text()}"
            time.sleep(0.1)

    def picture(self, path, whole=True):
        answer = self.call("Page.captureScreenshot", format="png",
                           captureBeyondViewport=whole)
        with open(path, "wb") as out:
            out.write(base64.b64decode(answer["data"]))

    def complaints(self):
        """Lines of the console and its log, so far."""
        self.value("1")
        lines = []
        for event in self.browser.events:
            if event.get("sessionId") != self._session:
                continue
            what = event.get("params", {})
            if event["method"] == "Log.entryAdded":
                entry = what["entry"]
                lines.append(f"{entry['level']}: {entry['text']}")
            elif event["method"] == "Runtime.exceptionThrown":
                lines.append(str(what["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled":
                lines.append(f"{what['type']}: {what['args']}")
        return lines

    def requests(self):
        """The addresses that it has asked for."""
        self.value("1")
        return [event["params"]["request"]["url"]
                for event in self.browser.events
                if event.get("sessionId") == self._session
                and event["method"] == "Network.requestWillBeSent"]
