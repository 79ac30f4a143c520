//! Tests of the reader models against the results of the real servers, from the tables in
//! `readers/`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::readers::{Reader, in_tables, one_mark};

/// How a reader read the lines of the corpus; `None` where it refused or redirected.
#[derive(Debug, Deserialize)]
struct Table {
    targets: BTreeMap<String, Option<String>>,
    hosts: BTreeMap<String, Option<String>>,
    methods: BTreeMap<String, Option<String>>,
    headers: BTreeMap<String, Option<Vec<String>>>,
}

fn table(reader: &Reader) -> Table {
    let text = match reader.table {
        Some("node") => include_str!("../../readers/node.json"),
        Some("go") => include_str!("../../readers/go.json"),
        Some("python") => include_str!("../../readers/python.json"),
        Some("java") => include_str!("../../readers/java.json"),
        table => panic!("there is no table {table:?}"),
    };
    let mut tables: BTreeMap<String, Value> = serde_json::from_str(text).expect("a table is JSON");
    let table = tables.remove(reader.name);
    let table = table.unwrap_or_else(|| panic!("no table for `{}`", reader.name));
    serde_json::from_value(table).unwrap_or_else(|error| panic!("{}: {error}", reader.name))
}

/// A line of the corpus, whose characters represent bytes.
fn bytes(line: &str) -> Vec<u8> {
    line.chars().map(|c| u8::try_from(u32::from(c)).expect("the corpus is Latin-1")).collect()
}

/// The differences between a model and its server.
fn differences(reader: &Reader) -> Vec<String> {
    let table = table(reader);
    let mut found = Vec::new();
    let mut compare = |part: &str, line: &str, seen: &str, model: Option<String>| {
        if model.as_deref().map(one_mark) != Some(one_mark(seen)) {
            found.push(format!("{} {part} {line:?}: {seen:?}, not {model:?}", reader.name));
        }
    };
    // Proxies send no other form of target, and none that has a blank.
    let is_sent = |line: &String| line.starts_with('/') && !line.contains(' ');
    let targets = table.targets.iter().filter(|(line, _)| is_sent(line));
    for (line, seen) in targets.filter_map(|(line, seen)| Some((line, seen.as_ref()?))) {
        compare("target", line, seen, (reader.path)(&bytes(line)));
    }
    for (line, seen) in table.hosts.iter().filter_map(|(line, seen)| Some((line, seen.as_ref()?))) {
        // White space around a value is not part of it.
        let model = (reader.host)(bytes(line).trim_ascii());
        compare("host", line, seen.trim_ascii(), model.map(|host| host.trim_ascii().to_owned()));
    }
    for (line, seen) in table.methods.iter().filter_map(|(line, seen)| Some((line, seen.as_ref()?)))
    {
        compare("method", line, seen, (reader.method)(&bytes(line)));
    }
    for (line, seen) in table.headers.iter().filter_map(|(line, seen)| Some((line, seen.as_ref()?)))
    {
        if let [seen] = &seen[..] {
            compare("header", line, seen, (reader.header)(&bytes(line)));
        }
    }
    found
}

#[test]
fn the_models_read_like_the_servers() {
    let found: Vec<_> = in_tables().flat_map(|reader| differences(&reader)).collect();
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_tables_cover_each_line_of_the_corpus() {
    #[derive(Deserialize)]
    struct Corpus {
        targets: Vec<String>,
        hosts: Vec<String>,
        methods: Vec<String>,
        headers: Vec<String>,
    }
    let corpus: Corpus = serde_json::from_str(include_str!("../../readers/corpus.json")).unwrap();
    for reader in in_tables() {
        let table = table(&reader);
        let complete = corpus.targets.iter().all(|line| table.targets.contains_key(line))
            && corpus.hosts.iter().all(|line| table.hosts.contains_key(line))
            && corpus.methods.iter().all(|line| table.methods.contains_key(line))
            && corpus.headers.iter().all(|line| table.headers.contains_key(line));
        assert!(complete, "the table of `{}` is older than the corpus", reader.name);
    }
}
