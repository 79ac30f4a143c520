//! Schedules that failed once, with what was wrong.

use super::plan::{
    Step::{
        self, Alarm, BrokerBack, BrokerDies, Delay, RedisSilent, Relay, Remove, Revoke, Silence,
        Start, Stop, StreamDeleted, Suspend, Unbind, Wait,
    },
    Way::{EventFirst, KeyFirst, Ours},
};

/// What was wrong, what decided over chance, and the steps.
pub(super) const REGRESSIONS: &[(&str, u64, &[Step])] = &[
    (
        "a replica that started in an alarm of the broker was not ready until it was over",
        3_537_258_497_290_548_837,
        &[Alarm(true), Start, Wait(4_006), Wait(4_006), Wait(4_006)],
    ),
    (
        "so was one that met the alarm before it was live",
        1_595_159_682_002_823_735,
        &[Start, Wait(17), Alarm(true), Wait(4_016), Wait(4_016), Wait(4_016)],
    ),
    (
        "so was one that was interrupted besides",
        8_833_596_077_489_802_689,
        &[Start, Wait(21), Alarm(true), StreamDeleted, Wait(4_016), Wait(4_016), Wait(4_016)],
    ),
    (
        "a replica that started while the broker delivered late was never ready",
        13_220_360_530_670_406_221,
        &[Start, Delay(1_400), Wait(4_016), Wait(4_016), Wait(4_016)],
    ),
    (
        "in an alarm, a replica did not notice that the broker delivered late",
        4_879_807_767_145_717_752,
        &[
            Start,
            Wait(159),
            Wait(1_607),
            Delay(4_000),
            Wait(907),
            Revoke { token: 1, way: EventFirst, gap: 1 },
            Alarm(true),
            Wait(2_501),
        ],
    ),
    (
        "while the set was stale, a suspended machine did not count the time",
        2_260_896_000_330_507_719,
        &[
            Start,
            Wait(39),
            Stop(true),
            Revoke { token: 2, way: EventFirst, gap: 1 },
            Wait(1_610),
            Stop(false),
            Silence(true),
            RedisSilent(true),
            Wait(1_606),
            Wait(1_209),
            Suspend(1_600),
            Wait(2_514),
        ],
    ),
    (
        "a reading found an old revocation in the outbox, and it stayed",
        13_039_242_148_610_547_796,
        &[
            Start,
            Revoke { token: 3, way: Ours, gap: 0 },
            Remove { token: 3, way: KeyFirst, gap: 18 },
            Wait(805),
            Delay(4_000),
            Wait(1_615),
            Relay,
            BrokerDies { tail: 5 },
        ],
    ),
    (
        "a revocation in the outbox was late after Redis had been silent",
        8_396_075_435_241_162_710,
        &[
            Start,
            Wait(603),
            RedisSilent(true),
            Wait(1_608),
            Remove { token: 3, way: KeyFirst, gap: 1 },
            Wait(1_208),
            Alarm(true),
            Wait(625),
            Unbind,
            Revoke { token: 3, way: EventFirst, gap: 9 },
        ],
    ),
    (
        "an un-revocation in a recreated stream was taken for a message that had been seen",
        2_838_273_838_164_243_066,
        &[
            Revoke { token: 1, way: KeyFirst, gap: 0 },
            Start,
            Wait(37),
            BrokerDies { tail: 1 },
            BrokerBack { detour: 0 },
            Remove { token: 1, way: EventFirst, gap: 1 },
            Wait(126),
            StreamDeleted,
        ],
    ),
];
