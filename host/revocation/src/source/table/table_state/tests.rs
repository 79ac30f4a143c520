//! Tests of the table's state machine: notifications, probes and readings.

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);
const TRIGGER: Facts = Facts { has_trigger: true, is_standby: false };
const NO_TRIGGER: Facts = Facts { has_trigger: false, is_standby: false };

/// A state and a clock.
struct World {
    start: Moment,
    now: Moment,
    state: TableState,
}

impl World {
    fn new() -> Self {
        let start = Moment::now();
        Self { start, now: start, state: TableState::new(INTERVAL, start) }
    }

    /// One whose table has been read with these facts.
    fn read(facts: Facts) -> Self {
        let mut world = Self::new();
        world.prove();
        assert!(world.begins());
        world.ends(facts);
        world
    }

    fn pass(&mut self, millis: u64) {
        let time = Duration::from_millis(millis);
        self.now = Moment { at: self.now.at + time, boot: self.now.boot.plus(time) };
    }

    /// A probe comes back at once.
    fn prove(&mut self) -> Option<Duration> {
        self.prove_with(false)
    }

    fn prove_with(&mut self, is_gap: bool) -> Option<Duration> {
        let lease = self.state.prove(Proof { sent: self.now, is_gap })?;
        Some(lease.since(self.now.boot))
    }

    fn begins(&mut self) -> bool {
        self.state.begins_reading(self.now)
    }

    /// How long the set may be trusted after the end of the reading.
    fn ends(&mut self, facts: Facts) -> Duration {
        self.state.learn(facts);
        self.state.end_reading(self.now).unwrap().lease.since(self.now.boot)
    }

    /// How long the set has been incomplete if the connection is lost now.
    fn staleness(&self) -> Duration {
        self.now.at - self.state.complete_until(self.now.at)
    }

    fn next_reading(&self) -> Option<Duration> {
        Some(self.state.next_reading(self.now.at)? - self.start.at)
    }
}

#[test]
fn the_table_is_read_at_once_then_once_an_interval() {
    let mut world = World::new();
    assert!(!world.begins(), "it is not known whether notifications arrive");
    world.prove();
    assert!(world.begins());
    assert!(!world.begins(), "one at a time");
    assert!(!world.state.is_live());
    world.pass(2_000);
    world.ends(TRIGGER);
    assert!(world.state.is_live());
    assert_eq!(world.next_reading(), Some(INTERVAL));
    assert!(!world.begins());
    world.pass(28_000);
    assert!(world.begins());
    world.pass(30_000);
    world.ends(TRIGGER);
    assert_eq!(world.next_reading(), Some(INTERVAL * 3), "at most half of the time");
}

#[test]
fn notifications_cause_a_later_reading_and_not_too_often() {
    let mut world = World::new();
    world.prove();
    assert!(world.begins());
    world.state.doubt();
    world.pass(200);
    world.ends(TRIGGER);
    assert!(!world.begins(), "a flood of nonsense does not keep the table busy");
    world.pass(1_800);
    assert!(world.begins());
    world.ends(TRIGGER);
    world.pass(5_000);
    assert!(!world.begins(), "all doubt is gone");
    world.state.doubt();
    assert!(world.begins());
}

#[test]
fn each_proof_extends_the_lease_while_changes_are_notified() {
    let mut world = World::new();
    assert_eq!(world.prove(), None, "nothing has been read");
    assert!(world.begins());
    world.pass(1_000);
    assert_eq!(world.ends(TRIGGER), LEASE / 3, "since the probe was sent");
    assert_eq!(world.prove(), Some(LEASE));
    world.pass(700);
    assert_eq!(world.staleness(), Duration::from_millis(700));
}

#[test]
fn without_a_trigger_the_lease_lasts_until_the_next_reading() {
    let mut world = World::read(NO_TRIGGER);
    assert_eq!(world.prove(), None);
    world.pass(10_000);
    assert_eq!(world.staleness(), Duration::ZERO, "it may be that old");
    world.pass(20_000);
    assert!(world.begins());
    world.pass(1_000);
    assert_eq!(world.staleness(), Duration::from_secs(1));
    let reading = Duration::from_secs(1);
    assert_eq!(world.ends(NO_TRIGGER) + reading, INTERVAL + reading * 2 + GRACE);
}

#[test]
fn a_changed_trigger_counts_from_the_next_reading_on() {
    let mut world = World::read(TRIGGER);
    world.pass(30_000);
    assert!(world.prove().is_some() && world.begins());
    world.ends(NO_TRIGGER);
    assert_eq!(world.prove(), None);
    world.pass(30_000);
    assert!(world.begins());
    world.ends(TRIGGER);
    assert_eq!(world.prove(), Some(LEASE));
}

#[test]
fn the_table_is_polled_until_notifications_arrive_again() {
    let mut world = World::new();
    world.state.fall_silent();
    assert!(world.begins());
    assert_eq!(world.ends(TRIGGER), INTERVAL + GRACE);
    world.pass(5_000);
    assert_eq!(world.prove(), None, "what was not heard is not known");
    assert!(world.begins(), "soon");
    world.ends(TRIGGER);
    assert_eq!(world.prove(), Some(LEASE));

    world.pass(5_000);
    world.state.fall_silent();
    assert!(world.begins());
    assert_eq!(world.prove(), None);
    world.ends(TRIGGER);
    assert_eq!(world.prove(), None, "it began before that");
    world.pass(1_000);
    assert!(world.begins());
    world.ends(TRIGGER);
    assert_eq!(world.prove(), Some(LEASE));
}

#[test]
fn after_a_gap_nothing_is_proven_until_the_table_has_been_read() {
    let mut world = World::read(TRIGGER);
    world.pass(2_000);
    assert_eq!(world.prove_with(true), None);
    assert_eq!(world.prove(), None);
    assert!(world.begins());
    assert_eq!(world.prove_with(true), None);
    world.ends(TRIGGER);
    assert_eq!(world.prove(), None, "there was another one meanwhile");
}

#[test]
fn a_failed_reading_is_retried_only_while_changes_are_notified() {
    let fails = |mut world: World, facts: Option<Facts>| {
        world.pass(30_000);
        assert!(world.begins());
        if let Some(facts) = facts {
            world.state.learn(facts);
        }
        let survives = world.state.fail_reading(world.now.at);
        assert_eq!(world.next_reading(), Some(INTERVAL + RETRY));
        survives && world.prove() == Some(LEASE)
    };
    assert!(fails(World::read(TRIGGER), None));
    assert!(fails(World::read(TRIGGER), Some(TRIGGER)));
    assert!(!fails(World::read(TRIGGER), Some(NO_TRIGGER)));
    let mut unseen = World::read(TRIGGER);
    unseen.pass(60_000);
    assert!(unseen.begins());
    let survives = unseen.state.fail_reading(unseen.now.at);
    assert!(!survives, "the trigger may have gone long ago");
    assert!(!fails(World::read(NO_TRIGGER), Some(TRIGGER)));
    let mut first = World::new();
    first.prove();
    assert!(first.begins() && !first.state.fail_reading(first.now.at));
    let mut silent = World::read(TRIGGER);
    silent.state.fall_silent();
    assert!(!fails(silent, Some(TRIGGER)));
}

#[test]
fn rows_missing_on_a_standby_stay_revoked() {
    let mut world = World::new();
    world.prove();
    for is_standby in [true, false] {
        assert!(world.begins());
        world.state.learn(Facts { is_standby, ..TRIGGER });
        assert_eq!(world.state.end_reading(world.now).unwrap().is_authoritative, !is_standby);
        assert_eq!(world.prove().is_none(), is_standby);
        world.pass(30_000);
    }
}
