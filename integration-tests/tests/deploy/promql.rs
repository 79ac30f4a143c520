//! Minimal `PromQL` reader: the metrics and labels of a query.

/// A metric in a query, with the labels that must have certain values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector {
    /// Without the suffix of a histogram's or summary's series.
    pub(super) metric: String,
    /// Label, and the value if it must be exactly this one.
    pub(super) labels: Vec<(String, Option<String>)>,
}

/// The prefixes of our metrics.
const PREFIXES: [&str; 2] = ["ext_authz_", "portcullis_"];
/// The suffixes that Prometheus adds to the name of a histogram or summary.
const SERIES: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Every selector of a metric of ours.
pub(super) fn selectors(query: &str) -> Vec<Selector> {
    let mut selectors = Vec::new();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = query;
    while let Some(start) = rest.find(is_name) {
        let end = rest[start..].find(|c| !is_name(c)).map_or(rest.len(), |length| start + length);
        let name = &rest[start..end];
        rest = &rest[end..];
        if !PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let mut labels = Vec::new();
        if let Some(braces) = rest.strip_prefix('{') {
            let (inside, after) = braces.split_once('}').expect("a brace that opens also closes");
            labels = inside.split("\",").filter(|text| !text.is_empty()).map(matcher).collect();
            rest = after;
        }
        let metric = SERIES.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        selectors.push(Selector { metric: metric.to_owned(), labels });
    }
    selectors
}

/// `label="value"` or one of the other operators.
fn matcher(text: &str) -> (String, Option<String>) {
    let (name, value) = text.split_once('"').expect("a value in quotes");
    let value = value.trim_end_matches('"').to_owned();
    let label = name.trim().trim_end_matches(['=', '~', '!']);
    let exact = name.ends_with('=') && !name.ends_with("!=");
    (label.to_owned(), exact.then_some(value))
}

#[test]
fn metrics_and_labels_are_found_in_a_query() {
    let query = r#"histogram_quantile(0.9, sum by (le) (rate(ext_authz_x_seconds_bucket[5m]))) and
        portcullis_y{a="1",b=~"2|3"} == 1 and up{job="portcullis"}"#;
    assert_eq!(
        selectors(query),
        [
            Selector { metric: "ext_authz_x_seconds".to_owned(), labels: Vec::new() },
            Selector {
                metric: "portcullis_y".to_owned(),
                labels: vec![("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)],
            },
        ]
    );
}
