//! Sources of revocations: each fills the set through the feed's channel.

pub(crate) mod local;
pub(crate) mod stream;
pub(crate) mod table;

use portcullis_runtime::telemetry::Received;

use crate::event::Event;

/// The metric that counts an event.
const fn received(event: &Event) -> Received {
    match event {
        Event::Add { .. } => Received::Add,
        Event::Unrevoke { .. } => Received::Remove,
        Event::CutOff { .. } => Received::CutOff,
        Event::LiftCutoff { .. } => Received::Lift,
    }
}
