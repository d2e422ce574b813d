"""A web server for the tests: http.server of Python, with TLS.

Contract
  make_certificate(directory, *names)   (certificate, key): self-signed, its own CA
  with Web(certificate, key) as web     serves on 127.0.0.1, web.port; without a
      certificate without TLS; stop() ends it
  web.pages[path] = (status, headers, text), or a function of the request (method,
      path, headers, body) that returns such; what is not there is 404
  web.asked                             (method, path, authorization) of all requests
"""

import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from parts.process import run


def make_certificate(directory, *names):
    os.makedirs(directory, exist_ok=True)
    certificate, key = (os.path.join(directory, f"web.{end}") for end in ("pem", "key"))
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90",
         "-subj", "/CN=web", "-addext",
         "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
         "-keyout", key, "-out", certificate])
    return certificate, key


class Web:
    def __init__(self, certificate=None, key=None):
        self.pages, self.asked = {}, []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_GET(self):
                web.answer(self)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """A client that does not trust us closes the connection."""

            def get_request(self):
                client, address = super().get_request()
                client.settimeout(30)
                if certificate:   # the handshake is done in the request's own thread
                    client = context.wrap_socket(client, server_side=True,
                                                 do_handshake_on_connect=False)
                return client, address

        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
        self.certificate = certificate
        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,),
                                        daemon=True)
        self._thread.start()

    def answer(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.asked.append((request.command, request.path,
                           request.headers.get("Authorization")))
        page = self.pages.get(urlsplit(request.path).path, (404, {}, "not here"))
        if callable(page):
            page = page(request.command, request.path, request.headers, body)
        status, headers, text = page
        data = text if isinstance(text, bytes) else text.encode()
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def outlook_answer(*servers):
    """What Autodiscover says of these (host, port) for IMAP."""
    protocols = "".join(f"<Protocol><Type>IMAP</Type><Server>{host}</Server>"
                        f"<Port>{port}</Port></Protocol>" for host, port in servers)
    return ('<?xml version="1.0"?><Autodiscover><Response><Account>'
            f"{protocols}</Account></Response></Autodiscover>")


def mozilla_answer(host, port):
    return ('<clientConfig version="1.1"><emailProvider id="x"><incomingServer '
            f'type="imap"><hostname>{host}</hostname><port>{port}</port>'
            "</incomingServer></emailProvider></clientConfig>")
