# Servers in Python that return how they read a request: `python server.py READER PORT`.
import json
import sys
from urllib.parse import unquote, urlsplit
from wsgiref import simple_server


def names_of(environ):
    """Header names as a WSGI application sees them."""
    return sorted(
        key[5:].lower().replace("_", "-") for key, value in environ.items() if key.startswith("HTTP_") and value == "v"
    )


def without_port(host):
    """The common idiom that removes a port."""
    return host[: host.find("]") + 1] + host[host.find("]") + 1 :].partition(":")[0] if host.startswith("[") else host.partition(":")[0]


def reading_of(method, host, path, names):
    return json.dumps({"method": method, "host": host, "path": path, "names": names})


def plain(environ, start_response):
    """PEP 3333 alone."""
    path = environ["PATH_INFO"]
    value = reading_of(environ["REQUEST_METHOD"], without_port(environ["HTTP_HOST"]), path, names_of(environ))
    start_response("200 OK", [("x-reading", value), ("content-length", "0")])
    return [b""]


def flask_app():
    from flask import Flask, request

    app = Flask("reader", static_folder=None)

    def answer(path=""):
        host = without_port(request.host)
        return "", 200, {"x-reading": reading_of(request.method, host, request.path, names_of(request.environ))}

    methods = "GET POST PUT DELETE PATCH HEAD OPTIONS TRACE PURGE PROPFIND QUERY FOO X-FOO".split()
    options = {"methods": methods, "provide_automatic_options": False}
    app.add_url_rule("/", "root", answer, **options)
    app.add_url_rule("/<path:path>", "any", answer, **options)
    return app


def django_reading(request):
    from django.core.exceptions import DisallowedHost
    from django.http import HttpResponse
    from django.http.request import split_domain_port

    try:
        host = split_domain_port(request.get_host())[0]
    except DisallowedHost:
        host = None
    response = HttpResponse("")
    response["x-reading"] = reading_of(request.method, host, request.path_info, names_of(request.META))
    return response


def django_setup():
    import django
    from django.conf import settings
    from django.urls import re_path

    settings.configure(
        ALLOWED_HOSTS=["*"], SECRET_KEY="guards nothing", ROOT_URLCONF=sys.modules[__name__], MIDDLEWARE=[], APPEND_SLASH=False
    )
    globals()["urlpatterns"] = [re_path(r"(?s)^.*$", django_reading)]
    django.setup()


def serve(application, port):
    class Quiet(simple_server.WSGIRequestHandler):
        def log_message(self, *_):
            pass

    simple_server.make_server("127.0.0.1", port, application, handler_class=Quiet).serve_forever()


def urlsplit_server(port):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def __getattr__(self, name):
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def answer(self):
            # Not `self.path`, which merges leading slashes.
            target = self.requestline.split(" ")[1]
            try:
                path = unquote(urlsplit(target).path)
            except ValueError:
                path = None
            try:
                host = urlsplit("//" + self.headers["host"]).hostname
            except ValueError:
                host = None
            names = sorted(name.lower() for name, value in self.headers.items() if value == "v")
            self.send_response(200)
            self.send_header("x-reading", reading_of(self.command, host, path, names))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


reader, port = sys.argv[1], int(sys.argv[2])
if reader == "wsgiref":
    serve(plain, port)
elif reader == "urlsplit":
    urlsplit_server(port)
elif reader == "flask":
    serve(flask_app(), port)
elif reader == "django":
    django_setup()
    from django.core.wsgi import get_wsgi_application

    serve(get_wsgi_application(), port)
elif reader == "django_asgi":
    django_setup()
    import uvicorn
    from django.core.asgi import get_asgi_application

    uvicorn.run(get_asgi_application(), host="127.0.0.1", port=port, http="h11", log_level="critical")
