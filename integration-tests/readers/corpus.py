#!/usr/bin/env python3
# Writes corpus.json: the request targets, hosts, methods and header names that each reader is tested with.
#
# A character represents a byte (Latin-1). Add lines here, then run `./generate`.
import json
import pathlib

TARGETS = [
    "/", "/a", "/admin", "/admin/", "/admin/users", "/admin/users/", "/exact", "/exact/", "/public/a",
    "/public/admin/users", "/ADMIN/users", "/Admin", "/EXACT", "/Exact/", "/admin/USERS",
    # Several slashes.
    "//", "///", "//a", "//admin", "//admin/users", "///admin/users", "//public/admin/users",
    "//public", "/admin//users", "/admin///users", "/admin/users//", "//admin//users//", "/public//admin",
    "//a:80/admin", "//a@b/admin", "//[::1]/admin", "//a b/admin", "/ /admin",
    # Absolute form and others.
    "http://admin.test/admin", "http://admin.test", "http://admin.test/admin/users?x=1", "https://x/admin",
    "HTTP://x/admin", "ftp://x/admin", "admin", "admin/users", "*", "?", "?x=/admin", "#", "x:/admin",
    "admin.test:80", "/http://x/admin", "http:/admin", "http:admin", "http:///admin",
    # Dot segments.
    "/.", "/..", "/./admin", "/../admin", "/a/.", "/a/..", "/a/./b", "/a/../b", "/a/../../b", "/a/b/../../c",
    "/public/../admin", "/public/../admin/users", "/public/./../admin/users", "/a/.b", "/a/..b", "/a/b.",
    "/a/b..", "/a/...", "/.../admin", "/a/.../b", "/%2e", "/%2e%2e", "/%2E/admin", "/%2e%2e/admin",
    "/public/%2e%2e/admin", "/public/.%2e/admin", "/public/%2e./admin", "/a/%2e/b", "/a/%2e", "/a/b/%2e%2e",
    "//..//admin", "/a//../b", "/a/..//b", "/a/b/..", "/a/b/../",
    # Encoded separators.
    "/a%2fb", "/a%2Fb", "/%2fadmin", "/%2Fadmin", "/admin%2f", "/admin%2fusers", "/public%2fadmin",
    "/public%2f..%2fadmin", "/a%5cb", "/a%5Cb", "/%5cadmin", "/a\\b", "\\admin", "/\\admin", "\\\\a\\admin",
    "/\\a/admin", "/admin\\users", "/public\\..\\admin", "/public/..\\admin", "/public/..%5cadmin",
    "/admin%5cusers", "/a%c0%afb", "/a%u002fb", "/a%252fb", "/a%252Fb", "/%252e%252e/admin", "/%25%32%65",
    # Ordinary escapes, and broken ones.
    "/%61dmin", "/%61dmin/users", "/%41dmin", "/admin/%75sers", "/adm%69n", "/a%20b", "/a%25", "/a%25b",
    "/a%2541", "/a%3fb", "/a%3Fb?c", "/a%23b", "/a%26b", "/a%2bb", "/a+b", "/a%40b", "/a%3ab", "/a%7eb",
    "/a~b", "/a%2db", "/a%5fb", "/a%21b", "/a%27b", "/a%28b", "/a%2ab", "/a%2cb", "/a%3db", "/a%24b", "/a%7cb",
    "/%", "/a%", "/a%2", "/a%zz", "/a%2z", "/a%%", "/a%%20", "/a%\xe9", "/a%b/c", "/100%", "/100%/a",
    "/%00", "/a%00b", "/admin%00", "/admin%00.txt", "/a%01", "/a%09b", "/admin%09", "/a%0ab", "/a%0d%0ab", "/a%1fb",
    "/a%7fb", "/%20admin", "/admin%20", "/a%80b", "/a%ffb", "/a%e9b", "/caf%c3%a9", "/caf%C3%A9", "/a%c3", "/a%ed%a0%80",
    "/a%f0%9f%98%80", "/a%ef%bb%bf", "/a%ef%bc%8fb", "/a%e2%80%aeb", "/adm%c4%b1n", "/%ef%bd%81dmin",
    # Bytes outside ASCII, plain.
    "/caf\xc3\xa9", "/caf\xc3\x89", "/a\xff", "/a\xe9b", "/\xe9", "/a\xef\xbc\x8fb", "/a\x80", "/a\xa0b", "/a\x85b",
    # Semicolons.
    "/admin;x=1", "/admin;x=1/users", "/admin;/users", "/admin/;x/users", "/admin/users;", "/;x/admin", "/;/admin",
    "/;admin", "/admin;jsessionid=1?x", "/admin%3bx", "/admin%3Bx/users", "/public/..;/admin", "/public/..;x/admin",
    "/public/.;/admin", "/public/%2e%2e;/admin", "/a;b;c/d", "/a;b=c,d", "/admin;%2f", "/admin;..", "/a/;/b",
    # Query and fragment.
    "/admin?", "/admin?x", "/admin?x=/../a", "/admin/?x", "/admin?x#y", "/admin#x", "/admin/#", "/#/admin", "/public#/../admin",
    "/admin??x", "/a?b?c", "/a&b", "/a=b", "/a?x=%zz", "/a?%2e%2e", "/admin%3f", "/admin%23x",
    # Characters that some readers refuse, and some change.
    "/a\"b", "/a<b", "/a>b", "/a^b", "/a`b", "/a{b}", "/a|b", "/a[b]", "/a'b", "/a!b", "/a$b", "/a*b", "/a(b)",
    "/a,b", "/a:b", "/a@b", "/a=b/c", "/a&b/c", "/:admin", "/@admin", "/*", "/a\tb", "/\tadmin", "/a\x01b", "/a\x0bb",
    "/a\x0cb", "/a\x7fb", "/a\x00b", "/_/a", "/a_b", "/a-b", "/a.b", "/a.html", "/admin.json", "/admin.", "/admin..",
    # Long ones.
    "/" + "a/" * 40, "/" + "a" * 300, "/" + "../" * 30 + "admin", "/" * 40 + "admin",
]

# Variations around a protected name, crossed, because two together may be read differently than one.
BEFORE = ["", "/", "/.", "/..", "/;x", "/\\", "/public/..", "/%2e", "/a/%2e%2e", "/a%2f..", "/x;y/.."]
NAMES = ["admin/users", "ADMIN/users", "%61dmin/users", "admin", "exact", "admin//users", "admin%2fusers", "admin;a/users"]
AFTER = ["", "/", "//", ";", ";x=1", "/.", "/..", "?q", "#f", "%20", "%00", "%2f", "/;", "\\"]

HOSTS = [
    "admin.test", "api.test", "named.test", "other.test", "localhost", "Admin.Test", "ADMIN.TEST", "aDmIn.tEsT",
    "admin.test:80", "admin.test:443", "admin.test:8443", "admin.test:", "admin.test:0", "admin.test:080",
    "admin.test:00080", "admin.test:65535", "admin.test:65536", "admin.test:99999", "admin.test:999999999999",
    "admin.test:abc", "admin.test:443x", "admin.test:x443", "admin.test:-1", "admin.test:+80", "admin.test:8 0",
    "admin.test: 80", "admin.test :80", "admin.test:80:80", "admin.test::80", "admin.test:80:", "admin.test:\xe9",
    "admin.test:8%30", "admin.test:http", "admin.test:80.", "admin.test:80/", "ADMIN.TEST:8443",
    "admin.test.", "admin.test..", ".admin.test", "admin..test", "admin.test.:80", "ADMIN.TEST.", ".", "..", "a.b.c.admin.test",
    "user@admin.test", "user:pw@admin.test", "@admin.test", "admin.test@", "admin.test@other.test", "a@b@admin.test",
    "user@admin.test:80", "admin.test:80@other.test", "user%40admin.test",
    "admin.test,other.test", "admin.test, other.test", "other.test,admin.test", "admin.test,", ",admin.test", ",",
    "admin.test;", "admin.test;x", "admin.test/", "admin.test/x", "/admin.test", "admin.test?", "admin.test?x", "admin.test#x",
    "admin.test\\", "admin.test\\x", "\\admin.test", "admin.test/../other", "http://admin.test", "//admin.test",
    "%61dmin.test", "admin%2etest", "admin.test%00", "admin.test%20", "admin%2Etest", "%", "admin.test%", "admin%.test", "admin.test%3a80",
    "127.0.0.1", "127.0.0.1:80", "127.1", "127.0.1", "0x7f.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001",
    "0177.0.0.1", "127.0.0.01", "127.0.0.256", "256.0.0.1", "1.2.3.4.5", "127.0.0.1.", "0", "1", "0x", "1e3", "127.0.0.1:abc",
    "[::1]", "[::1]:80", "[::1]:", "[::1]:abc", "[::1]x", "[::1", "::1", "::1:80", "[0:0:0:0:0:0:0:1]", "[0000::0001]",
    "[::FFFF:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[v1.x]", "[]", "[]:80", "[admin.test]",
    "[admin.test]:80", "[::1].", "x[::1]", "[::1]]", "a]b", "a[b",
    "xn--mnchen-3ya.example", "XN--MNCHEN-3YA.example", "m\xc3\xbcnchen.example", "M\xc3\x9cNCHEN.example", "m\xfcnchen.example",
    "xn--", "xn--a", "xn--zz-", "xn--admin-", "\xef\xbd\x81dmin.test", "admin\xe3\x80\x82test", "ad\xc2\xadmin.test",
    "stra\xc3\x9fe.test", "xn--strae-oqa.test", "strasse.test", "adm\xc4\xb1n.test",
    "_x.admin.test", "admin_test", "-admin.test", "admin-.test", "a--b.test", "admin!test", "admin$test", "admin&test",
    "admin'test", "admin(test", "admin*test", "*.test", "admin+test", "admin=test", "admin~test", "admin|test", "admin^test",
    "admin`test", "admin{test", "admin\"test", "admin<test", "admin>test", "admin test", "admin\ttest", " admin.test", "admin.test ",
    "admin.test\x01", "admin\x7ftest", "a" * 64 + ".test", "a" * 260, "admin.test:80,other.test:80",
]

METHODS = [
    "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PURGE", "PROPFIND", "QUERY", "FOO",
    "get", "post", "put", "delete", "patch", "head", "options", "Delete", "dELETE", "DELETe", "Post", "foo", "Foo",
    "X-FOO", "DELETE!", "DEL_ETE", "DELETE.", "DELETE1", "1", "-", "A", "a", "DELETE,GET", "DEL\xc9TE", "\"DELETE\"", "DELETE;",
]

# Sent with the value `v`.
HEADERS = [
    "x-user-id", "X-User-Id", "X-USER-ID", "x_user_id", "X_User_Id", "X_USER_ID", "x-user_id", "x_user-id", "X-User_Id",
    "x.user.id", "x user-id", "x-user-id ", "x-user-id_", "x--user-id", "x-user--id", "x__user_id", "http_x_user_id",
    "http-x-user-id", "HTTP_X_USER_ID", "x-userid", "xuserid", "x-user-id!", "x~user~id", "x'user'id", "x+user+id", "x-user-\xefd",
    "x-http-method-override", "x_http_method_override", "X_HTTP_Method_Override", "x-original-url", "x_original_url",
    "x-rewrite-url", "x-roles", "x_roles",
]


def without_repeats(lines):
    return list(dict.fromkeys(lines))


targets = list(TARGETS)
for before in BEFORE:
    for name in NAMES:
        for after in AFTER:
            # Every pair of variations, not every triple.
            if before in ("", "/", "/public/..") or after in ("", "/") or name == "admin/users":
                targets.append(f"{before}/{name}{after}")

corpus = {
    "targets": without_repeats(targets),
    "hosts": without_repeats(HOSTS),
    "methods": without_repeats(METHODS),
    "headers": without_repeats(HEADERS),
}
folder = pathlib.Path(__file__).parent
lines = []
for part, values in corpus.items():
    body = ",\n".join("    " + json.dumps(value) for value in values)
    lines.append(f"  {json.dumps(part)}: [\n{body}\n  ]")
(folder / "corpus.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
print({part: len(values) for part, values in corpus.items()})
