//! Tests of how requests are read: which hosts, methods and paths are refused because they have
//! several readings, and how the settings for ports, dots, case, slashes and tolerances change
//! that.

use serde_json::json;

use crate::{
    check::{Ask, Client},
    process::Service,
    routes::{finds, telling, telling_with},
};

/// Checks status and reason of a deny for each.
async fn refused(service: &Service, table: &[(Ask, i32, &str)]) {
    let client = Client::connect(service.addresses.grpc).await;
    for (ask, status, reason) in table {
        let answer = client.ask(ask).await;
        let found = (answer.allowed, answer.status, answer.reason.as_str());
        assert_eq!(found, (false, *status, *reason), "{ask:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_a_method_or_a_path_without_one_reading_is_refused() {
    let service = telling(&[("admin", json!({"hosts": ["admin.test"]})), ("all", json!({}))]);
    let host = |host| Ask::get("/").host(host);
    let mut table = Vec::new();
    for malformed in [
        "",
        "admin.test:",
        "admin.test:abc",
        "admin.test:443x",
        "admin.test:0",
        "admin.test:99999",
        "user@admin.test",
        "admin.test,other.test",
        "admin%2etest",
        "admin..test",
        "::1",
        "127.1",
        "0x7f000001",
        "admin.test/x",
        "[::1",
        "ädmin.test",
    ] {
        table.push((host(malformed), 400, "malformed_request"));
        // By name too.
        table.push((host(malformed).context("route", "admin"), 400, "malformed_request"));
    }
    for method in ["", "delete", "Delete", "GET,POST", "GET "] {
        table.push((host("admin.test").method(method), 400, "malformed_request"));
    }
    for path in ["//admin/x", "/a//b", "/a%ZZ", "/%E9", "/a b", "/a/../b"] {
        table.push((Ask::get(path), 400, "ambiguous_path"));
    }
    let long = format!("/{}", "a".repeat(8 * 1024));
    table.push((Ask::get(&long), 413, "request_too_large"));
    for ambiguous in ["admin.test:8443", "admin.test.", "ADMIN.test.:80", "other.test."] {
        table.push((host(ambiguous), 400, "ambiguous_host"));
    }
    refused(&service, &table).await;
    // Neither a port that makes no difference nor a long query counts.
    let query = format!("/?{}", "a".repeat(30_000));
    let found = [
        (host("other.test:8443"), Some("all")),
        (Ask::get(&query).host("other.test"), Some("all")),
    ];
    finds(&service, &found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_refused_where_other_hosts_have_routes_and_not_with_a_single_site() {
    let several = telling(&[
        ("public", json!({"hosts": ["public.test"], "paths": ["/a", "/b"]})),
        ("admin", json!({"hosts": ["admin.test"], "paths": ["/a"]})),
    ]);
    let get = |path| Ask::get(path).host("public.test:8443");
    // A proxy that compares ports may take it to the site of `admin.test`.
    refused(&several, &[(get("/a"), 400, "ambiguous_host")]).await;
    finds(&several, &[(get("/b"), Some("public")), (get("/c"), None)]).await;
    let single = telling(&[
        ("health", json!({"paths": ["/health"]})),
        ("api", json!({"hosts": ["api.test", "*.api.test"]})),
    ]);
    let get = |host, path| Ask::get(path).host(host);
    let table = [
        (get("api.test:8443", "/a"), Some("api")),
        (get("v1.api.test:8443", "/a"), Some("api")),
        (get("api.test:8443", "/health"), Some("health")),
        (get("other.test:8443", "/a"), None),
    ];
    finds(&single, &table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_and_dots_count_as_the_settings_say() {
    let routes =
        [("admin", json!({"hosts": ["admin.test", "münchen.example"]})), ("all", json!({}))];
    let get = |host| Ask::get("/").host(host);
    let ignoring = telling_with(&routes, |config| {
        config["hosts"] = json!({"port": "ignore", "trailing_dot": "ignore"});
    });
    let table = [
        (get("admin.test:8443"), Some("admin")),
        (get("admin.test.:8443"), Some("admin")),
        (get("XN--MNCHEN-3YA.example"), Some("admin")),
        (get("other.test:8443"), Some("all")),
    ];
    finds(&ignoring, &table).await;
    let with_port = ("port", json!({"hosts": ["admin.test:8443"]}));
    let matching = telling_with(&[with_port, routes[0].clone(), routes[1].clone()], |config| {
        config["hosts"] = json!({"port": "match"});
    });
    let table = [
        (get("ADMIN.test:8443"), Some("port")),
        (get("admin.test"), Some("admin")),
        (get("admin.test:80"), Some("all")),
    ];
    finds(&matching, &table).await;
    // A policy sees the host alone.
    let client = Client::connect(matching.addresses.grpc).await;
    assert_eq!(client.ask(&get("ADMIN.test:8443")).await.seen()["host"], "admin.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_and_the_slash_at_the_end_count_as_the_settings_say() {
    let routes = [
        ("admin", json!({"paths": ["/Admin/*"], "not_paths": ["/admin/public"]})),
        ("login", json!({"paths": ["/login"]})),
        ("all", json!({})),
    ];
    let table = |routes: [&'static str; 7]| {
        let paths =
            ["/Admin/x", "/admin/x", "/Admin", "/Admin/", "/ADMIN/public/", "/login/", "/admin"];
        let asked = |(path, route)| (Ask::get(path), Some(route));
        paths.into_iter().zip(routes).map(asked).collect::<Vec<_>>()
    };
    let default = telling(&routes);
    finds(&default, &table(["admin", "all", "admin", "admin", "all", "login", "all"])).await;
    let folding = telling_with(&routes, |config| config["paths"] = json!({"ignore_case": true}));
    finds(&folding, &table(["admin", "admin", "admin", "admin", "all", "login", "admin"])).await;
    let distinct =
        telling_with(&routes, |config| config["paths"] = json!({"trailing_slash": "distinct"}));
    finds(&distinct, &table(["admin", "all", "all", "admin", "all", "all", "all"])).await;
    // A policy sees what is compared.
    for (service, path) in [(&default, "/Admin"), (&folding, "/admin"), (&distinct, "/Admin/")] {
        let client = Client::connect(service.addresses.grpc).await;
        assert_eq!(client.ask(&Ask::get("/Admin/")).await.seen()["path"], path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tolerated_path_is_found_in_its_canonical_form() {
    let routes = [
        ("slash", json!({"paths": ["/repos/group%2Fproject"]})),
        ("bytes", json!({"paths": ["/caf%E9"]})),
        ("all", json!({})),
    ];
    let service = telling_with(&routes, |config| {
        let tolerate =
            ["encoded_slash", "double_encoding", "incomplete_escape", "not_utf8", "empty_segments"];
        config["paths"] = json!({"tolerate": tolerate});
    });
    let table = [
        (Ask::get("/repos/group%2fproject"), Some("slash")),
        (Ask::get("//repos//group%2Fproject/"), Some("slash")),
        (Ask::get("/repos/group%252Fproject"), Some("all")),
        (Ask::get("/repos/group/project"), Some("all")),
        (Ask::get("/caf%e9"), Some("bytes")),
        (Ask::get("/caf%C3%A9"), Some("all")),
        (Ask::get("/100%"), Some("all")),
    ];
    finds(&service, &table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_tolerates_what_comes_after_the_part_that_decides_on_it() {
    let service = telling(&[
        ("admin", json!({"paths": ["/admin/*", "/files/admin/*"]})),
        (
            "repos",
            json!({
                "paths": ["/repos/*"], "not_paths": ["/repos/secret/*"], "methods": ["GET"],
                "tolerate": ["encoded_slash", "semicolon"],
            }),
        ),
        ("files", json!({"paths": ["/files/*"], "tolerate": ["encoded_slash"]})),
        ("all", json!({})),
    ]);
    let get = Ask::get;
    let table = [
        (get("/repos/a/group%2Fproject"), Some("repos")),
        (get("/repos/a/x;v=1/b?c=%2F"), Some("repos")),
        (get("/repos/a/..%2f..%2fadmin"), Some("repos")),
        (get("/files/a/b%2Fc"), Some("files")),
        (get("/repos/secret/x"), Some("all")),
    ];
    finds(&service, &table).await;
    let ambiguous = [
        // Not tolerated by this route, or by none.
        get("/files/a/x;v=1"),
        get("/other/a%2Fb"),
        get("/repos/a%252Fb"),
        get("/repos/a//b%2Fc"),
        // Another reading would belong to another route.
        get("/repos/a%2Fb"),
        get("/repos/secret%2Fx"),
        get("/files/admin%2Fx"),
        get("/files%2Fa/b"),
        get("/repos;v=1/a"),
        get("/%2Frepos/a"),
        get("/repos/a/b%2Fc").method("POST"),
    ];
    let table: Vec<_> = ambiguous.into_iter().map(|ask| (ask, 400, "ambiguous_path")).collect();
    refused(&service, &table).await;
}
