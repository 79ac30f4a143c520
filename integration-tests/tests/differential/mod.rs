//! Differential test: requests at random through a real Envoy, and how servers in Node, Go, Python and Java
//! read what arrives. Two requests that one of them reads alike must be decided alike.
//!
//! A request that Envoy or Portcullis refuses as malformed or ambiguous is alike with every other: what is
//! not served cannot be misread. What remains is let through without a token, or needs one. The readers
//! are models (`readers`), which `tables` compares with what the real servers did.
//!
//! `PORTCULLIS_TEST_SEED` and `PORTCULLIS_TEST_REQUESTS` choose other requests, or more of them.
#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test reports")]

mod envoys;
mod generate;
mod oracle;
mod random;
mod readers;
mod report;
mod sites;
mod stage;
mod tables;

use self::{oracle::Oracle, random::Run, report::Report, stage::Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_a_server_reads_alike_are_decided_alike() {
    let run = Run::from_environment();
    println!("PORTCULLIS_TEST_SEED={} PORTCULLIS_TEST_REQUESTS={}", run.seed, run.requests);
    let sites = sites::all();
    let stage = Stage::start(&sites).await;
    let mut report = Report::default();
    for site in &sites {
        let mut oracle = Oracle::new(site.readers());
        oracle.hear(stage.send(site, &site.requests(run)).await);
        // How each reading is decided when it is spelled as everybody would spell it.
        let plain = oracle.plain_spellings();
        oracle.hear(stage.send_to_first(site, &plain).await);
        report.add(site, &oracle);
    }
    // Their logs would hide what was found.
    drop(stage);
    report.finish(run.seed);
}
