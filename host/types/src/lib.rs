//! Plain types that every part of Portcullis shares: attributes, decisions, ids and times.
//!
//! No code in this crate waits, knows a protocol or starts a task.

pub mod attributes;
pub mod decision;
pub mod digest;
pub mod duration;
pub mod json;
mod listed_enum;
pub mod secret;
pub mod timestamp;
pub mod token_id;
