//! Property test: the set equals a simple reference model.

use std::collections::HashMap as Model;

use proptest::prelude::*;

use super::*;

/// What can be done to a set.
#[derive(Debug, Clone)]
enum Step {
    Add(u8, Option<i64>),
    Hold(u8, i64),
    SetExpiry(u8, Option<i64>),
    Remove(u8),
    CutOff(u8, i64, Option<i64>),
    Lift(u8),
    Sweep(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..4_u8;
    let expiry = || prop::option::weighted(0.8, 0..100_i64);
    prop_oneof![
        4 => (name.clone(), expiry()).prop_map(|(name, expiry)| Step::Add(name, expiry)),
        1 => (name.clone(), 0..120_i64).prop_map(|(name, now)| Step::Hold(name, now)),
        1 => (name.clone(), expiry()).prop_map(|(name, expiry)| Step::SetExpiry(name, expiry)),
        1 => name.clone().prop_map(Step::Remove),
        3 => (name.clone(), 0..100_i64, expiry())
            .prop_map(|(name, before, expiry)| Step::CutOff(name, before, expiry)),
        1 => name.prop_map(Step::Lift),
        1 => (0..120_i64).prop_map(Step::Sweep),
    ]
}

/// Times in seconds; `None` is for ever.
#[derive(Default)]
struct Expected {
    tokens: Model<u8, Said>,
    cutoffs: Model<u8, (i64, Option<i64>)>,
}

/// Until when a token is revoked, and what is known of that.
#[derive(Clone, Copy)]
struct Said {
    until: Option<i64>,
    lacks_expiry: bool,
    told: bool,
}

/// Until when what is held lasts.
const LONGEST: i64 = 100;

impl Said {
    const fn new(until: Option<i64>) -> Self {
        Self { until, lacks_expiry: false, told: false }
    }
}

fn later(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    Some(one?.max(other?))
}

fn live(until: Option<i64>, now: i64) -> bool {
    until.is_none_or(|until| now < until)
}

impl Expected {
    fn apply(&mut self, step: &Step) {
        let until = |expiry: Option<i64>| expiry.map(|expiry| expiry + 10);
        match *step {
            Step::Add(name, expiry) => {
                let said = self.tokens.entry(name).or_insert(Said::new(until(expiry)));
                said.until = later(said.until, until(expiry));
                said.told = true;
            }
            Step::Hold(name, now) => {
                let held = Said { lacks_expiry: true, ..Said::new(Some(LONGEST)) };
                let said = self.tokens.entry(name).or_insert(held);
                if !live(said.until, now) {
                    *said = held;
                }
            }
            Step::SetExpiry(name, expiry) => {
                let said = self.tokens.entry(name).or_insert(Said::new(until(expiry)));
                if said.lacks_expiry && !said.told {
                    said.until = until(expiry);
                }
                said.until = later(said.until, until(expiry));
                (said.lacks_expiry, said.told) = (false, false);
            }
            Step::Remove(name) => drop(self.tokens.remove(&name)),
            Step::CutOff(name, before, expiry) => {
                let entry = self.cutoffs.entry(name).or_insert((before, until(expiry)));
                *entry = (entry.0.max(before), later(entry.1, until(expiry)));
            }
            Step::Lift(name) => drop(self.cutoffs.remove(&name)),
            Step::Sweep(now) => {
                self.tokens.retain(|_, said| live(said.until, now));
                self.cutoffs.retain(|_, (_, until)| live(*until, now));
            }
        }
    }
}

fn subject(name: u8) -> Cutoff {
    Cutoff::subject(None, &name.to_string()).unwrap()
}

proptest! {
    #[test]
    fn the_set_is_what_the_model_says(
        steps in prop::collection::vec(step(), 0..40),
        now in 0..120_i64,
    ) {
        let (mut writer, blacklist) = pair(MARGIN);
        let mut expected = Expected::default();
        for step in &steps {
            expected.apply(step);
            match *step {
                Step::Add(name, expiry) => drop(writer.apply(add(&name.to_string(), expiry))),
                Step::Hold(name, now) => {
                    writer.hold(id(&name.to_string()), at(LONGEST), at(now));
                }
                Step::SetExpiry(name, expiry) => writer.set_expiry(add(&name.to_string(), expiry)),
                Step::Remove(name) => {
                    writer.apply(Event::Unrevoke { token_id: id(&name.to_string()) });
                }
                Step::CutOff(name, before, expiry) => {
                    writer.apply(cut_off(subject(name), before, expiry));
                }
                Step::Lift(name) => drop(writer.apply(Event::LiftCutoff { cutoff: subject(name) })),
                Step::Sweep(now) => drop(writer.sweep(at(now))),
            }
        }
        prop_assert_eq!(blacklist.len(), expected.tokens.len());
        prop_assert_eq!(blacklist.cutoffs(), expected.cutoffs.len());
        for name in 0..4_u8 {
            let listed = expected.tokens.get(&name).is_some_and(|said| live(said.until, now));
            prop_assert_eq!(has(&blacklist, &name.to_string(), now), listed, "token {}", name);
            for issued_at in [None, Some(0), Some(50), Some(99)] {
                let covered = expected.cutoffs.get(&name).is_some_and(|(before, until)| {
                    live(*until, now) && issued_at.is_none_or(|issued_at| issued_at <= *before)
                });
                let subject = name.to_string();
                let token = PresentedToken {
                    subject: Some(&subject),
                    issued_at: issued_at.map(at),
                    ..PresentedToken::default()
                };
                prop_assert_eq!(blacklist.is_blacklisted(&token, at(now)), covered);
            }
        }
    }

    #[test]
    fn additions_in_any_order_and_number_give_one_set(
        steps in prop::collection::vec((0..3_u8, prop::option::of(0..100_i64)), 1..10)
            .prop_flat_map(|steps| (Just(steps.clone()), Just(steps).prop_shuffle())),
    ) {
        let (mut writer, ordered) = pair(MARGIN);
        for (name, expiry) in &steps.0 {
            writer.apply(add(&name.to_string(), *expiry));
        }
        let (mut other_writer, shuffled) = pair(MARGIN);
        for (name, expiry) in steps.1.iter().chain(&steps.0) {
            other_writer.apply(add(&name.to_string(), *expiry));
        }
        for name in 0..3_u8 {
            let token_id = id(&name.to_string());
            prop_assert_eq!(ordered.until(&token_id), shuffled.until(&token_id));
        }
    }
}
