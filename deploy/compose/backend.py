"""An example backend. It verifies no token: whatever reaches it has passed Portcullis, which says in
`x-user-id` and `x-auth-provider` who is calling. `--check` asks a running one whether it is well."""

import json
import sys
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8080


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            return self.answer(200, {"status": "ok"})
        user_id = self.headers.get("x-user-id")
        if not user_id:
            return self.answer(401, {"detail": "Missing x-user-id header"})
        try:
            user_id = str(uuid.UUID(user_id))
        except ValueError:
            return self.answer(401, {"detail": "Invalid x-user-id format"})
        provider = self.headers.get("x-auth-provider") or "unknown"
        return self.answer(200, {"path": self.path, "user_id": user_id, "provider": provider})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.do_GET()

    def answer(self, status, body):
        body = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port = int(sys.argv[2]) if sys.argv[1:2] == ["--port"] else PORT
    if sys.argv[1:] == ["--check"]:
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=1)
    else:
        ThreadingHTTPServer(("", port), Backend).serve_forever()
