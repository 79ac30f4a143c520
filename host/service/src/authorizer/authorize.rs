//! The `Authorize` trait, by which the edges ask the pipeline, and a call of it that never unwinds
//! into an edge.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures_util::FutureExt;
use portcullis_types::{
    attributes::Attributes,
    decision::{Decision, Reason},
};

/// Why an edge could not read a request, and the detail for the log.
pub(crate) type Refusal = (Reason, &'static str);

/// What an edge asks.
pub trait Authorize: Send + Sync + 'static {
    /// Decides on `attributes`. `deadline` is how much time the caller still gives; without one,
    /// the route's own holds.
    ///
    /// It waits only where the blacklist has to ask its store, or where a policy is slow or has no
    /// instance ready; otherwise the future is ready when it is first polled.
    fn authorize(
        &self,
        attributes: &Attributes,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Decision> + Send;

    /// Denies a request that an edge could not turn into attributes. A pipeline that records its
    /// decisions, or words them its own way, does so for these as well.
    fn refuse(&self, reason: Reason, detail: &'static str) -> Decision {
        self.refuse_known(&Attributes::default(), reason, detail.to_owned())
    }

    /// The same, where a part of the request is known.
    fn refuse_known(&self, _known: &Attributes, reason: Reason, detail: String) -> Decision {
        Decision::deny(reason).with_detail(detail)
    }
}

/// A function decides: for tests, and for programs that embed an edge without the pipeline.
impl<F> Authorize for F
where
    F: Fn(&Attributes, Option<Duration>) -> Decision + Send + Sync + 'static,
{
    async fn authorize(&self, attributes: &Attributes, deadline: Option<Duration>) -> Decision {
        self(attributes, deadline)
    }
}

/// Asks for a decision; a panic on the way is a deny.
///
/// A panic that left the edge would end as a reset stream, which a proxy set to fail open lets
/// through.
pub async fn ask(
    authorizer: &impl Authorize,
    attributes: &Attributes,
    deadline: Option<Duration>,
) -> Decision {
    // What a panic may leave half-changed belongs to the pipeline, whose shared state is made of
    // atomics and of locks that are taken back from a panicked holder.
    let decision = AssertUnwindSafe(authorizer.authorize(attributes, deadline)).catch_unwind();
    decision.await.unwrap_or_else(|_| refuse(authorizer, Reason::InternalError, "panic"))
}

/// Denies a request that could not be read; a panic on the way is a deny too.
pub fn refuse(authorizer: &impl Authorize, reason: Reason, detail: &'static str) -> Decision {
    refusal(|| authorizer.refuse(reason, detail))
}

/// The same, where a part of the request is known: for its log line, and for headers of the answer
/// that depend on it.
pub fn refuse_known(
    authorizer: &impl Authorize,
    known: &Attributes,
    reason: Reason,
    detail: String,
) -> Decision {
    refusal(|| authorizer.refuse_known(known, reason, detail))
}

fn refusal(refuse: impl FnOnce() -> Decision) -> Decision {
    match catch_unwind(AssertUnwindSafe(refuse)) {
        Ok(decision) if !decision.is_allowed() => decision,
        _ => Decision::deny(Reason::InternalError).with_detail("panic"),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_types::decision::{Allow, Verdict};

    use super::*;

    struct Broken;

    impl Authorize for Broken {
        async fn authorize(&self, _: &Attributes, _: Option<Duration>) -> Decision {
            panic!("boom")
        }

        fn refuse(&self, reason: Reason, _: &'static str) -> Decision {
            assert_ne!(reason, Reason::InternalError, "boom again");
            Decision::new(Verdict::Allow(Allow::default()), Reason::Allowed)
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_deny_even_if_denying_panics() {
        let decision = ask(&Broken, &Attributes::default(), None).await;
        assert_eq!(decision.reason, Reason::InternalError);
        assert!(!decision.is_allowed());
    }

    #[test]
    fn a_refusal_cannot_become_an_allow() {
        assert!(!refuse(&Broken, Reason::MalformedRequest, "garbage").is_allowed());
    }
}
