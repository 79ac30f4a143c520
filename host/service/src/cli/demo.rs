//! Content of `portcullis dev`: its configuration, and the commands it prints.
//!
//! Each command stands on a line that begins with `$ `, and what it prints on the next line, which
//! begins with `# `. A script can walk them, and a test does.

use std::{io::Write, net::SocketAddr, path::Path};

use crate::app::Announcement;

const GRPC_PORT: u16 = 9191;
const HTTP_PORT: u16 = 9192;
const ADMIN_PORT: u16 = 9090;

/// The configuration of the sandbox. `address` turns a port into a loopback address.
pub(super) fn config(folder: &Path, address: impl Fn(u16) -> SocketAddr) -> String {
    let folder = folder.display();
    let (grpc, http, admin) = (address(GRPC_PORT), address(HTTP_PORT), address(ADMIN_PORT));
    format!(
        r#"# Written by `portcullis dev`. A starting point for a configuration of your own.
grpc: {{ listen: "{grpc}" }}
http: {{ listen: "{http}" }}
admin: {{ listen: "{admin}", token_file: "{folder}/admin.token" }}
shutdown: {{ grace: 0s, timeout: 5s }}
log: {{ format: text, filter: warn }}
issuers:
  dev:
    issuer: https://dev.portcullis.invalid
    audiences: [dev]
    keys: [{{ secret_file: "{folder}/jwt.secret", algorithm: HS256 }}]
policies:
  main: {{ file: "{folder}/policy.wasm" }}
routes:
  - name: health
    match: {{ paths: [/healthz] }}
    token: ignored
    allow_without_policy: true
  - name: everything
    token: required
    policy: main
    deadline: 5s
    identity_headers: {{ x-user-id: [sub] }}
    settings:
      rules:
        - match: {{ methods: [GET], paths: ["/reports/**"], scopes: ["reports:read"] }}
          effect: allow
"#
    )
}

/// Prints what to try.
pub(super) fn print(folder: &Path, addresses: &Announcement) {
    // A reader that closed the output does not want the text.
    let _ = std::io::stdout().write_all(text(folder, addresses).as_bytes());
}

fn text(folder: &Path, addresses: &Announcement) -> String {
    let folder = folder.display();
    let http = addresses.http.map(|http| http.to_string()).unwrap_or_default();
    let (grpc, admin) = (addresses.grpc, addresses.admin);
    let status = "curl -s -o /dev/null -w '%{http_code}\\n'";
    let bearer = |file: &str| format!("-H \"Authorization: Bearer $(cat {folder}/{file})\"");
    let (alice, bob, operator) = (bearer("alice.jwt"), bearer("bob.jwt"), bearer("admin.token"));
    let ask = format!("{status} http://{http}/reports/2026");
    let swap = |file: &str| {
        format!(
            "cp {folder}/{file} {folder}/policy.wasm && {status} -X POST {operator} \
             http://{admin}/v1/policies/reload"
        )
    };
    let steps = [
        ("Without a token, the request is refused:", ask.clone(), "401"),
        ("Alice may read reports:", format!("{ask} {alice}"), "200"),
        ("She may not delete them; the policy says so:", format!("{ask} {alice} -X DELETE"), "403"),
        (
            "Alice logs out. Her token is revoked from the next request on:",
            format!(
                "{status} -X POST {operator} --data @{folder}/revoke-alice.json \
                 http://{admin}/v1/revocations"
            ),
            "201",
        ),
        ("So she is refused, although her token has not expired:", format!("{ask} {alice}"), "403"),
        ("Bob is not affected:", format!("{ask} {bob}"), "200"),
        (
            "Now another policy is swapped in, while requests are served:",
            swap("maintenance.wasm"),
            "200",
        ),
        (
            "It closes everything, and says why:",
            format!("curl -s http://{http}/reports/2026 {bob}"),
            "Down for maintenance, back in a minute.",
        ),
        ("And back again:", swap("rules.wasm"), "200"),
        ("Bob reads on:", format!("{ask} {bob}"), "200"),
    ];
    let mut text = format!(
        "\nPortcullis is ready: Envoy asks {grpc}, curl asks http://{http}, operators ask \
         http://{admin}.\nIts configuration is {folder}/portcullis.yaml. Stop it with Ctrl-C. \
         Paste these into another terminal:\n\n"
    );
    for (story, command, outcome) in steps {
        text.extend([story, "\n$ ", &command, "\n# ", outcome, "\n\n"]);
    }
    text
}
