//! Errors of the broker, for people: the configuration key at fault, and the fix.

use std::time::Duration;

use lapin::{Error, ErrorKind, protocol::AMQPErrorKind};

use crate::config::EndpointError;

/// The broker failed. The text shows no secret and no token id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BrokerError {
    /// The configuration is unusable.
    #[error("{0}")]
    Config(String),
    /// There is no connection.
    #[error("cannot connect to the broker at {address}: {cause}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// The error of the operating system or the broker.
        cause: String,
    },
    /// It did not answer in time.
    #[error("the broker did not answer within {0:?}")]
    Silent(Duration),
    /// It refuses the login.
    #[error(
        "`blacklist.rabbitmq.url`: the broker refuses the user: {0}; check user, password and \
             virtual host"
    )]
    Refused(String),
    /// A required exchange or queue does not exist and cannot be created.
    #[error("`blacklist.rabbitmq.{key}`: {message}")]
    Topology {
        /// The configuration key at fault.
        key: &'static str,
        /// What is wrong, and the fix.
        message: String,
    },
    /// The connection broke.
    #[error("the connection to the broker is lost: {0}")]
    Lost(String),
    /// The queue was deleted, or its leader moved.
    #[error("the broker ended the delivery of events")]
    Cancelled,
}

/// The step at which the broker returned an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Exchange,
    Stream,
    DeadLetters,
    OwnQueue,
    Consume,
    Probe,
}

const NO_STREAMS: &str = "the broker has no streams (RabbitMQ 3.9 or newer has, with the feature flag `stream_queue` \
     enabled); set it to exclusive-queue";

// === impl BrokerError ===

impl BrokerError {
    /// The cause in a few words.
    pub(crate) const fn why(&self) -> &'static str {
        match self {
            Self::Config(_) => "the broker's configuration is unusable",
            Self::Unreachable { .. } => "the broker cannot be reached",
            Self::Silent(_) => "the broker is silent",
            Self::Refused(_) => "the broker refuses the user",
            Self::Topology { .. } => "an exchange or queue at the broker is not as it must be",
            Self::Lost(_) => "the connection to the broker is lost",
            Self::Cancelled => "the broker ended the delivery of events",
        }
    }

    pub(super) fn no_streams() -> Self {
        Self::Topology { key: "topology", message: NO_STREAMS.to_owned() }
    }

    /// The error for a step that the broker answered with an error.
    pub(super) fn at(step: Step, error: &Error) -> Self {
        let ErrorKind::ProtocolError(refusal) = error.kind() else {
            return Self::Lost(error.to_string());
        };
        let reply = refusal.get_message().to_string();
        if matches!(refusal.kind(), AMQPErrorKind::Hard(_)) && !reply.contains("queue") {
            return Self::Lost(reply);
        }
        if step == Step::Stream && lacks_streams(&reply) {
            return Self::no_streams();
        }
        let (key, fix) = step.advice(&reply);
        Self::Topology { key, message: format!("{reply}; {fix}") }
    }
}

impl From<EndpointError> for BrokerError {
    fn from(error: EndpointError) -> Self {
        Self::Config(error.to_string())
    }
}

/// Whether the broker rejects a stream because it does not support streams. If a queue of the name
/// exists already, the error is about the difference instead.
fn lacks_streams(reply: &str) -> bool {
    let about_type = reply.contains("queue-type") || reply.contains("queue type");
    let unknown = reply.contains("feature flag") || reply.contains("feature_flag");
    !reply.contains("inequivalent") && (about_type || unknown)
}

// === impl Step ===

impl Step {
    /// The key at fault for an error at this step, and the fix.
    fn advice(self, reply: &str) -> (&'static str, &'static str) {
        let different = reply.contains("inequivalent");
        match self {
            Self::Exchange if different => (
                "exchange",
                "it must be a durable fanout exchange that is not deleted automatically; delete \
                 the other one, or name this one differently",
            ),
            Self::Exchange => ("exchange", "let the user configure the exchange"),
            Self::Stream if different && reply.contains("x-max-age") => (
                "stream_max_age",
                "a stream keeps the age that it was declared with; write that, or delete the stream",
            ),
            Self::Stream | Self::Consume if different => (
                "stream",
                "another queue has its name; delete that queue, or name this one differently",
            ),
            Self::Stream => {
                ("stream", "let the user configure, write and read it, and read the exchange")
            }
            Self::Consume => ("stream", "let the user read it"),
            Self::DeadLetters if different => {
                ("stream", "the dead-letter queue exists with other settings; delete it")
            }
            // Messages go through the default exchange, so no permission to write to the queue
            // itself is needed.
            Self::DeadLetters => (
                "stream",
                "let the user configure the queue of this name with `.dead`, and write to \
                 `amq.default`",
            ),
            Self::Probe => {
                ("stream", "let the user write to `amq.default`, through which probes are sent")
            }
            // Binding a queue needs the permission to write to it.
            Self::OwnQueue => (
                "exchange",
                "let the user configure, write and read the queues `amq.gen-*`, and read the exchange",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPHardError, AMQPSoftError};

    use super::*;

    fn explained(step: Step, reply: &str) -> String {
        let kind = AMQPSoftError::PRECONDITIONFAILED.into();
        let error = ErrorKind::ProtocolError(AMQPError::new(kind, reply.into())).into();
        BrokerError::at(step, &error).to_string()
    }

    #[test]
    fn an_error_names_the_key_and_the_fix() {
        let cases = [
            (Step::Exchange, "inequivalent arg 'type' for exchange", "exchange`: ", "fanout"),
            (Step::Stream, "inequivalent arg 'x-queue-type' for queue", "stream`: ", "delete"),
            (Step::Stream, "inequivalent arg 'x-max-age'", "stream_max_age`: ", "write that"),
            (Step::Stream, "invalid arg 'x-queue-type'", "topology`: ", "exclusive-queue"),
            (Step::Stream, "feature flag is disabled", "topology`: ", "exclusive-queue"),
            (Step::Stream, "access to queue refused", "stream`: ", "let the user"),
            (Step::DeadLetters, "access refused", "stream`: ", "write to `amq.default`"),
            (
                Step::OwnQueue,
                "access refused",
                "exchange`: ",
                "write and read the queues `amq.gen-",
            ),
        ];
        for (step, reply, key, fix) in cases {
            let shown = explained(step, reply);
            assert!(shown.starts_with(&format!("`blacklist.rabbitmq.{key}")), "{shown}");
            assert!(shown.contains(fix), "{shown}");
        }
    }

    #[test]
    fn the_end_of_a_connection_is_not_an_error_of_a_queue() {
        let kind = AMQPHardError::CONNECTIONFORCED.into();
        let error = ErrorKind::ProtocolError(AMQPError::new(kind, "shutdown".into())).into();
        assert!(matches!(BrokerError::at(Step::Stream, &error), BrokerError::Lost(_)));
    }
}
