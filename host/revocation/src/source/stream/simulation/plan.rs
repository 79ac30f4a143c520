//! Schedules of the simulation: the steps, and generating them from a seed.

/// A schedule of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    /// The seed of all random decisions while the schedule runs.
    pub(super) chance: u64,
    pub(super) steps: Vec<Step>,
}

/// One step. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The replica starts; one that runs is killed before.
    Start,
    /// Time passes. While the process is paused, it passes for all others.
    Wait(u32),
    /// A publisher revokes a token. `gap` lies between the key and the event.
    Revoke { token: usize, way: Way, gap: u32 },
    /// A publisher un-revokes a token.
    Remove { token: usize, way: Way, gap: u32 },
    /// A message that was published before is published again.
    Repeat { back: usize },
    /// The relay publishes what is in the outbox.
    Relay,
    /// A request with each token.
    Check,
    /// The broker dies. The newest messages of its stream are gone when it is back.
    BrokerDies { tail: usize },
    /// It comes back, and what is published reaches the stream after some time only.
    BrokerBack { detour: u32 },
    /// The stream is deleted, and its offsets will be given again.
    StreamDeleted,
    /// The stream is unbound from the exchange.
    Unbind,
    /// The broker has an alarm, or no longer has.
    Alarm(bool),
    /// Nothing comes through the connections between the replica and the broker, or comes again.
    Silence(bool),
    /// Messages that are published from now on take so long to arrive.
    Delay(u32),
    /// The connections of the replica to the broker are cut, or can be made again.
    CutBroker(bool),
    /// Redis is unavailable, or available again.
    RedisAway(bool),
    /// The connections of the replica to Redis are cut, or can be made again.
    CutRedis(bool),
    /// Redis takes what it is asked, and does not answer, or answers again.
    RedisSilent(bool),
    /// Redis takes so long to answer.
    RedisSlow(u32),
    /// Another Redis takes over, which lacks so many of the newest changes.
    Failover { lost: usize },
    /// The process is paused, or resumed.
    Stop(bool),
    /// The machine is suspended for so long.
    Suspend(u32),
    /// The wall clock is set to be wrong by so much.
    SetWall(i64),
}

/// How a publisher revokes or un-revokes a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As `portcullis revoke`: key and outbox at once, and other Redis have them.
    Ours,
    /// First the key, then the event, or the outbox if the broker does not take it.
    KeyFirst,
    /// First the event.
    EventFirst,
}

/// How many tokens there are. The first one is never revoked.
pub(super) const TOKENS: usize = 4;

/// A publisher that publishes first writes the key within this time.
const LONGEST_GAP: u32 = 900;

/// Random numbers from a seed (`SplitMix64`).
#[derive(Debug, Clone)]
pub(super) struct Rng(pub(super) u64);

// === impl Rng ===

impl Rng {
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % end
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(super) fn flip(&mut self) -> bool {
        self.next() & (1 << 40) != 0
    }
}

// === impl Schedule ===

impl Schedule {
    /// The schedule that a seed stands for.
    pub(super) fn from_seed(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let length = 10 + rng.below(21);
        let start = rng.below(4);
        let mut steps = Vec::with_capacity(length * 2);
        let mut stopped = false;
        for at in 0..length {
            if at == start {
                steps.push(Step::Start);
            }
            let step = Step::random(&mut rng);
            match step {
                Step::Stop(begins) => stopped = begins,
                // A paused process soon resumes.
                _ if stopped && rng.below(3) == 0 => {
                    stopped = false;
                    steps.push(Step::Stop(false));
                }
                _ => {}
            }
            steps.push(step);
            if rng.below(3) > 0 {
                steps.push(Step::Wait(Step::random_time(&mut rng)));
            }
        }
        Self { chance: rng.next(), steps }
    }
}

// === impl Step ===

impl Step {
    fn random(rng: &mut Rng) -> Self {
        let token = 1 + rng.below(TOKENS - 1);
        let way = rng.pick(&[Way::Ours, Way::KeyFirst, Way::KeyFirst, Way::EventFirst]);
        let gap = rng.pick(&[0, 0, 5, 150, LONGEST_GAP]);
        match rng.below(100) {
            0..22 => Self::Revoke { token, way, gap },
            22..32 => Self::Remove { token, way, gap },
            32..36 => Self::Repeat { back: rng.below(6) },
            36..41 => Self::Relay,
            41..46 => Self::Check,
            _ => Self::random_fault(rng),
        }
    }

    fn random_fault(rng: &mut Rng) -> Self {
        match rng.below(54) {
            0..5 => Self::BrokerDies { tail: rng.pick(&[0, 0, 1, 2, 5]) },
            5..10 => Self::BrokerBack { detour: rng.pick(&[0, 0, 200, 1_500]) },
            10..12 => Self::StreamDeleted,
            12..14 => Self::Unbind,
            14..18 => Self::Alarm(rng.flip()),
            18..22 => Self::Silence(rng.flip()),
            22..25 => Self::Delay(rng.pick(&[0, 300, 900, 1_400, 4_000])),
            25..29 => Self::CutBroker(rng.flip()),
            29..32 => Self::RedisAway(rng.flip()),
            32..35 => Self::CutRedis(rng.flip()),
            35..38 => Self::RedisSilent(rng.flip()),
            38..40 => Self::RedisSlow(rng.pick(&[0, 50, 150, 900])),
            40..43 => Self::Failover { lost: rng.below(4) },
            43..49 => Self::Stop(rng.below(3) > 0),
            49..51 => Self::Suspend(rng.pick(&[300, 900, 1_200, 1_600, 5_000])),
            51..53 => Self::Start,
            _ => Self::SetWall(rng.pick(&[0, -3_600_000, 3_600_000])),
        }
    }

    fn random_time(rng: &mut Rng) -> u32 {
        let about = rng.pick(&[1, 1, 3, 10, 30, 100, 200, 300, 500, 900, 1_200, 1_600, 2_500]);
        about + u32::try_from(rng.below(20)).unwrap()
    }
}
