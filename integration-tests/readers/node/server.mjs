// Servers in Node that return how they read a request: `node server.mjs READER PORT`.
import http from 'node:http';
import process from 'node:process';

const [reader, port] = process.argv.slice(2);

function tell(response, reading) {
  // ASCII only: a header value has no other characters.
  const json = JSON.stringify(reading).replace(/[\u007f-\uffff]/g,
    (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
  response.setHeader('x-reading', json);
  response.end();
}

function refuse(response) {
  response.statusCode = 400;
  response.end();
}

const names = (request) => Object.keys(request.headers).filter((name) => request.headers[name] === 'v');

// The idiom of servers without a framework; with `decode`, that of routers which decode first.
function url(decode) {
  return (request, response) => {
    let path = null, host = null;
    try {
      path = new URL(request.url, 'http://localhost').pathname;
      if (decode) path = decodeURIComponent(path);
    } catch { path = null; }
    try { host = new URL('http://' + request.headers.host).hostname; } catch { host = null; }
    tell(response, { method: request.method, host, path, names: names(request) });
  };
}

async function express() {
  const { default: framework } = await import('express');
  const app = framework();
  const told = (path) => (request, response) =>
    tell(response, { method: request.method, host: request.hostname ?? null, path, names: names(request) });
  // Express shows only whether a route matches.
  for (const path of ['/admin/users', '/admin', '/exact', '/public/a', '/a/b']) app.all(path, told(path));
  app.use(told(null));
  app.use((error, request, response, next) => refuse(response));
  return app;
}

const handlers = { node_url: url(false), node_decoded: url(true) };
const handler = reader === 'express' ? await express() : handlers[reader];
http.createServer({ maxHeaderSize: 65536 }, handler).listen(Number(port), '127.0.0.1');
