#!/usr/bin/env python3
"""An S3 server for tests, in memory: moto's, told what to do by lines on stdin.

    python s3_server.py

It says `port N` on stdout when it answers, then, to every line that it is told, `ok`, or `error` and what went wrong:

    create BUCKET              makes an empty bucket
    copy BUCKET NEW            makes a bucket with the same objects
    put BUCKET KEY FILE        makes a file an object
    dump BUCKET FOLDER         writes the objects of a bucket into a folder, as files
    lose BUCKET TEXT           does the next PUT in a bucket whose key has the text in it, and ends the connection in place of
                               the answer
    lost BUCKET                says `yes` or `no`: whether that has happened

It ends when its stdin does, so it never outlives the tests.

Requests are done one at a time, since moto looks for an object and writes it in two steps: two writers of one object, of which S3
lets one through, could both get past the first.
"""

import io
import json
import os
import pathlib
import socket
import sys
import threading

# The server asks nobody for credentials, and nobody asks it for more than these.
os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_DEFAULT_REGION="us-east-1")

from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

BACKEND = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


class OneAtATime:
    """moto's application, one request at a time; what is to go wrong goes wrong here."""

    def __init__(self) -> None:
        self.app = DomainDispatcherApplication(create_backend_app)
        # What the first request would load, which takes long on a busy machine.
        self.app.app_instances["s3"] = create_backend_app("s3")
        self.lock = threading.Lock()
        # By bucket: a part of the key of the PUT whose answer will be lost.
        self.losing: dict[str, str] = {}

    def __call__(self, environ: dict, start_response):
        # All of it first: a client that was stopped half way must not stop the others.
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if len(body) < length:
            start_response("400 Bad Request", [])
            return []
        environ["wsgi.input"] = io.BytesIO(body)
        bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
        with self.lock:
            answer = list(self.app(environ, start_response))
            if environ["REQUEST_METHOD"] == "PUT" and bucket in self.losing and self.losing[bucket] in key:
                del self.losing[bucket]
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer


class Quiet(MotoRequestHandler):
    """Says nothing of what is asked."""

    def log_request(self, *_) -> None:
        pass


def dump(bucket: str, folder: str) -> None:
    for name, key in BACKEND.get_bucket(bucket).keys.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.value)


def copy(bucket: str, new: str) -> None:
    BACKEND.create_bucket(new, "us-east-1")
    for name, key in BACKEND.get_bucket(bucket).keys.items():
        BACKEND.put_object(new, name, key.value)


def do(app: OneAtATime, line: str) -> str:
    match line.split():
        case ["create", bucket]:
            BACKEND.create_bucket(bucket, "us-east-1")
        case ["copy", bucket, new]:
            copy(bucket, new)
        case ["put", bucket, key, file]:
            BACKEND.put_object(bucket, key, pathlib.Path(file).read_bytes())
        case ["dump", bucket, folder]:
            dump(bucket, folder)
        case ["lose", bucket, text]:
            app.losing[bucket] = text
        case ["lost", bucket]:
            return "no" if bucket in app.losing else "yes"
        case _:
            raise ValueError(line)
    return "ok"


def main() -> None:
    app = OneAtATime()
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"port {server.server_port}", flush=True)
    for line in sys.stdin:
        try:
            with app.lock:
                answer = do(app, line)
        except Exception as error:  # noqa: BLE001, who asked is told
            answer = f"error {json.dumps(str(error))}"
        print(answer, flush=True)
    # Without waiting for connections.
    os._exit(0)


if __name__ == "__main__":
    main()
