//! Steps of a revoker: which tokens it revokes, unrevokes and revokes again, and how.

use std::time::Duration;

use super::{Action, Path, PlannedStep, REPLICAS};
use crate::{
    history::{Target, Token},
    moment::Moment,
    random::Random,
    setup::Setup,
};

/// Steps of each revoker; more than it can make in the longest run.
const STEPS: usize = 400;
/// The longest pause of a revoker.
const PACE: Duration = Duration::from_millis(160);
/// When tokens were issued, for a cut-off between them.
const OLD: i64 = 1000;
/// See [`OLD`].
const YOUNG: i64 = 1100;
/// The percentage of steps that continue with a token that was revoked before.
const CONTINUES: u64 = 30;
/// How many tokens a revoker continues with at a time, and how many further steps each gets.
const OPEN: usize = 6;
/// See [`OPEN`].
const TURNS: usize = 5;
/// Longest life of a token that expires during the run.
const SHORT_LIFE: Duration = Duration::from_secs(10);

/// A token that was revoked, and how many further steps it gets.
struct Open {
    token: usize,
    is_revoked: bool,
    left: usize,
}

/// The steps of one revoker.
pub(super) fn of_revoker(
    key_first: bool,
    setup: &Setup,
    tokens: &mut Vec<Token>,
    random: &mut Random,
) -> Vec<PlannedStep> {
    let mut open: Vec<Open> = Vec::new();
    let mut steps = Vec::new();
    for _ in 0..STEPS {
        let after = random.between(Duration::from_millis(1), PACE);
        let action = if !open.is_empty() && random.percent(CONTINUES) {
            continue_one(&mut open, key_first, random)
        } else {
            let action = revocation(key_first, setup, tokens, random);
            if let Action::Revoke(Target::Token(token), path) = action
                && path != Path::WrongZone
                && tokens.get(token).is_some_and(|token| token.expires.is_none())
                && open.len() < OPEN
            {
                open.push(Open { token, is_revoked: true, left: TURNS });
            }
            action
        };
        steps.push(PlannedStep { after, action });
    }
    steps
}

/// Unrevokes a revoked token, or revokes an unrevoked one.
fn continue_one(open: &mut Vec<Open>, key_first: bool, random: &mut Random) -> Action {
    let path = path(key_first, random);
    let place = random.index(open.len());
    let one = &mut open[place];
    let action = if one.is_revoked {
        Action::Unrevoke(one.token, path)
    } else {
        Action::Revoke(Target::Token(one.token), path)
    };
    one.is_revoked = !one.is_revoked;
    one.left -= 1;
    if one.left == 0 {
        open.swap_remove(place);
    }
    action
}

/// A token with its own subject and session.
pub(super) const fn alone(place: usize) -> Token {
    Token { subject: place, session: place, issued_at: OLD, expires: None }
}

/// A revocation, with tokens that it covers and tokens that it just does not cover.
fn revocation(
    key_first: bool,
    setup: &Setup,
    tokens: &mut Vec<Token>,
    random: &mut Random,
) -> Action {
    let place = tokens.len();
    tokens.push(alone(place));
    let of_a_session = random.percent(50);
    if !setup.table && random.percent(12) {
        // Existing publishers have no cut-offs. The time is exactly that of the first token, which
        // is therefore covered.
        tokens.push(Token { issued_at: YOUNG, ..alone(place) });
        let target = if of_a_session {
            Target::Session { session: place, issued_before: OLD }
        } else {
            Target::Subject { subject: place, issued_before: OLD }
        };
        return Action::Revoke(target, ours(random));
    }
    if random.percent(12) {
        let life = random.between(Duration::from_secs(2), SHORT_LIFE);
        tokens[place].expires = Some(Moment::after(life));
    }
    // Only the next snapshot of the store finds it, so one must come during the run.
    let reads_soon = setup.resnapshot < SHORT_LIFE || setup.always_asks();
    let reads_soon = reads_soon && !setup.table;
    let path =
        if reads_soon && random.percent(10) { Path::WrongZone } else { path(key_first, random) };
    Action::Revoke(Target::Token(place), path)
}

fn path(key_first: bool, random: &mut Random) -> Path {
    match random.within(0..100) {
        0..60 if key_first => Path::KeyThenEvent,
        0..35 => Path::EventThenKey,
        35..70 => Path::KeyThenEvent,
        _ => ours(random),
    }
}

/// One of the ways that Portcullis provides.
fn ours(random: &mut Random) -> Path {
    let ways = [Path::Admin(random.index(REPLICAS)), Path::AdminWait(random.index(REPLICAS))];
    // Rare, because a process for each costs as much as all other work.
    if random.percent(4) { Path::Command } else { ways[random.index(2)] }
}
