//! Differential test: random requests through a real Envoy, and how servers in Node, Go, Python and
//! Java read them on arrival. Two requests that one of them reads alike must be decided alike.
//!
//! A request that Envoy or Portcullis refuses as malformed or ambiguous is equal to every other:
//! what is not served cannot be misread. All others are allowed without a token, or need one. The
//! readers are models (`readers`), which `tables` compares with the results of the real servers.
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
        oracle.add(stage.send(site, &site.requests(run)).await);
        // How each reading is decided in its plain spelling.
        let plain = oracle.plain_spellings();
        oracle.add(stage.send_to_first(site, &plain).await);
        report.add(site, &oracle);
    }
    // Their logs would hide the findings.
    drop(stage);
    report.finish(run.seed);
}
