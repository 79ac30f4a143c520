//! The shape of log lines: the subscriber that writes them, the one line per decision, and panics.
//!
//! It installs nothing unasked: only the app may decide what the process logs. A line never holds a
//! token, a query, or the value of a header other than the request id.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

pub use super::log_filter::FilterError;
use super::log_filter::{self, DECISION};

/// The `log` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Log")]
pub struct Config {
    /// How lines are written.
    pub format: Format,
    /// Which lines are written: a level (`error`, `warn`, `info`, `debug`, `trace`, or `off` for no
    /// lines at all), and after it, where single targets have another one, `target=level`, such as
    /// `info,decision=off`. Targets are `decision`, `portcullis`, its modules such as
    /// `portcullis::policy`, `h2`, `hyper_util`, `tonic` and `tower`; others are refused. Decisions
    /// have the level `info`.
    pub filter: String,
    /// Every denied decision is logged; of the allowed ones, one in this many. 0 logs none.
    pub allowed_one_in: u32,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// The configured log cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("log.filter: {0}")]
pub struct BuildError(#[from] FilterError);

/// What the line about a decision says.
#[derive(Debug, Clone, Copy)]
pub struct DecisionLine<'a> {
    /// The stable reason code.
    pub reason: &'a str,
    /// A finer word; never a token or a token id.
    pub detail: Option<&'a str>,
    /// The route that matched.
    pub route: Option<&'a str>,
    /// The digest of the policy revision that was asked.
    pub revision: Option<&'a str>,
    /// The request's id, `x-request-id`, as the client or the proxy chose it.
    pub request_id: Option<&'a str>,
    /// HTTP method.
    pub method: &'a str,
    /// The authority of the request.
    pub host: &'a str,
    /// The path; a query is cut off here, in case there is one.
    pub path: &'a str,
    /// The status of a deny.
    pub status: Option<u16>,
    /// How long the answer took.
    pub latency: Duration,
}

/// Writes the line about a decision, for all denied and some of the allowed.
#[derive(Debug)]
pub struct DecisionLog {
    allowed_one_in: u64,
    allowed: AtomicU64,
}

/// A client chooses how long its path is; how much of it fills the log is for us to say.
const MAX_FIELD_BYTES: usize = 512;

/// A request id is a UUID, or not much longer.
const MAX_ID_BYTES: usize = 128;

/// The client of the broker writes whole messages into its log lines, token ids and all. What goes
/// wrong there is logged by whoever uses it.
const NEVER_LOGGED: &str = "lapin=off";

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Json, filter: "info".to_owned(), allowed_one_in: 0 }
    }
}

/// Checks what can be checked without writing a line.
///
/// # Errors
/// When the filter is none.
pub fn check(config: &Config) -> Result<(), BuildError> {
    log_filter::read(&config.filter)?;
    Ok(())
}

/// A subscriber that writes as configured, for the app to install.
///
/// # Errors
/// When the filter is none.
pub fn subscriber<W>(
    config: &Config,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, BuildError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = log_filter::read(&config.filter)?;
    // Every word of it is known, and the last one for a target counts.
    let filter = EnvFilter::new(format!("{filter},{NEVER_LOGGED}"));
    let builder = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_env_filter(filter)
        // It would be told on standard error, which is what cannot be written to.
        .log_internal_errors(false);
    Ok(match config.format {
        Format::Json => Box::new(builder.json().flatten_event(true).finish()),
        Format::Text => Box::new(builder.finish()),
    })
}

/// Has panics logged like everything else. For the owner of the process.
///
/// A message that was put together may hold anything, a piece of a token included; only one that
/// stands in the code as it is becomes part of the line.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(tracing::field::display);
        let cause = panic.payload().downcast_ref::<&'static str>();
        tracing::error!(place, cause, thread = std::thread::current().name(), "panic");
    }));
}

// === impl DecisionLog ===

impl DecisionLog {
    /// A log that samples allowed decisions as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { allowed_one_in: u64::from(config.allowed_one_in), allowed: AtomicU64::default() }
    }

    /// Whether it is this decision's turn.
    fn wants(&self, allowed: bool) -> bool {
        if allowed {
            self.allowed_one_in > 0
                && self.allowed.fetch_add(1, Relaxed).is_multiple_of(self.allowed_one_in)
        } else {
            true
        }
    }

    /// Writes `line` if the turn of a decision with this result has come.
    pub fn write<'a>(&self, allowed: bool, line: impl FnOnce() -> DecisionLine<'a>) {
        if !self.wants(allowed) {
            return;
        }
        let line = line();
        let path = line.path.split(['?', '#']).next().unwrap_or_default();
        tracing::info!(
            target: DECISION,
            result = if allowed { "allow" } else { "deny" },
            reason = line.reason,
            detail = line.detail.map(clip),
            route = line.route,
            revision = line.revision,
            request_id = line.request_id.and_then(shown_id),
            method = clip(line.method),
            host = clip(line.host),
            path = clip(path),
            status = line.status,
            latency_us = u64::try_from(line.latency.as_micros()).unwrap_or(u64::MAX),
        );
    }
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_FIELD_BYTES)]
}

/// An id that can be searched for in the proxy's log.
fn shown_id(id: &str) -> Option<&str> {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_graphic());
    let shown = &id[..id.floor_char_boundary(MAX_ID_BYTES)];
    (is_plain && !id.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged while `work` runs, one object per line.
    fn logged(config: &Config, work: impl FnOnce()) -> Vec<Value> {
        let sink = Sink::default();
        let make = {
            let sink = sink.clone();
            move || sink.clone()
        };
        tracing::subscriber::with_default(subscriber(config, make).unwrap(), work);
        let bytes = sink.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn line() -> DecisionLine<'static> {
        DecisionLine {
            reason: "policy_denied",
            detail: Some("not yours"),
            route: Some("api"),
            revision: None,
            request_id: Some("6f1a-7"),
            method: "GET",
            host: "shop.example",
            path: "/orders\r\n{\"forged\":1}?access_token=tok3n#x",
            status: Some(403),
            latency: Duration::from_micros(21),
        }
    }

    #[test]
    fn a_deny_is_one_json_line_without_the_query() {
        let config = Config::default();
        let lines = logged(&config, || DecisionLog::new(&config).write(false, line));
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(line["target"], "decision");
        assert_eq!(line["result"], "deny");
        assert_eq!(line["reason"], "policy_denied");
        assert_eq!(line["route"], "api");
        assert_eq!(line["request_id"], "6f1a-7");
        assert_eq!(line["status"], 403);
        assert_eq!(line["latency_us"], 21);
        assert_eq!(line["path"], "/orders\r\n{\"forged\":1}");
        assert_eq!(line.get("revision"), None);
        assert!(!line.to_string().contains("tok3n"), "{line}");
    }

    #[test]
    fn allows_are_sampled_and_denies_are_not() {
        for (allowed_one_in, expected) in [(0, 0), (1, 10), (5, 2)] {
            let config = Config { allowed_one_in, ..Config::default() };
            let log = DecisionLog::new(&config);
            let lines = logged(&config, || (0..10).for_each(|_| log.write(true, line)));
            assert_eq!(lines.len(), expected, "one in {allowed_one_in}");
            let lines = logged(&config, || (0..10).for_each(|_| log.write(false, line)));
            assert_eq!(lines.len(), 10);
        }
    }

    #[test]
    fn a_long_path_is_clipped_between_characters() {
        let config = Config::default();
        let path = format!("/{}", "é".repeat(10_000));
        let line = || DecisionLine { path: &path, ..line() };
        let lines = logged(&config, || DecisionLog::new(&config).write(false, line));
        assert!(lines[0]["path"].as_str().unwrap().len() <= MAX_FIELD_BYTES);
    }

    #[test]
    fn a_request_id_is_clipped_and_left_out_if_it_is_not_plain() {
        let long = "a".repeat(1000);
        for (id, shown) in [("", None), ("a b", None), ("é", None), (&*long, Some(&long[..128]))] {
            assert_eq!(shown_id(id), shown);
        }
    }

    #[test]
    fn a_panic_is_one_line_with_its_place_and_without_what_was_put_together() {
        let config = Config::default();
        let previous = std::panic::take_hook();
        let lines = logged(&config, || {
            log_panics();
            let _ = std::panic::catch_unwind(|| panic!("boom"));
            let _ = std::panic::catch_unwind(|| panic!("no {}", "tok3n".to_lowercase()));
        });
        std::panic::set_hook(previous);
        // Other tests may panic meanwhile, but not into this subscriber.
        let [plain, composed] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(plain["cause"], "boom");
        assert!(composed["place"].as_str().unwrap().contains("log.rs:"), "{composed}");
        assert!(!composed.to_string().contains("tok3n"), "{composed}");
    }

    #[test]
    fn a_bad_filter_names_its_key() {
        for filter in ["nonsense", "info,decision=loud", "info,decisions=off"] {
            let config = Config { filter: filter.to_owned(), ..Config::default() };
            let error = subscriber(&config, io::sink).err().unwrap().to_string();
            assert!(error.starts_with("log.filter: ") && !error.contains(filter), "{error}");
            assert!(check(&config).is_err());
        }
    }

    #[test]
    fn decisions_can_be_silenced_and_so_can_all_else() {
        for (filter, decisions, others) in [
            ("info", 1, 1),
            ("info,decision=off", 0, 1),
            ("off,decision=info", 1, 0),
            ("off", 0, 0),
        ] {
            let config = Config { filter: filter.to_owned(), ..Config::default() };
            let lines = logged(&config, || {
                DecisionLog::new(&config).write(false, line);
                tracing::info!("another line");
                tracing::error!(target: "lapin", "never");
            });
            let is_decision = |line: &&Value| line["target"] == "decision";
            let count = lines.iter().filter(is_decision).count();
            assert_eq!((count, lines.len() - count), (decisions, others), "{filter}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"levl": "info"}"#).is_err());
    }
}
