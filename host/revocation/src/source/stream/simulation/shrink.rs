//! Shrinking: the shortest schedule that still fails, by leaving out steps and time.

use super::{
    plan::{Schedule, Step},
    run::run,
};
use crate::source::stream::sabotage::Sabotage;

/// Leaves out whatever is not needed to fail. Returns what is left, and what is wrong then.
pub(super) fn shrink(mut schedule: Schedule, sabotage: Option<Sabotage>) -> (Schedule, String) {
    let mut what = run(&schedule, sabotage).err().unwrap_or_default();
    loop {
        let before = schedule.clone();
        let mut length = schedule.steps.len();
        while length > 0 {
            let mut at = 0;
            while at < schedule.steps.len() {
                let mut shorter = schedule.clone();
                shorter.steps.drain(at..(at + length).min(schedule.steps.len()));
                if !try_instead(&mut schedule, shorter, sabotage, &mut what) {
                    at += length;
                }
            }
            length /= 2;
        }
        for at in 0..schedule.steps.len() {
            while let Some(less) = less(schedule.steps[at]) {
                let mut shorter = schedule.clone();
                shorter.steps[at] = less;
                if !try_instead(&mut schedule, shorter, sabotage, &mut what) {
                    break;
                }
            }
        }
        if schedule == before {
            return (schedule, what);
        }
    }
}

fn try_instead(
    schedule: &mut Schedule,
    shorter: Schedule,
    sabotage: Option<Sabotage>,
    what: &mut String,
) -> bool {
    match run(&shorter, sabotage) {
        Err(wrong) => {
            *schedule = shorter;
            *what = wrong;
            true
        }
        Ok(_) => false,
    }
}

/// The same step with less of it.
fn less(step: Step) -> Option<Step> {
    let half = |millis: u32| (millis > 1).then_some(millis / 2);
    match step {
        Step::Wait(millis) => half(millis).map(Step::Wait),
        Step::Revoke { token, way, gap } => half(gap).map(|gap| Step::Revoke { token, way, gap }),
        Step::Remove { token, way, gap } => half(gap).map(|gap| Step::Remove { token, way, gap }),
        _ => None,
    }
}
