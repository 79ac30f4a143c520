//! Generator of random requests: a few base requests, and mutations that make one look like
//! another.
//!
//! Most differ from a base request in one or two ways, so that many pairs are close to each other.

use portcullis_integration_tests::wire::{RawRequest, Version};

use super::random::Random;

/// Headers that override the method, target or host in some frameworks.
const OVERRIDES: [&str; 8] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-http-host-override",
    "x-host",
];

/// Paths of each route, and some that hold another.
const PATHS: [&str; 13] = [
    "/",
    "/public/a",
    "/public/b.txt",
    "/public/admin/users",
    "/admin",
    "/admin/users",
    "/admin/users/7",
    "/exact",
    "/exactly",
    "/administrator",
    "/a/admin/users",
    "/a/exact",
    "/a/b",
];
/// Paths under the routes of virtual hosts.
const HOST_PATHS: [&str; 2] = ["/named/x", "/guarded/x"];
/// Hosts with their own route, and others.
pub(super) const HOSTS: [&str; 9] = [
    "api.test",
    "api.test",
    "admin.test",
    "named.test",
    "127.0.0.1",
    "[::1]",
    "xn--mnchen-3ya.example",
    "localhost",
    "a.admin.test",
];
const METHODS: [&str; 10] =
    ["GET", "GET", "GET", "GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"];

/// The header among these that `name` means, in any spelling.
pub(super) fn overridden_by(name: &[u8]) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().escape_ascii().to_string().replace('_', "-");
    OVERRIDES.into_iter().find(|known| *known == name)
}

/// A request whose path, host, method and headers vary.
pub(super) fn request(random: &mut Random) -> RawRequest {
    let mut path = random.one(&PATHS).as_bytes().to_vec();
    let mut authority = random.one(&HOSTS).as_bytes().to_vec();
    let mut method = random.one(&METHODS).as_bytes().to_vec();
    let mut headers = Vec::new();
    for _ in 0..[0, 1, 1, 1, 2, 2, 3][random.below(7)] {
        match random.below(10) {
            0..=5 => change_path(random, &mut path),
            6 | 7 => change_host(random, &mut authority),
            8 => change_method(random, &mut method),
            _ => add_header(random, &mut headers),
        }
    }
    if random.once_in(20) {
        make_preflight(random, &mut method, &mut headers);
    }
    let version = version(random);
    RawRequest { version, method, target: path, authority, headers }
}

/// A request of which only the host varies.
pub(super) fn request_for_host(random: &mut Random) -> RawRequest {
    let target = random.one(&HOST_PATHS).as_bytes().to_vec();
    let mut authority = random.one(&HOSTS).as_bytes().to_vec();
    for _ in 0..[0, 1, 1, 1, 2][random.below(5)] {
        change_host(random, &mut authority);
    }
    let method = b"GET".to_vec();
    RawRequest { version: version(random), method, target, authority, headers: Vec::new() }
}

fn version(random: &mut Random) -> Version {
    random.one(&[Version::Http1, Version::Http2])
}

fn insert(text: &mut Vec<u8>, at: usize, piece: &[u8]) {
    text.splice(at..at, piece.iter().copied());
}

/// A place before or after each slash, or at the end.
fn near_slash(random: &mut Random, text: &[u8]) -> usize {
    let slashes: Vec<_> = (0..text.len()).filter(|at| text[*at] == b'/').collect();
    if slashes.is_empty() || random.once_in(4) {
        return text.len();
    }
    random.one(&slashes) + random.below(2)
}

fn change_path(random: &mut Random, path: &mut Vec<u8>) {
    const SEPARATORS: [&[u8]; 9] =
        [b"//", b"///", b"%2f", b"%2F", b"%5c", b"\\", b"/\\", b"%252f", b"%c0%af"];
    const PIECES: [&[u8]; 32] = [
        b"/",
        b"//",
        b"/.",
        b"/..",
        b"/./",
        b"/x/..",
        b"/%2e",
        b"/%2e%2e",
        b"/.%2e",
        b"/%2E/",
        b".",
        b";",
        b";x=1",
        b"/;",
        b"/;x",
        b"..;/",
        b"%00",
        b"%",
        b"%zz",
        b"%0a",
        b"%20",
        b"%09",
        b"%25",
        b"%ff",
        b"\xff",
        b"\xc3\xa9",
        b"%c3%a9",
        b"\xef\xbc\x8f",
        b"+",
        b"\t",
        b"%u002f",
        b":80",
    ];
    const PREFIXES: [&[u8]; 14] = [
        b"/",
        b"//",
        b"\\",
        b"/\\",
        b"/.",
        b"/..",
        b"//api.test",
        b"//public",
        b"/public/..",
        b"/public/%2e%2e",
        b"http://admin.test",
        b"/http:/",
        b"/%2f",
        b"/;",
    ];
    const SUFFIXES: [&[u8]; 12] = [
        b"/",
        b"//",
        b"/.",
        b"/..",
        b"?",
        b"?x=1",
        b"?x=/admin",
        b"#x",
        b";",
        b";/",
        b"%2f",
        b"?/../admin",
    ];
    let at = near_slash(random, path);
    match random.below(8) {
        0 => insert(path, at, random.one(&PIECES)),
        1 => insert(path, 0, random.one(&PREFIXES)),
        2 => path.extend_from_slice(random.one(&SUFFIXES)),
        3 if path.get(at) == Some(&b'/') => {
            path.splice(at..=at, random.one(&SEPARATORS).iter().copied());
        }
        4 => encode_one(random, path),
        5 => change_case(random, path),
        6 if random.once_in(6) => {
            let long = [&b"a"[..], b"a/", b"/", b"../"][random.below(4)].repeat(3_000);
            insert(path, at, &long);
        }
        _ => insert(path, at, random.one(&[&b"/"[..], b"//"])),
    }
}

/// Writes one character as an escape, sometimes twice.
fn encode_one(random: &mut Random, text: &mut Vec<u8>) {
    let at = random.below(text.len());
    let byte = text[at];
    let escape = match random.below(4) {
        0 => format!("%{byte:02X}"),
        1 => format!("%25{byte:02x}"),
        _ => format!("%{byte:02x}"),
    };
    text.splice(at..=at, escape.bytes());
}

fn change_case(random: &mut Random, text: &mut [u8]) {
    if random.once_in(2) {
        text.make_ascii_uppercase();
    } else {
        let at = random.below(text.len());
        text[at..=at].make_ascii_uppercase();
    }
}

fn change_host(random: &mut Random, host: &mut Vec<u8>) {
    const SUFFIXES: [&[u8]; 38] = [
        b":80",
        b":443",
        b":8443",
        b":",
        b":0",
        b":080",
        b":65536",
        b":99999",
        b":abc",
        b":443x",
        b":x",
        b":-1",
        b":+80",
        b":80:80",
        b"::80",
        b":8 0",
        b":80.",
        b".",
        b"..",
        b".:80",
        b",other.test",
        b", other.test",
        b",",
        b"@other.test",
        b"@",
        b"/",
        b"/x",
        b"?x",
        b"#x",
        b"\\",
        b";",
        b"%00",
        b"%2e",
        b"%20",
        b" ",
        b"\t",
        b"\xe9",
        b":80,admin.test",
    ];
    const PREFIXES: [&[u8]; 12] = [
        b"user@",
        b"user:pw@",
        b"@",
        b".",
        b"other.test,",
        b"other.test@",
        b"*.",
        b"_x.",
        b"http://",
        b"//",
        b"%",
        b"\\",
    ];
    const OTHERS: [&[u8]; 30] = [
        b"127.1",
        b"0x7f.1",
        b"0x7f000001",
        b"2130706433",
        b"017700000001",
        b"0177.0.0.1",
        b"127.0.0.01",
        b"127.0.0.1.",
        b"[0:0:0:0:0:0:0:1]",
        b"[0000::0001]",
        b"[::0:1]",
        b"[::1",
        b"::1",
        b"[::1]x",
        b"[::1%25lo]",
        b"[::ffff:127.0.0.1]",
        b"[admin.test]",
        b"[]",
        b"",
        b"XN--MNCHEN-3YA.example",
        b"m\xc3\xbcnchen.example",
        b"M\xc3\x9cNCHEN.example",
        b"\xef\xbd\x81dmin.test",
        b"admin\xe3\x80\x82test",
        b"ad\xc2\xadmin.test",
        b"%61dmin.test",
        b"admin%2etest",
        b"admin_test",
        b"admin.test admin.test",
        b"admin.test\x01",
    ];
    match random.below(8) {
        0..=3 => host.extend_from_slice(random.one(&SUFFIXES)),
        4 => insert(host, 0, random.one(&PREFIXES)),
        5 if !host.is_empty() => change_case(random, host),
        6 if !host.is_empty() => encode_one(random, host),
        _ => *host = random.one(&OTHERS).to_vec(),
    }
}

fn change_method(random: &mut Random, method: &mut Vec<u8>) {
    const OTHERS: [&str; 14] = [
        "delete", "post", "put", "get", "Delete", "dELETE", "POSt", "PURGE", "QUERY", "TRACE",
        "DELETE!", "X-DELETE", "DEL_ETE", "options",
    ];
    *method = random.one(&OTHERS).as_bytes().to_vec();
}

/// Makes it a CORS preflight, or something that only resembles one.
fn make_preflight(
    random: &mut Random,
    method: &mut Vec<u8>,
    headers: &mut Vec<(Vec<u8>, Vec<u8>)>,
) {
    *method = b"OPTIONS".to_vec();
    for (name, values) in [
        ("origin", ["https://app.test", "", "null", "x"]),
        ("access-control-request-method", ["GET", "DELETE", "", "delete"]),
    ] {
        headers.push((name.as_bytes().to_vec(), random.one(&values).as_bytes().to_vec()));
    }
}

fn add_header(random: &mut Random, headers: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    const USER: [&str; 12] = [
        "x-user-id",
        "X-User-Id",
        "X-USER-ID",
        "x_user_id",
        "X_User_Id",
        "x-user_id",
        "x_user-id",
        "X_USER_ID",
        "x.user.id",
        "x-user-id_",
        "x--user-id",
        "http_x_user_id",
    ];
    let mut add = |name: &str, value: &str| {
        headers.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    };
    match random.below(8) {
        0..=2 => {
            add(random.one(&USER), "root");
            if random.once_in(3) {
                add(random.one(&USER), "admin");
            }
        }
        3 | 4 => {
            let name = random.one(&OVERRIDES);
            let name = if random.once_in(3) { name.replace('-', "_") } else { name.to_owned() };
            let value = match name.as_str() {
                name if name.contains("method") => "DELETE",
                name if name.contains("host") => "admin.test",
                _ => "/admin/users",
            };
            add(&name, value);
        }
        5 | 6 => add("connection", random.one(&["keep-alive, x-user-id", "x-user-id"])),
        _ => add("host", random.one(&HOSTS)),
    }
}
