//! Tests of key reloads: files that change, move keys, go bad, vanish or hang while tokens are
//! verified.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use portcullis_runtime::{drain, telemetry::KeyMetrics};

use super::*;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// A reload waits for a file a little longer than this, and then goes on without it.
const WAIT: Duration = Duration::from_millis(900);

/// A reload may have gone on without a file, as on a busy machine.
struct WentOn;

/// Reads the files that have changed.
async fn reload(reloader: &mut KeyReloader) -> Result<(), WentOn> {
    let begun = Instant::now();
    reloader.reload_changed().await.unwrap();
    if begun.elapsed() < WAIT { Ok(()) } else { Err(WentOn) }
}

/// Repeats a scenario until each reload in it has waited for all files.
async fn undisturbed(mut scenario: impl AsyncFnMut() -> Result<(), WentOn>) {
    for _ in 0..10 {
        if scenario().await.is_ok() {
            return;
        }
    }
    panic!("a reload took longer than {WAIT:?} each time");
}

fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn token(signer: &Signer, kid: &str) -> String {
    signer.token_with_header(Algorithm::ES256, &json!({ "kid": kid }), &claims(json!({})))
}

/// An issuer with two JWKS files, whose failures are counted.
struct TwoFiles {
    files: Files,
    single: Single,
    metrics: KeyMetrics,
}

impl TwoFiles {
    fn new(first: &[Value], second: &[Value]) -> Self {
        let files = Files::new();
        let keys = json!([files.jwks("first", first), files.jwks("second", second)]);
        let mut single = Single::new(keys, json!({}));
        let metrics = KeyMetrics::default();
        single.reloader = single.reloader.report_to(&metrics);
        Self { files, single, metrics }
    }

    async fn reload(&mut self) -> Result<(), WentOn> {
        reload(&mut self.single.reloader).await
    }

    fn verdicts<const N: usize>(&self, tokens: [&str; N]) -> [&'static str; N] {
        tokens.map(|token| self.single.verdict(token))
    }

    /// Failures so far, and files that fail now.
    fn failures(&self) -> (u64, u64) {
        let main = self.metrics.issuer("main");
        (main.failures(), main.failing())
    }
}

#[tokio::test]
async fn a_removed_key_verifies_nothing_any_more_not_even_remembered_tokens() {
    undisturbed(async || {
        let (files, old, new) = (Files::new(), Signer::p256(), Signer::p256());
        let (old_jwk, new_jwk) = (old.jwk(json!({"kid": "old"})), new.jwk(json!({"kid": "new"})));
        let mut single =
            Single::new(json!([files.jwks("jwks", std::slice::from_ref(&old_jwk))]), json!({}));
        let (old, new) = (token(&old, "old"), token(&new, "new"));
        assert_eq!((single.verdict(&old), single.verdict(&new)), ("ok", "unknown_key"));

        files.replace("jwks", jwks(&[old_jwk, new_jwk.clone()]));
        reload(&mut single.reloader).await?;
        assert_eq!((single.verdict(&old), single.verdict(&new)), ("ok", "ok"));

        files.replace("jwks", jwks(&[new_jwk]));
        reload(&mut single.reloader).await?;
        assert_eq!((single.verdict(&old), single.verdict(&new)), ("unknown_key", "ok"));
        assert_eq!(single.verifier.key_generation(), 2);

        files.replace("jwks", jwks(&[]));
        reload(&mut single.reloader).await?;
        assert_eq!((single.verdict(&old), single.verdict(&new)), ("unknown_key", "unknown_key"));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_changed_secret_takes_the_place_of_the_old_one() {
    undisturbed(async || {
        let files = Files::new();
        let mut single = Single::hmac(&files, json!({}));
        let old = Signer::hmac().token(Algorithm::HS256, &claims(json!({})));
        assert_eq!(single.verdict(&old), "ok");
        files.write("secret", [b'y'; 33]);
        reload(&mut single.reloader).await?;
        assert_eq!(single.verdict(&old), "bad_signature");
        let new = Signer::Hmac(vec![b'y'; 33]).token(Algorithm::HS256, &claims(json!({})));
        assert_eq!(single.verdict(&new), "ok");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_moves_from_one_file_to_another_is_never_lost() {
    undisturbed(async || {
        let (k1, k2, k3) = (Signer::p256(), Signer::p256(), Signer::p256());
        let jwk = |signer: &Signer, kid: &str| signer.jwk(json!({ "kid": kid }));
        let tokens = [token(&k1, "k1"), token(&k2, "k2"), token(&k3, "k3")];
        let tokens = [tokens[0].as_str(), &tokens[1], &tokens[2]];
        // In the order of the files and against it.
        for swapped in [false, true] {
            let name = |first: bool| if first == swapped { "second" } else { "first" };
            let (current, next) = ([jwk(&k1, "k1")], [jwk(&k2, "k2")]);
            let mut two = if swapped {
                TwoFiles::new(&next, &current)
            } else {
                TwoFiles::new(&current, &next)
            };
            assert_eq!(two.verdicts(tokens), ["ok", "ok", "unknown_key"]);
            two.files.replace(name(true), jwks(&[jwk(&k2, "k2")]));
            two.files.replace(name(false), jwks(&[jwk(&k3, "k3")]));
            two.reload().await?;
            assert_eq!(two.verdicts(tokens), ["unknown_key", "ok", "ok"], "swapped: {swapped}");
            assert_eq!(two.failures(), (0, 0));
            assert_eq!(two.single.verifier.key_generation(), 1, "one swap for both files");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_link_flip_of_a_volume_moves_keys_at_once() {
    undisturbed(async || {
        let (k1, k2, k3) = (Signer::p256(), Signer::p256(), Signer::p256());
        let files = Files::new();
        let volume = |version: &str, current: &Signer, next: &Signer, kids: [&str; 2]| {
            std::fs::create_dir(files.path(version)).unwrap();
            for (name, signer, kid) in [("current", current, kids[0]), ("next", next, kids[1])] {
                let keys = jwks(&[signer.jwk(json!({ "kid": kid }))]);
                files.write(&format!("{version}/{name}"), keys);
            }
        };
        volume("v1", &k1, &k2, ["k1", "k2"]);
        volume("v2", &k2, &k3, ["k2", "k3"]);
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, files.path(name)).unwrap();
        };
        link("v1", "..data");
        let keys = ["current", "next"].map(|name| {
            link(&format!("..data/{name}"), name);
            json!({ "jwks_file": files.path(name) })
        });
        let mut single = Single::new(json!(keys), json!({}));
        let tokens = [token(&k1, "k1"), token(&k2, "k2"), token(&k3, "k3")];
        let verdicts = |single: &Single| tokens.each_ref().map(|token| single.verdict(token));
        assert_eq!(verdicts(&single), ["ok", "ok", "unknown_key"]);
        link("v2", "..data_tmp");
        std::fs::rename(files.path("..data_tmp"), files.path("..data")).unwrap();
        reload(&mut single.reloader).await?;
        assert_eq!(verdicts(&single), ["unknown_key", "ok", "ok"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_keys_and_is_tried_again_until_it_is_good() {
    undisturbed(async || {
        let (signer, other) = (Signer::p256(), Signer::p256());
        let jwk = signer.jwk(json!({"kid": "a"}));
        let mut two = TwoFiles::new(&[jwk], &[]);
        let good = token(&signer, "a");
        let unusable = jwks(&[Signer::hmac().jwk(json!({}))]);
        let mut failures = 0;
        for bad in ["", "{\"keys\": [", "{}", "not JSON", unusable.as_str()] {
            two.files.replace("first", bad);
            for _ in 0..2 {
                two.reload().await?;
                failures += 1;
                assert_eq!(two.single.verdict(&good), "ok", "{bad}");
                // Tried again, though it has not changed.
                assert_eq!(two.failures(), (failures, 1), "{bad}");
            }
        }
        std::fs::remove_file(two.files.path("first")).unwrap();
        two.reload().await?;
        assert_eq!((two.single.verdict(&good), two.failures()), ("ok", (failures + 1, 1)));
        assert_eq!(two.single.verifier.key_generation(), 0);

        two.files.replace("first", jwks(&[other.jwk(json!({"kid": "b"}))]));
        two.reload().await?;
        assert_eq!(two.verdicts([&good, &token(&other, "b")]), ["unknown_key", "ok"]);
        assert_eq!(two.failures(), (failures + 1, 0));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_comes_back_as_it_was_is_good_again() {
    undisturbed(async || {
        let signer = Signer::p256();
        let mut two = TwoFiles::new(&[signer.jwk(json!({"kid": "a"}))], &[]);
        let (path, aside) = (two.files.path("first"), two.files.path("aside"));
        std::fs::rename(&path, &aside).unwrap();
        two.reload().await?;
        assert_eq!(two.failures(), (1, 1));
        std::fs::rename(&aside, &path).unwrap();
        two.reload().await?;
        assert_eq!((two.single.verdict(&token(&signer, "a")), two.failures()), ("ok", (1, 0)));
        assert_eq!(two.single.verifier.key_generation(), 0, "the keys are the same");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_bad_file_does_not_keep_the_key_of_another_file_alive() {
    undisturbed(async || {
        let (a, b) = (Signer::p256(), Signer::p256());
        let mut two = TwoFiles::new(&[a.jwk(json!({"kid": "a"}))], &[b.jwk(json!({"kid": "b"}))]);
        let (of_a, of_b) = (token(&a, "a"), token(&b, "b"));
        assert_eq!(two.verdicts([&of_a, &of_b]), ["ok", "ok"]);
        two.files.replace("first", "broken");
        two.files.replace("second", jwks(&[b.jwk(json!({"kid": "c"}))]));
        two.reload().await?;
        assert_eq!(two.verdicts([&of_a, &of_b, &token(&b, "c")]), ["ok", "unknown_key", "ok"]);
        // An id that the other file has already: both are tried.
        two.files.replace("second", jwks(&[b.jwk(json!({"kid": "a"}))]));
        two.reload().await?;
        assert_eq!(two.verdicts([&of_a, &token(&b, "a")]), ["ok", "ok"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn unchanged_files_leave_what_is_remembered() {
    undisturbed(async || {
        let files = Files::new();
        let mut single = Single::hmac(&files, json!({}));
        let token = Signer::hmac().token(Algorithm::HS256, &claims(json!({})));
        assert_eq!(single.verdict(&token), "ok");
        reload(&mut single.reloader).await?;
        assert_eq!((single.verifier.cached_tokens(), single.verifier.key_generation()), (1, 0));
        Ok(())
    })
    .await;
}

/// Waits until a token gets this verdict.
async fn until(verifier: &Verifier, set: &IssuerSet, token: &str, expected: &str) {
    let reached = async {
        while verdict(verifier, set, token) != expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
}

#[tokio::test]
async fn the_task_follows_the_files_and_ends_with_the_drain() {
    let files = Files::new();
    let (drain, _dead) = drain::pair();
    let key = files.secret("secret", &[b'x'; 32]);
    let issuers = json!({ "main": { "keys": [key] } });
    let (verifier, reloader) = built(json!({ "key_reload_interval": "1ms", "issuers": issuers }));
    let set = verifier.issuer_set(&["main".to_owned()]).unwrap();
    drain.spawn("keys", reloader.run(drain.clone()));
    files.replace("secret", [b'y'; 32]);
    let token = Signer::Hmac(vec![b'y'; 32]).token(Algorithm::HS256, &claims(json!({})));
    until(&verifier, &set, &token, "ok").await;
    assert_eq!(drain.drain(PATIENCE).await, 0);
}

#[tokio::test]
async fn without_issuers_the_task_waits_for_the_drain() {
    let (drain, _dead) = drain::pair();
    let (_, reloader) = built(json!({}));
    drain.spawn("keys", reloader.run(drain.clone()));
    assert_eq!(drain.drain(PATIENCE).await, 0);
}

/// A file that is never read to its end, as on a volume that hangs, until this is dropped: a pipe that
/// a writer could still open.
struct Hanging(#[expect(dead_code, reason = "it is held open")] std::fs::File);

impl Hanging {
    fn new(files: &Files, name: &str) -> Self {
        let pipe = files.path("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let both_ends = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        std::fs::rename(pipe, files.path(name)).unwrap();
        Self(both_ends)
    }
}

#[tokio::test]
async fn a_file_that_hangs_holds_up_neither_other_files_nor_other_issuers_nor_the_end() {
    let files = Files::new();
    let (drain, _dead) = drain::pair();
    let (old, new) = (Signer::p256(), Signer::p256());
    let jwk = old.jwk(json!({"kid": "k"}));
    let issuers = json!({
        "hung": { "keys": [files.jwks("hangs", &[]), files.jwks("beside", std::slice::from_ref(&jwk))] },
        "other": { "keys": [files.jwks("other", &[jwk])] },
    });
    let (verifier, reloader) = built(json!({ "key_reload_interval": "5ms", "issuers": issuers }));
    let metrics = KeyMetrics::default();
    let reloader = reloader.report_to(&metrics);
    let set = |name: &str| verifier.issuer_set(&[name.to_owned()]).unwrap();
    let (hung, other) = (set("hung"), set("other"));
    let hanging = Hanging::new(&files, "hangs");
    drain.spawn("keys", reloader.run(drain.clone()));
    let replacement = jwks(&[new.jwk(json!({"kid": "k"}))]);
    files.replace("other", &replacement);
    until(&verifier, &other, &token(&new, "k"), "ok").await;
    until(&verifier, &other, &token(&old, "k"), "bad_signature").await;
    files.replace("beside", &replacement);
    until(&verifier, &hung, &token(&old, "k"), "bad_signature").await;
    assert_eq!(verdict(&verifier, &hung, &token(&new, "k")), "ok");
    // The hanging file is reported and counted.
    let noticed = async {
        while metrics.issuer("hung").failing() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.unwrap();
    assert_eq!(metrics.issuer("hung").failures(), 1, "once, however often it is looked at");
    assert_eq!(metrics.issuer("other").failing(), 0);
    assert_eq!(drain.drain(PATIENCE).await, 0, "the thread is not waited for");
    drop(hanging);
}

#[tokio::test]
async fn a_file_that_no_longer_hangs_is_read() {
    let files = Files::new();
    let (drain, _dead) = drain::pair();
    let signer = Signer::p256();
    let key = files.jwks("hangs", &[]);
    let issuers = json!({ "main": { "keys": [key] } });
    let (verifier, reloader) = built(json!({ "key_reload_interval": "1ms", "issuers": issuers }));
    let set = verifier.issuer_set(&["main".to_owned()]).unwrap();
    let hanging = Hanging::new(&files, "hangs");
    drain.spawn("keys", reloader.run(drain.clone()));
    files.replace("hangs", jwks(&[signer.jwk(json!({"kid": "k"}))]));
    drop(hanging);
    until(&verifier, &set, &token(&signer, "k"), "ok").await;
    assert_eq!(drain.drain(PATIENCE).await, 0);
}
