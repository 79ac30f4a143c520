//! Filter of log lines: `log.filter`, of which every element must be known.
//!
//! The filter library treats an unknown word as the name of a target. All other targets are silent
//! then, so a level with a typing error would silence the log.

/// The target of the lines about decisions.
pub(super) const DECISION: &str = "decision";

/// The crates of Portcullis and their modules: the targets of its lines.
const OURS: [(&str, &[&str]); 3] = [
    (
        "portcullis",
        &[
            "admin",
            "app",
            "authorizer",
            "cli",
            "config",
            "fetch",
            "grpc",
            "http",
            "http_api",
            "policy",
            "receiver",
            "token",
        ],
    ),
    (
        "portcullis_revocation",
        &[
            "ambient",
            "backoff",
            "blacklist",
            "build",
            "build_error",
            "config",
            "event",
            "feed",
            "lookup",
            "outbox_reader",
            "rabbitmq",
            "random",
            "redis",
            "relay",
            "revoke",
            "source",
            "tls",
        ],
    ),
    (
        "portcullis_runtime",
        &[
            "backoff",
            "boot_clock",
            "drain",
            "failpoint",
            "file_watch",
            "listen",
            "readiness",
            "telemetry",
            "tls",
        ],
    ),
];

/// Libraries that write log lines. Not that of the broker: see `log::NEVER_LOGGED`.
const LIBRARIES: [&str; 4] = ["h2", "hyper_util", "tonic", "tower"];

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The levels that are allowed for decisions: `info` and finer, which show them, and `off`.
const LEVELS_OF_DECISIONS: [&str; 4] = ["off", "info", "debug", "trace"];

/// A text is not a filter. It is not shown, as it may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// An element is neither a level nor a target with one.
    #[error(
        "element {0} is neither a level nor `target=level`; levels are off, error, warn, info, debug \
         and trace, and a list looks like info,decision=off"
    )]
    Element(usize),
    /// The target has no lines.
    #[error(
        "element {0} names no target that has lines; there are decision, portcullis, \
         portcullis_revocation, portcullis_runtime and their modules, such as portcullis::policy, \
         and h2, hyper_util, tonic and tower, as in info,decision=off"
    )]
    Target(usize),
    /// Decisions have one level.
    #[error("decisions have the level info; write decision=info or decision=off")]
    DecisionLevel,
    /// A target occurs twice.
    #[error("element {0} says again for which lines an element before it has a level; remove one")]
    Twice(usize),
    /// All other lines would be silent.
    #[error(
        "has no level for other lines, so there would be none; begin with one: info,decision=off"
    )]
    NoLevel,
}

/// Reads a filter: a list of one level, for everything else, and of levels for single targets.
/// Returns it without blanks.
pub(super) fn read(filter: &str) -> Result<String, FilterError> {
    let mut targets: Vec<&str> = Vec::new();
    let mut read: Vec<String> = Vec::new();
    for (number, element) in (1..).zip(filter.split(',')) {
        let (target, level) = match element.split_once('=') {
            Some((target, level)) => (target.trim(), level.trim()),
            None => ("", element.trim()),
        };
        let level = level.to_ascii_lowercase();
        if !LEVELS.contains(&level.as_str()) {
            return Err(FilterError::Element(number));
        }
        if element.contains('=') && !is_target(target) {
            return Err(FilterError::Target(number));
        }
        if target == DECISION && !LEVELS_OF_DECISIONS.contains(&level.as_str()) {
            return Err(FilterError::DecisionLevel);
        }
        if targets.contains(&target) {
            return Err(FilterError::Twice(number));
        }
        targets.push(target);
        read.push(if target.is_empty() { level } else { format!("{target}={level}") });
    }
    if targets.contains(&"") { Ok(read.join(",")) } else { Err(FilterError::NoLevel) }
}

/// Whether lines have this target, or one that begins with it.
fn is_target(target: &str) -> bool {
    let mut parts = target.split("::");
    let is_known = |byte: u8| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte);
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(is_known);
    let (Some(first), second) = (parts.next(), parts.next()) else { return false };
    let ours = OURS.iter().find(|(name, _)| *name == first);
    match (ours, second) {
        (Some(_), None) => true,
        (Some((_, modules)), Some(module)) => modules.contains(&module) && parts.all(is_word),
        (None, None) => first == DECISION || LIBRARIES.contains(&first),
        (None, Some(second)) => LIBRARIES.contains(&first) && is_word(second) && parts.all(is_word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_known_targets_are_a_filter() {
        for (filter, same) in [
            ("info", "info"),
            ("off", "off"),
            ("WARN", "warn"),
            ("info,decision=off", "info,decision=off"),
            (" info , decision = off ", "info,decision=off"),
            ("decision=info,off", "decision=info,off"),
            ("warn,portcullis=debug", "warn,portcullis=debug"),
            ("warn,portcullis::policy::loader=debug", "warn,portcullis::policy::loader=debug"),
            ("warn,portcullis_revocation::feed=debug", "warn,portcullis_revocation::feed=debug"),
            ("info,h2=trace,tonic::transport=debug", "info,h2=trace,tonic::transport=debug"),
        ] {
            assert_eq!(read(filter).as_deref(), Ok(same));
            assert!(tracing_subscriber::EnvFilter::try_new(same).is_ok(), "{same}");
        }
    }

    #[test]
    fn what_would_silence_the_log_unasked_is_refused() {
        use FilterError::{DecisionLevel, Element, NoLevel, Target, Twice};
        for (filter, error) in [
            ("", Element(1)),
            ("nonsense", Element(1)),
            ("infos", Element(1)),
            ("of", Element(1)),
            ("1", Element(1)),
            ("decision", Element(1)),
            ("info,", Element(2)),
            ("info;decision=off", Target(1)),
            ("info,decision=of", Element(2)),
            ("info,decision=", Element(2)),
            ("info,decision:off", Element(2)),
            ("info,decision==off", Element(2)),
            ("info,decision[x]=off", Target(2)),
            ("info,decisions=off", Target(2)),
            ("info,Decision=off", Target(2)),
            ("info,=off", Target(2)),
            ("info,portcullis::polcy=debug", Target(2)),
            ("info,portcullis::=debug", Target(2)),
            ("info,portcullis::feed=debug", Target(2)),
            ("info,portcullis_revocations=debug", Target(2)),
            ("info,lapin=debug", Target(2)),
            ("info,decision=error", DecisionLevel),
            ("info,debug", Twice(2)),
            ("info,decision=off,decision=info", Twice(3)),
            ("decision=off", NoLevel),
            ("portcullis=info", NoLevel),
        ] {
            assert_eq!(read(filter), Err(error), "{filter}");
        }
    }

    #[test]
    fn the_modules_are_those_that_there_are() {
        let sources = [
            include_str!("../../../service/src/lib.rs"),
            include_str!("../../../revocation/src/lib.rs"),
            include_str!("../lib.rs"),
        ];
        for ((name, modules), source) in OURS.iter().zip(sources) {
            let declared: Vec<_> = source
                .lines()
                .map(|line| line.strip_prefix("pub ").unwrap_or(line))
                .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
                .collect();
            assert_eq!(declared, *modules, "{name}");
        }
    }
}
