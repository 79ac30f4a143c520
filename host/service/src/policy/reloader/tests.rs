//! Tests of a policy whose file hangs, beside others.

use std::sync::{
    Condvar,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use portcullis_runtime::drain;

use super::*;

/// A policy whose file can be made to hang.
#[derive(Default)]
struct Fake {
    hangs: Mutex<bool>,
    answers: Condvar,
    checks: AtomicUsize,
    loads: AtomicUsize,
    reported: AtomicUsize,
}

impl Fake {
    fn set_hanging(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
        self.answers.notify_all();
    }
}

impl Reloadable for Fake {
    fn reload_if_due(&self, in_any_case: bool) {
        self.checks.fetch_add(1, SeqCst);
        let hangs = self.hangs.lock().unwrap();
        drop(self.answers.wait_while(hangs, |hangs| *hangs).unwrap());
        self.loads.fetch_add(usize::from(in_any_case), SeqCst);
    }

    fn hangs(&self, _: Duration) {
        self.reported.fetch_add(1, SeqCst);
    }

    fn panicked(&self, error: &JoinError) {
        panic!("{error}");
    }
}

/// How long an attempt may take. Longer than a busy machine keeps one waiting that does not hang.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits that is to see a policy hang.
const BRIEFLY: Duration = Duration::from_secs(1);
const A_MINUTE: Duration = Duration::from_mins(1);

/// Lets one policy be kept up to date, and returns what asks for it.
fn follow_one(fake: &Arc<Fake>, drain: &Drain) -> mpsc::Sender<Done> {
    let (sender, requests) = mpsc::channel(MAX_REQUESTS);
    let times = Times { interval: Duration::from_millis(1), timeout: TIMEOUT };
    drain.spawn("policy", follow(Arc::clone(fake), requests, times));
    sender
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed() < A_MINUTE, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_file_that_hangs_is_reported_and_loaded_when_it_answers_and_others_go_on() {
    let (drain, _dead) = drain::pair();
    let (hung, well) = (Arc::<Fake>::default(), Arc::<Fake>::default());
    let hung_requests = follow_one(&hung, &drain);
    let well_requests = follow_one(&well, &drain);
    let policies: Arc<[_]> =
        [("hung".to_owned(), hung_requests), ("well".to_owned(), well_requests)].into();
    let reload = Reload { policies: Arc::clone(&policies), patience: BRIEFLY };
    hung.set_hanging(true);
    eventually("the file is checked", || hung.checks.load(SeqCst) > 0).await;

    let error = reload.reload().await.unwrap_err().to_string();
    assert!(error.contains("`hung`") && error.contains(": loading has not ended"), "{error}");
    eventually("the other one is loaded meanwhile", || well.loads.load(SeqCst) > 0).await;
    eventually("it is reported", || hung.reported.load(SeqCst) == 1).await;
    let checks = hung.checks.load(SeqCst);
    for _ in 0..100 {
        reload.request();
    }
    assert_eq!(hung.checks.load(SeqCst), checks, "one attempt at a time");

    hung.set_hanging(false);
    eventually("it is loaded again", || hung.loads.load(SeqCst) > 0).await;
    Reload { policies, patience: A_MINUTE }.reload().await.unwrap();
    assert_eq!(hung.reported.load(SeqCst), 1, "it was reported once");
}
