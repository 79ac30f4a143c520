//! Tests of the report.

use super::*;
use crate::{
    checker::{Rules, judge},
    history::{
        Age, Check, Fault, Health, HealthSample, Reason, Revocation, Target, Token, Verdict, Way,
    },
    moment::Moment,
    svg,
};

fn ms(millis: u64) -> Moment {
    Moment::after(Duration::from_millis(millis))
}

/// One revocation that all replicas apply after four milliseconds, and a good token that one of
/// them refuses while its link is cut.
fn report() -> Report {
    let check = |token, replica, began, verdict| {
        let span = Span::new(ms(began), ms(began + 1));
        Check { token, replica, verdict, span }
    };
    let ready = |replica, span| HealthSample { replica, health: Health::Ready, span };
    let sample = |at| move |replica| ready(replica, Span::new(ms(at), ms(at)));
    let revocation = Revocation {
        target: Target::Token(0),
        way: Way::Exchange,
        began: ms(100),
        acknowledged: Some(ms(102)),
    };
    let mut history = History {
        tokens: vec![
            Token { subject: 0, session: 0, issued_at: 1, expires: None },
            Token { subject: 1, session: 1, issued_at: 1, expires: None },
        ],
        revocations: vec![revocation, Revocation { acknowledged: None, ..revocation }],
        faults: vec![Fault {
            kind: FaultKind::LinkCut,
            replica: Some(1),
            span: Span::new(ms(1000), ms(2000)),
            healed: ms(1800),
        }],
        ages: vec![Age { replica: 1, at: ms(1500), staleness: Duration::from_millis(400) }],
        stalls: vec![Span::new(ms(0), ms(40)), Span::new(ms(20), ms(50))],
        health: [0, 9000].into_iter().flat_map(|at| (0..3).map(sample(at))).collect(),
        ..History::default()
    };
    history.checks = (0..3).map(|one| check(0, one, 103, Verdict::Deny(Reason::Revoked))).collect();
    history.checks.push(check(1, 1, 1500, Verdict::Deny(Reason::StoreUnavailable)));
    let ms25 = Duration::from_millis(25);
    let rules = Rules { bound: ms25, limit: 2 * ms25, relay: Duration::ZERO };
    let mut report = Report::new(vec![("seed", "7".to_owned())]);
    report.add(&history, &[], judge(7, &history, &rules));
    report
}

#[test]
fn the_json_has_all_counts() {
    let json = report().json();
    assert_eq!((&json["runs"], &json["checks"]), (&json!(1), &json!(4)));
    assert_eq!((&json["revocations"], &json["violations"]), (&json!(1), &json!(1)));
    assert_eq!(json["faults"]["link-cut"], 1);
    assert_eq!(json["faults"]["flood"], 0, "kinds that were not injected are listed, too");
    assert_eq!(json["failed_checks"], json!({"link-cut": 1}));
    assert_eq!(json["staleness_ms"], json!({"link-cut": 400}));
    for key in ["p50", "p99", "max"] {
        let time = json["propagation_ms"][key].as_f64().unwrap_or_default();
        assert!((time - 4.0).abs() < 0.01, "{key}: {time}");
    }
    assert_eq!(json["conditions"]["seed"], "7");
    assert_eq!((&json["lasted_ms"], &json["stalled_ms"]), (&json!(9000), &json!(50)));
}

#[test]
fn the_table_and_the_pictures_show_the_distribution() {
    let report = report();
    let text = report.to_string();
    let line = |begin: &str| {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = text
            .lines()
            .map(words)
            .filter(|words| words.first().is_some_and(|w| w == begin))
            .collect();
        lines.iter().map(|words| words.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(line("link-cut"), ["link-cut 1 0 0 100.00 % 100.00 %", "link-cut 1 400 0 0"]);
    assert!(text.contains(": 1 revocations\n") && text.contains('#'), "{text}");
    let picture = svg::draw("a & b", &report.propagation.quiet);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(picture.matches("<rect ").count(), BOUNDS.len() + 1);
    assert!(picture.contains("&lt;= 25") && !picture.contains("a & b"), "{picture}");
    assert!(picture.contains("prefers-color-scheme:dark"));
    let picture = svg::coverage("a & b", &report.coverage);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(picture.matches("<rect ").count(), FaultKind::ALL.len());
    assert!(picture.contains("1; 0; 0 missed, below 100.00 %"), "{picture}");
}
