//! Owns the tests of what is told of the findings.

use super::*;
use crate::{
    checker::{Rules, judge},
    history::{Age, Check, Fault, Look, Moment, Revocation, Target, Token, Verdict, Way},
    svg,
};

fn ms(millis: u64) -> Moment {
    Moment::after(Duration::from_millis(millis))
}

/// One revocation that all replicas heed after four milliseconds, and a good token that one of
/// them refuses while its link is cut.
fn report() -> Report {
    let check = |token, replica, began, verdict| {
        let span = Span::new(ms(began), ms(began + 1));
        Check { token, replica, verdict, span }
    };
    let look = |at| move |replica| Look { replica, ready: true, span: Span::new(ms(at), ms(at)) };
    let revocation = Revocation {
        target: Target::Token(0),
        way: Way::Exchange,
        began: ms(100),
        acknowledged: Some(ms(102)),
    };
    let mut history = History {
        tokens: vec![
            Token { subject: 0, session: 0, issued_at: 1 },
            Token { subject: 1, session: 1, issued_at: 1 },
        ],
        revocations: vec![revocation, Revocation { acknowledged: None, ..revocation }],
        faults: vec![Fault {
            kind: FaultKind::LinkCut,
            replica: Some(1),
            span: Span::new(ms(1000), ms(2000)),
        }],
        ages: vec![Age { replica: 1, at: ms(1500), staleness: Duration::from_millis(400) }],
        stalls: vec![Span::new(ms(0), ms(40)), Span::new(ms(20), ms(50))],
        looks: [0, 9000].into_iter().flat_map(|at| (0..3).map(look(at))).collect(),
        ..History::default()
    };
    history.checks = (0..3).map(|one| check(0, one, 103, Verdict::Deny(403))).collect();
    history.checks.push(check(1, 1, 1500, Verdict::Deny(500)));
    let rules = Rules { bound: Duration::from_millis(25), relay: Duration::ZERO };
    let mut report = Report::new(vec![("seed", "7".to_owned())]);
    report.add(&history, judge(7, &history, &rules));
    report
}

#[test]
fn the_json_has_what_was_counted() {
    let json = report().json();
    assert_eq!((&json["runs"], &json["checks"]), (&json!(1), &json!(4)));
    assert_eq!((&json["revocations"], &json["violations"]), (&json!(1), &json!(1)));
    assert_eq!(json["faults"]["link-cut"], 1);
    assert_eq!(json["faults"]["flood"], 0, "kinds that did not come up are told, too");
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
fn the_table_and_the_picture_show_the_distribution() {
    let report = report();
    let text = report.to_string();
    assert!(
        text.contains("link-cut                             1               1             400"),
        "{text}"
    );
    assert!(text.contains(": 1 revocations\n") && text.contains('#'), "{text}");
    let picture = svg::draw("a & b", &report.propagation.quiet);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(picture.matches("<rect ").count(), BOUNDS.len() + 1);
    assert!(picture.contains("&lt;= 25") && !picture.contains("a & b"), "{picture}");
    assert!(picture.contains("prefers-color-scheme:dark"));
}
