//! The in-process source: revocations that are made in this process, without any network.
//!
//! It has no snapshot and cannot be lost: the events that it gets are all there are.

use tokio::sync::{mpsc, oneshot};

use crate::{blacklist::Applied, event::Event, feed::FeedEvent};

/// Revokes tokens in this process. Clones share the source.
#[derive(Debug, Clone)]
pub struct InProcess {
    feed: mpsc::Sender<FeedEvent>,
}

/// The feed has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the blacklist feed has ended because the process is stopping; send the event again")]
pub struct Closed;

impl InProcess {
    /// Takes the sending end of a feed.
    pub(crate) const fn new(feed: mpsc::Sender<FeedEvent>) -> Self {
        Self { feed }
    }

    /// Reports an empty, complete snapshot to a feed that has no other source, and to which nothing
    /// was sent yet.
    pub(crate) fn start(&self) {
        for event in [FeedEvent::Init, FeedEvent::InitDone] {
            // A feed that accepts no event never becomes ready, which is the safe side.
            let _ = self.feed.try_send(event);
        }
    }

    /// Resolves when `event` has taken effect: a request that is checked afterwards sees it.
    ///
    /// # Errors
    /// When the feed has ended. The event may or may not have taken effect.
    pub async fn apply(&self, event: Event) -> Result<Applied, Closed> {
        let (ack, applied) = oneshot::channel();
        self.feed.send(FeedEvent::Apply(event, Some(ack))).await.map_err(|_| Closed)?;
        applied.await.map_err(|_| Closed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_runtime::{drain, readiness::Readiness, telemetry::Metrics};
    use portcullis_types::{timestamp::Timestamp, token_id::TokenId};

    use super::*;
    use crate::{
        blacklist::Blacklist,
        build::build_feed,
        config::Config,
        event::PresentedToken,
        feed::{Feed, Status, progress::FeedState},
    };

    fn start(leeway: Duration, readiness: &Readiness) -> (Blacklist, Feed, InProcess, Status) {
        let metrics = Metrics::new(&[]);
        let (blacklist, mut feed, sender, status) =
            build_feed(&Config::default(), leeway, readiness, &metrics.feed());
        feed.keep_open(sender.clone());
        let in_process = InProcess::new(sender);
        in_process.start();
        (blacklist, feed, in_process, status)
    }

    #[tokio::test]
    async fn an_event_has_taken_effect_when_its_application_resolves() {
        let readiness = Readiness::default();
        let (blacklist, feed, in_process, mut status) = start(Duration::from_secs(5), &readiness);
        assert!(!readiness.is_ready() && blacklist.is_expired());
        let (drain, _dead) = drain::pair();
        drain.spawn("blacklist feed", feed.run(drain.clone()));
        status.reached(FeedState::Live).await;
        assert!(readiness.is_ready() && !blacklist.is_expired());

        let token_id = TokenId::new("j").unwrap();
        let token = PresentedToken { token_id: Some(&token_id), ..PresentedToken::default() };
        let is_blacklisted = || blacklist.is_blacklisted(&token, Timestamp::now());
        let add = Event::Add { token_id, expires_at: None };
        assert_eq!(in_process.apply(add).await, Ok(Applied::Added));
        assert!(is_blacklisted());
        assert_eq!(in_process.apply(add).await, Ok(Applied::Unchanged));
        assert_eq!(status.get().entries, 1);
        assert!(status.get().last_event_at.is_some());
        assert_eq!(in_process.apply(Event::Unrevoke { token_id }).await, Ok(Applied::Removed));
        assert!(!is_blacklisted());
        assert_eq!(drain.drain(Duration::from_secs(5)).await, 0);
    }

    #[tokio::test]
    async fn what_is_sent_after_the_end_is_refused_and_the_set_serves_on() {
        let readiness = Readiness::default();
        let (blacklist, feed, in_process, mut status) = start(Duration::ZERO, &readiness);
        let (drain, _dead) = drain::pair();
        drain.spawn("blacklist feed", feed.run(drain.clone()));
        status.reached(FeedState::Live).await;
        assert_eq!(drain.drain(Duration::from_secs(5)).await, 0);
        let token_id = TokenId::new("j").unwrap();
        assert_eq!(in_process.apply(Event::Unrevoke { token_id }).await, Err(Closed));
        assert!(!blacklist.is_expired(), "requests in flight are still answered");
    }

    #[tokio::test]
    async fn a_feed_whose_handles_are_gone_stays_live() {
        let readiness = Readiness::default();
        let (_blacklist, feed, in_process, mut status) = start(Duration::ZERO, &readiness);
        drop(in_process);
        let (drain, _dead) = drain::pair();
        drain.spawn("blacklist feed", feed.run(drain.clone()));
        status.reached(FeedState::Live).await;
        drain.drain(Duration::from_secs(5)).await;
        assert_eq!(status.get().state, FeedState::Live);
    }
}
