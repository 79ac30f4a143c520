//! What is read of a list that publishers and relays change meanwhile, next to a model of it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Mutex,
};

use portcullis_types::token_id::TokenId;
use proptest::prelude::*;
use redis::{FromRedisValue, Value};

use super::*;
use crate::{config::Config, redis::keys::Keys};

/// A list that counts how many entries were read from it, and fails on demand.
#[derive(Default)]
struct List {
    entries: Mutex<VecDeque<String>>,
    read: Mutex<usize>,
    answers_left: Mutex<usize>,
}

impl Ask for List {
    async fn ask<T: FromRedisValue + Send>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        let mut left = self.answers_left.lock().unwrap();
        *left = left.checked_sub(1).ok_or(StoreError::Moved)?;
        let entries = self.entries.lock().unwrap();
        let mut answers = Vec::new();
        for command in commands.cmd_iter() {
            let args: Vec<String> = command
                .args_iter()
                .map(|arg| match arg {
                    redis::Arg::Simple(arg) => String::from_utf8(arg.to_vec()).unwrap(),
                    _ => panic!("an argument that is not simple"),
                })
                .collect();
            answers.push(if args[0] == "LLEN" {
                Value::Int(i64::try_from(entries.len()).unwrap())
            } else {
                let (start, stop) = (args[2].parse().unwrap(), args[3].parse::<usize>().unwrap());
                let page: Vec<_> = entries.iter().take(stop + 1).skip(start).collect();
                *self.read.lock().unwrap() += page.len();
                let text = |entry: &&String| Value::BulkString(entry.as_bytes().to_vec());
                Value::Array(page.iter().map(text).collect())
            });
        }
        Ok(T::from_redis_value(Value::Array(answers)).unwrap())
    }
}

impl List {
    fn push(&self, number: usize) {
        self.entries.lock().unwrap().push_front(entry(number));
    }

    fn pop(&self) -> Option<String> {
        self.entries.lock().unwrap().pop_back()
    }

    /// What is new, if all of it could be read in so many round trips.
    async fn read(
        &self,
        pending: &mut PendingOutbox,
        round_trips: usize,
    ) -> Result<Vec<Event>, StoreError> {
        *self.answers_left.lock().unwrap() = round_trips;
        pending.read(&keys(), self).await?;
        Ok(pending.take())
    }

    async fn read_all(&self, pending: &mut PendingOutbox) -> Vec<Event> {
        self.read(pending, usize::MAX).await.unwrap()
    }
}

fn keys() -> Keys {
    let config: Config = serde_saphyr::from_str("redis: { url: 'redis://store' }").unwrap();
    Keys::new(&config.redis.unwrap())
}

fn entry(number: usize) -> String {
    format!(r#"{{"type":"add","jti":"{number}"}}"#)
}

fn add(number: usize) -> Event {
    Event::Add { token_id: TokenId::new(&number.to_string()).unwrap(), expires_at: None }
}

fn adds(numbers: impl IntoIterator<Item = usize>) -> Vec<Event> {
    numbers.into_iter().map(add).collect()
}

#[tokio::test]
async fn what_was_read_is_not_read_again() {
    let (list, mut pending) = (List::default(), PendingOutbox::default());
    assert_eq!(list.read_all(&mut pending).await, []);
    for number in 0..3 {
        list.push(number);
    }
    assert_eq!(list.read_all(&mut pending).await, adds([2, 1, 0]));
    assert_eq!(list.read_all(&mut pending).await, []);
    list.push(3);
    list.pop();
    assert_eq!(list.read_all(&mut pending).await, adds([3]));
    while list.pop().is_some() {}
    assert_eq!(list.read_all(&mut pending).await, []);
    list.push(4);
    assert_eq!(list.read_all(&mut pending).await, adds([4]));
}

#[tokio::test]
async fn a_long_list_is_read_in_pages_and_only_once() {
    let (list, mut pending) = (List::default(), PendingOutbox::default());
    (0..10_000).for_each(|number| list.push(number));
    assert_eq!(list.read_all(&mut pending).await, adds((0..10_000).rev()));
    *list.read.lock().unwrap() = 0;
    list.push(10_000);
    assert_eq!(list.read_all(&mut pending).await, adds([10_000]));
    assert_eq!(*list.read.lock().unwrap(), HEAD);
}

#[tokio::test]
async fn reading_goes_on_where_it_stopped() {
    let (list, mut pending) = (List::default(), PendingOutbox::default());
    (0..10_000).for_each(|number| list.push(number));
    let mut found = BTreeSet::new();
    let mut tries = 0;
    let mut pushed = 10_000;
    loop {
        let end = list.read(&mut pending, 3).await;
        found.extend(pending.take().iter().chain(end.iter().flatten()).map(|e| format!("{e:?}")));
        if end.is_ok() {
            break;
        }
        list.push(pushed);
        (pushed, tries) = (pushed + 1, tries + 1);
    }
    assert!(tries > 3, "{tries}");
    assert!(*list.read.lock().unwrap() < 11_000, "read twice");
}

#[tokio::test]
async fn more_than_fits_the_head_since_last_time_is_read_all_the_same() {
    let (list, mut pending) = (List::default(), PendingOutbox::default());
    list.push(0);
    list.read_all(&mut pending).await;
    for count in [LANDMARK, HEAD - 1, HEAD, HEAD + 1, 3 * PAGE] {
        let from = list.entries.lock().unwrap().len();
        (from..from + count).for_each(|number| list.push(number));
        let found = list.read_all(&mut pending).await;
        let missing = (from..from + count).find(|number| !found.contains(&add(*number)));
        assert_eq!(missing, None, "{count}");
    }
}

#[tokio::test]
async fn garbage_and_unrevocations_are_skipped() {
    let (list, mut pending) = (List::default(), PendingOutbox::default());
    for text in ["", "{invalid", "[]", r#"{"type":"remove","jti":"1"}"#, r#"{"type":"probe"}"#] {
        list.entries.lock().unwrap().push_front(text.to_owned());
    }
    list.push(7);
    assert_eq!(list.read_all(&mut pending).await, adds([7]));
}

#[tokio::test]
async fn a_snapshot_skips_a_revocation_behind_its_unrevocation() {
    let unrevoke = |number| format!(r#"{{"type":"remove","jti":"{number}"}}"#);
    let un_cut = r#"{"type":"lift","sub":"alice"}"#.to_owned();
    let cut_off = r#"{"type":"cutoff","sub":"alice","issued_before":1}"#.to_owned();
    let list = List::default();
    let push = |text| list.entries.lock().unwrap().push_front(text);
    for text in [entry(1), cut_off, unrevoke(1), un_cut, entry(2), unrevoke(3), entry(3)] {
        push(text);
    }
    (1_000..4_000).for_each(|number| list.push(number));
    push(unrevoke(1_000));
    push(unrevoke(2_000));
    push(entry(2_000));
    *list.answers_left.lock().unwrap() = usize::MAX;
    let mut pending = PendingOutbox::default();
    pending.read(&keys(), &list).await.unwrap();
    // Revoked again after their un-revocations, 3 and 2000 hold.
    let others = (1_001..4_000).rev().filter(|number| *number != 2_000);
    assert_eq!(pending.take_valid(), adds([2_000].into_iter().chain(others).chain([3, 2])));
    // The first reading of new entries takes all of them: it cannot miss one.
    let all = list.read_all(&mut PendingOutbox::default()).await;
    assert_eq!(all.len(), 3_000 + 5);
}

#[test]
fn what_is_behind_entries_that_a_relay_pushed_back_is_found() {
    let entries = |numbers: &[usize]| numbers.iter().map(|n| entry(*n).into_bytes()).collect();
    let start = Instant::now();
    let mut pending = PendingOutbox::default();
    pending.see_head(5, entries(&[5, 4, 3, 2, 1]), start);
    pending.take();
    // 6 was pushed, 1 to 4 were popped, 5 was popped and pushed back, then more was pushed.
    let mut head: Vec<_> = (7..70).rev().collect();
    head.push(5);
    pending.see_head(65, entries(&head), start);
    assert_eq!(pending.unread, Some(HEAD));
}

#[test]
fn what_was_read_long_ago_is_no_landmark() {
    let head = || (0..HEAD).map(|number| entry(number).into_bytes()).collect::<Vec<_>>();
    let start = Instant::now();
    let mut pending = PendingOutbox::default();
    for (after, unread) in
        [(Duration::ZERO, Some(HEAD)), (MEMORY, None), (MEMORY * 2, None), (MEMORY * 4, Some(HEAD))]
    {
        pending.see_head(1_000, head(), start + after);
        assert_eq!(pending.unread.take(), unread, "{after:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    PushAgain,
    Pop,
    PushBack,
    Read { round_trips: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..150_usize).prop_map(Step::Push),
        1 => Just(Step::PushAgain),
        3 => Just(Step::Pop),
        2 => Just(Step::PushBack),
        4 => (0..5_usize).prop_map(|round_trips| Step::Read { round_trips }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    /// Whatever publishers and relays do: when a reading succeeds, everything on the list has been
    /// found, then or before.
    #[test]
    fn nothing_that_is_parked_is_missed(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (list, mut pending) = (List::default(), PendingOutbox::default());
        let (mut pushed, mut found) = (0, BTreeSet::new());
        for step in steps {
            match step {
                Step::Push(count) => {
                    (pushed..pushed + count).for_each(|number| list.push(number));
                    pushed += count;
                }
                Step::PushAgain => list.push(pushed.saturating_sub(1)),
                Step::Pop => drop(list.pop()),
                Step::PushBack => {
                    if let Some(entry) = list.pop() {
                        list.entries.lock().unwrap().push_front(entry);
                    }
                }
                Step::Read { round_trips } => {
                    let read = runtime.block_on(list.read(&mut pending, round_trips));
                    let events = read.as_ref().map_or_else(|_| pending.take(), Clone::clone);
                    for event in events {
                        let Event::Add { token_id, .. } = event else { panic!("not an add") };
                        found.insert(token_id.key());
                    }
                    if read.is_ok() {
                        for entry in list.entries.lock().unwrap().iter() {
                            let Event::Add { token_id, .. } =
                                Event::parse(entry.as_bytes()).unwrap()
                            else {
                                panic!("not an add")
                            };
                            prop_assert!(found.contains(&token_id.key()), "{entry} was missed");
                        }
                    }
                }
            }
        }
    }
}
