//! Attacks of a policy on requests: each denies the request that it happens to, in time, and harms
//! no other.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    check::{Answer, Ask, Client, token},
    process::{Folder, Service, component},
};

/// More than the deadline of a route by what a busy machine may take to notice.
const AT_MOST: Duration = Duration::from_secs(30);
/// The same for the quickest of a few answers.
const QUICKEST: Duration = Duration::from_secs(10);
/// Far above `policy_host.output_limit_bytes`.
const HUGE: usize = 4 << 20;

/// A service with one route for everything, whose policy makes this attack below `/attack`.
fn attacked_by(attack: &str, change: impl FnOnce(&mut Value)) -> Service {
    let folder = Folder::new();
    let settings = json!({"attack": attack, "size": HUGE});
    let mut config = folder.config_with_policy(&component("hostile_guest"), &settings);
    change(&mut config);
    Service::start(folder, &config)
}

/// Suffers the attack a few times, with a harmless request after each, and returns its last answer.
pub(crate) async fn suffer(service: &Service) -> Answer {
    let client = Client::connect(service.addresses.grpc).await;
    let (mut last, mut quickest) = (Answer::default(), AT_MOST);
    for _ in 0..3 {
        let begin = Instant::now();
        last = client.ask(&Ask::get("/attack")).await;
        let took = begin.elapsed();
        assert!(took < AT_MOST, "the answer took {took:?}");
        quickest = quickest.min(took);
        let next = client.ask(&Ask::get("/harmless")).await;
        assert!(next.allowed, "the next request suffers too: {next:?}");
    }
    assert!(quickest < QUICKEST, "each answer took {quickest:?} or longer");
    last
}

/// Each attack is denied as a fault on the server's side, for `reason`.
async fn is_denied(attack: &str, reason: &str) {
    let service = attacked_by(attack, |config| {
        if attack == "spin" {
            config["routes"][0]["deadline"] = json!("1s");
        }
    });
    let answer = suffer(&service).await;
    assert!(!answer.allowed, "{answer:?}");
    assert_eq!((answer.status, answer.reason.as_str()), (500, reason));
    assert_eq!(answer.body, "internal authorization error", "clients learn nothing of it");
    assert!(answer.response_headers.is_empty(), "{answer:?}");
}

macro_rules! denied {
    ($($test:ident: $attack:literal => $reason:literal,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                is_denied($attack, $reason).await;
            }
        )*
    };
}

denied! {
    a_policy_that_never_answers_is_denied_in_time: "spin" => "policy_timeout",
    a_policy_that_takes_all_memory_is_denied: "grow_memory" => "policy_failed",
    a_policy_that_overflows_its_stack_is_denied: "recurse" => "policy_failed",
    a_policy_that_panics_is_denied: "panic" => "policy_failed",
    an_error_of_the_policy_is_denied: "error" => "policy_failed",
    a_huge_error_is_denied: "huge_error" => "policy_failed",
    a_huge_body_is_denied: "huge_reply" => "policy_failed",
    a_huge_list_of_headers_is_denied: "huge_list" => "policy_failed",
    a_huge_header_is_denied: "huge_header" => "policy_failed",
    a_status_that_does_not_exist_is_denied: "bad_status" => "unsafe_decision",
    a_status_of_zero_is_denied: "zero_status" => "unsafe_decision",
    an_informational_status_is_denied: "informational_status" => "unsafe_decision",
    a_header_name_that_is_none_is_denied: "bad_header" => "unsafe_decision",
    an_empty_header_name_is_denied: "empty_header_name" => "unsafe_decision",
    a_line_break_in_a_header_is_denied: "crlf_header" => "unsafe_decision",
    a_nul_in_a_header_is_denied: "nul_header" => "unsafe_decision",
    a_pseudo_header_is_denied: "pseudo_header" => "unsafe_decision",
    another_host_is_denied: "host_header" => "unsafe_decision",
    removing_the_host_is_denied: "remove_host" => "unsafe_decision",
    another_framing_is_denied: "hop_by_hop_header" => "unsafe_decision",
    a_header_of_envoys_is_denied: "envoy_header" => "unsafe_decision",
    the_removal_of_a_header_of_envoys_is_denied: "remove_envoy_header" => "unsafe_decision",
    a_line_break_in_a_response_header_is_denied: "crlf_response_header" => "unsafe_decision",
    a_line_break_in_a_header_of_a_deny_is_denied: "crlf_deny_header" => "unsafe_decision",
    a_line_break_in_a_query_is_denied: "query_injection" => "unsafe_decision",
    a_blank_before_a_value_is_denied: "blank_header" => "unsafe_decision",
    two_headers_that_servers_take_for_one_are_denied: "alike_headers" => "unsafe_decision",
    a_header_of_the_protocol_is_denied: "protocol_header" => "unsafe_decision",
    a_header_of_the_protocol_on_a_deny_is_denied: "protocol_header_of_deny" => "unsafe_decision",
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_policy_spins_others_are_answered() {
    let service = attacked_by("spin", |config| config["routes"][0]["deadline"] = json!("2s"));
    let attacker = Client::connect(service.addresses.grpc).await;
    let client = Client::connect(service.addresses.grpc).await;
    let mut numbers: Vec<u32> = Vec::new();
    // Hundreds, on an idle machine. A busy one may disturb some of the attacks.
    while numbers.iter().filter(|number| **number >= 20).count() < 2 {
        assert!(numbers.len() < 10, "others were answered in the time of the attacks: {numbers:?}");
        let (attack, harmless) = (Ask::get("/attack"), Ask::get("/harmless"));
        let mut attack = pin!(attacker.ask(&attack));
        let mut answered = 0;
        let denied = loop {
            tokio::select! {
                denied = &mut attack => break denied,
                answer = client.ask(&harmless) => {
                    assert!(answer.allowed, "{answer:?}");
                    answered += 1;
                }
            }
        };
        assert_eq!(denied.reason, "policy_timeout");
        numbers.push(answered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_panics_costs_little_more_than_as_many_new_instances() {
    const ROUNDS: usize = 5;
    const CALLS: usize = 400;
    let service = attacked_by("panic", |config| {
        config["policy_host"] = json!({"instance_reuse": 1});
    });
    let client = Client::connect(service.addresses.grpc).await;
    let [mut harmless, mut panics] = [0; 2];
    // In turns, so that whatever else the machine does happens to both.
    for _ in 0..ROUNDS {
        for (path, spent) in [("/harmless", &mut harmless), ("/attack", &mut panics)] {
            let before = service.cpu_ticks();
            for _ in 0..CALLS {
                let answer = client.ask(&Ask::get(path)).await;
                assert_eq!(answer.allowed, path == "/harmless", "{answer:?}");
            }
            *spent += service.cpu_ticks() - before;
        }
    }
    assert!(panics <= 3 * harmless, "{panics} ticks, against {harmless} for answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn header_names_reach_envoy_in_lower_case() {
    let answer = suffer(&attacked_by("upper_case_header", |_| {})).await;
    assert!(answer.allowed, "{answer:?}");
    assert!(answer.set_request_headers.contains_key("x-upper"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_set_and_removed_is_on_one_list_only() {
    let answer = suffer(&attacked_by("set_and_remove", |_| {})).await;
    assert!(answer.set_request_headers.contains_key("x-both"), "{answer:?}");
    assert_eq!(answer.remove_request_headers, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_not_json_harms_no_request() {
    let answer = suffer(&attacked_by("bad_metadata", |_| {})).await;
    assert!(answer.allowed, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_envoy_could_not_read_is_denied() {
    // The depth at which Envoy stops, and beyond what a JSON parser takes.
    for (attack, sizes) in [
        ("deep_metadata", vec![17, 33, 120]),
        ("deep_metadata_of_allow", vec![17, 50, 120]),
        ("wide_metadata", vec![1_000]),
    ] {
        for size in sizes {
            let service = attacked_by(attack, |config| {
                config["routes"][0]["settings"]["size"] = json!(size);
            });
            let answer = suffer(&service).await;
            let denied = (answer.status, answer.reason.as_str());
            assert_eq!(denied, (500, "unsafe_decision"), "{attack} {size}");
            assert_eq!(answer.metadata, Value::Null);
        }
    }
    let service = attacked_by("deep_metadata", |config| {
        config["routes"][0]["settings"]["size"] = json!(16);
    });
    let answer = suffer(&service).await;
    assert_eq!((answer.status, answer.reason.as_str()), (403, "policy_denied"));
    assert!(answer.metadata["a"]["a"].is_object(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_response_headers_than_envoy_takes_are_denied() {
    for (attack, status) in [("many_response_headers", 0), ("many_deny_headers", 403)] {
        for (size, status) in [(100, status), (101, 500)] {
            let service = attacked_by(attack, |config| {
                config["routes"][0]["settings"]["size"] = json!(size);
            });
            let answer = suffer(&service).await;
            assert_eq!(answer.status, status, "{attack} {size}");
            assert_eq!(answer.response_headers.len(), if status == 500 { 0 } else { 100 });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_grows_beyond_what_envoy_takes_is_denied() {
    for (limits, size, is_allowed) in [
        (json!({}), 50, true),
        (json!({}), 60, false),
        (json!({"max_headers": 110}), 60, true),
        (json!({"max_header_bytes": 200}), 50, false),
    ] {
        let service = attacked_by("many_request_headers", |config| {
            config["routes"][0]["settings"]["size"] = json!(size);
            config["request_limits"] = limits.clone();
        });
        let client = Client::connect(service.addresses.grpc).await;
        let names = (0..45).map(|number| format!("x-client-{number}"));
        let ask = names.fold(Ask::get("/attack"), |ask, name| ask.header(&name, "a"));
        let answer = client.ask(&ask).await;
        assert_eq!(answer.allowed, is_allowed, "{limits} {size}");
        let reason = if is_allowed { "" } else { "unsafe_decision" };
        assert_eq!(answer.reason, reason, "{limits} {size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_body_by_its_status_has_none() {
    for (attack, status) in [("body_of_204", 204), ("body_of_205", 205), ("body_of_304", 304)] {
        let answer = suffer(&attacked_by(attack, |_| {})).await;
        assert_eq!((answer.status, answer.reason.as_str()), (status, "policy_denied"), "{attack}");
        assert_eq!((answer.body.as_str(), answer.response_headers.len()), ("", 0), "{attack}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_set_to_nothing_is_removed() {
    let answer = suffer(&attacked_by("empty_header", |_| {})).await;
    assert!(answer.allowed, "{answer:?}");
    assert_eq!(json!(answer.set_request_headers), json!({}));
    assert_eq!(answer.remove_request_headers, ["x-empty"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_forwarded_is_not_replaced_either() {
    for (forwarded, set) in
        [(true, json!({"authorization": "Basic cm9vdDpyb290"})), (false, json!({}))]
    {
        let service = attacked_by("set_token", |config| {
            config["routes"][0]["forward_token"] = json!(forwarded);
        });
        let answer = suffer(&service).await;
        assert_eq!(json!(answer.set_request_headers), set);
        let removed = answer.remove_request_headers.contains(&"authorization".to_owned());
        assert_eq!(removed, !forwarded, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_tells_nothing_under_the_name_of_an_identity_header() {
    let service = attacked_by("identity_in_response", |config| {
        config["routes"][0]["token"] = json!("optional");
        config["routes"][0]["identity_headers"] = json!({"x-user-id": ["sub"]});
    });
    let answer = suffer(&service).await;
    assert_eq!((answer.status, answer.reason.as_str()), (500, "unsafe_decision"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_cannot_say_who_is_calling() {
    for attack in ["spoof_identity", "spoof_folded_identity", "remove_identity"] {
        let service = attacked_by(attack, |config| {
            config["routes"][0]["token"] = json!("required");
            config["routes"][0]["identity_headers"] = json!({"x-user-id": ["sub"]});
        });
        let client = Client::connect(service.addresses.grpc).await;
        let answer = client.ask(&Ask::get("/attack").bearer(&token("alice"))).await;
        assert_eq!(answer.set_request_headers["x-user-id"], "alice", "{attack}");
        assert_eq!(answer.remove_request_headers, Vec::<String>::new(), "{attack}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_with_a_line_break_forges_no_line_of_the_log() {
    let mut service = attacked_by("log_injection", |_| {});
    let answer = suffer(&service).await;
    assert_eq!(answer.status, 403);
    service.has_logged(3, "policy_denied");
    // The log has its own writer, which is done when the process has ended.
    service.terminate();
    let log = service.log();
    let mut logged = 0;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("not a line of the log ({error}): {line}"));
        assert_eq!(line.get("forged"), None, "{line}");
        logged += usize::from(line.to_string().contains("policy_denied"));
    }
    assert_eq!(logged, 3, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_however_often_a_policy_takes_all_of_it() {
    for attack in ["grow_memory", "hold_memory"] {
        let service = attacked_by(attack, |_| {});
        let client = Client::connect(service.addresses.grpc).await;
        let ask = Ask::get("/attack");
        for _ in 0..20 {
            client.ask(&ask).await;
        }
        let before = service.resident_bytes();
        for _ in 0..200 {
            client.ask(&ask).await;
        }
        let grown = service.resident_bytes().saturating_sub(before) >> 20;
        assert!(grown < 64, "{attack}: {grown} MiB more after 200 attacks");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_request_is_left_where_each_has_an_instance_of_its_own() {
    let service = attacked_by("remember", |config| {
        config["policy_host"] = json!({"instance_reuse": 1});
    });
    let client = Client::connect(service.addresses.grpc).await;
    client.ask(&Ask::get("/attack").header("x-secret", "canary")).await;
    for _ in 0..100 {
        let answer = client.ask(&Ask::get("/attack")).await;
        assert!(answer.allowed, "{answer:?}");
        assert_eq!(answer.response_headers.get("x-remembered"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_forgotten_after_the_configured_number_of_requests() {
    const REUSE: usize = 8;
    let service = attacked_by("remember", |config| {
        config["policy_host"] = json!({"instance_reuse": REUSE});
    });
    let client = Client::connect(service.addresses.grpc).await;
    client.ask(&Ask::get("/attack").header("x-secret", "canary")).await;
    let mut remembered = 0;
    for _ in 0..10 * REUSE {
        let answer = client.ask(&Ask::get("/attack")).await;
        remembered += usize::from(answer.response_headers.contains_key("x-remembered"));
    }
    assert_eq!(remembered, REUSE - 1, "as many later requests saw the secret of the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_share_no_instance_of_a_policy() {
    let service = attacked_by("remember", |config| {
        let mut other = config["routes"][0].clone();
        other["name"] = json!("other");
        other["match"] = json!({"paths": ["/attack/other"]});
        config["routes"] = json!([other, config["routes"][0].take()]);
    });
    let client = Client::connect(service.addresses.grpc).await;
    for _ in 0..20 {
        client.ask(&Ask::get("/attack").header("x-secret", "canary")).await;
        let answer = client.ask(&Ask::get("/attack/other")).await;
        assert!(answer.allowed, "{answer:?}");
        assert_eq!(answer.response_headers.get("x-remembered"), None);
    }
}
