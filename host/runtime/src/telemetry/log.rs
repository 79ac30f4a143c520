//! The shape of log lines: the subscriber that writes them, and panics.
//!
//! It installs nothing by itself: only the app decides what the process logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::log_filter;
pub use super::log_filter::FilterError;

/// The `log` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Log")]
pub struct Config {
    /// How lines are written.
    pub format: Format,
    /// Which lines are written: a level (`error`, `warn`, `info`, `debug`, `trace`, or `off` for no
    /// lines at all), and after it, where single targets have another one, `target=level`, such as
    /// `info,decision=off`. Targets are `decision`, `portcullis`, `portcullis_revocation`,
    /// `portcullis_runtime`, their modules such as `portcullis::policy`, `h2`, `hyper_util`,
    /// `tonic` and `tower`; others are refused. Decisions have the level `info`.
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

/// The client of the broker writes whole messages into its log lines, token ids included. Its
/// errors are logged by its callers.
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
/// When the filter is invalid.
pub fn check(config: &Config) -> Result<(), BuildError> {
    log_filter::read(&config.filter)?;
    Ok(())
}

/// A subscriber that writes as configured, for the app to install.
///
/// # Errors
/// When the filter is invalid.
pub fn subscriber<W>(
    config: &Config,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, BuildError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = log_filter::read(&config.filter)?;
    // Every element of the filter is known, and the last one for a target counts.
    let filter = EnvFilter::new(format!("{filter},{NEVER_LOGGED}"));
    let builder = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_env_filter(filter)
        // The library would report it on standard error, which cannot be written to.
        .log_internal_errors(false);
    Ok(match config.format {
        Format::Json => Box::new(builder.json().flatten_event(true).finish()),
        Format::Text => Box::new(builder.finish()),
    })
}

/// Has panics logged like everything else. For the owner of the process.
///
/// A formatted message may hold anything, a part of a token included; only a literal message
/// becomes part of the line.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(tracing::field::display);
        let cause = panic.payload().downcast_ref::<&'static str>();
        tracing::error!(place, cause, thread = std::thread::current().name(), "panic");
    }));
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use serde_json::Value;

    use super::{
        super::{
            decision_log::{DecisionLog, MAX_FIELD_BYTES, shown_id},
            decision_sink::DecisionLine,
        },
        *,
    };

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
    fn a_panic_is_one_line_without_its_formatted_message() {
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
