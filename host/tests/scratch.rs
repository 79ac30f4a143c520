use portcullis::{policy::*, attributes::*, decision::*};
use std::{collections::BTreeMap, time::{Duration, Instant}};
fn ask(file: &str, settings: &str, path: &str) -> Result<Evaluation, String> {
    let policies = BTreeMap::from([("p".to_owned(), PolicyConfig { file: format!("../target/wasm32-wasip2/component/{file}").into() })]);
    let uses = BTreeMap::from([("p".to_owned(), vec![PolicyUse { route: "r".into(), settings: settings.into() }])]);
    let (p, ..) = build(&HostConfig::default(), &policies, &uses).map_err(|e| e.to_string())?;
    let headers = Headers::default(); let peer = Peer::default(); let md = serde_json::Map::new();
    let input = Input { route: "r", method: "GET", scheme: "https", host: "h", path, raw_path: path, query: None, headers: &headers, context: &[], metadata: &md, identity: None, source: &peer, body: None };
    let h = p.handle("p", 0).unwrap();
    let t = Instant::now();
    let e = h.evaluate(&input, Duration::from_millis(20));
    eprintln!("{settings} first {:?}", t.elapsed());
    let t = Instant::now(); for _ in 0..1000 { std::hint::black_box(h.evaluate(&input, Duration::from_millis(20))).outcome.ok(); if t.elapsed() > Duration::from_millis(500) {break;} } eprintln!("  1000x {:?}", t.elapsed());
    let ok = Input { path: "/fine", ..input };
    eprintln!("  next {:?}", h.evaluate(&ok, Duration::from_millis(20)).outcome.is_ok());
    Ok(e)
}
#[test] fn all() {
    for a in ["spin","grow_memory","recurse","panic","huge_reply","huge_settings_error","configure_trap","configure_spin","remember","bad_header","pseudo_header","bad_status","grow_table"] {
        let s = format!("{{\"attack\":\"{a}\",\"when_path\":\"/attack\"}}");
        let r = ask("hostile_guest.wasm", &s, "/attack");
        eprintln!("{a}: {:.300}", format!("{r:?}"));
    }
    for f in ["portcullis_rules.wasm","portcullis_maintenance.wasm","portcullis_owner_only.wasm"] { eprintln!("{:?}", inspect(&HostConfig::default(), format!("../target/wasm32-wasip2/component/{f}").as_ref())); }
}
