//! Reference of the configuration in `docs/`. It is derived from the schema, so it cannot differ
//! from what the binary reads.

use std::fmt::Write;

use serde_json::Value;

const INTRODUCTION: &str = "\
# Configuration

One YAML file; `portcullis serve --config FILE` reads it, `portcullis check-config` checks it together with
the keys and the policies that it names. Unknown keys are refused. `portcullis config schema` prints a JSON
Schema for editors, `portcullis config reference` prints this page.

Keys can be set from the environment: `PORTCULLIS__` and the key, with `__` for each level and numbers
for the elements of lists, which the file must have. `PORTCULLIS__SHUTDOWN__GRACE=10s` sets `shutdown.grace`,
`PORTCULLIS__ROUTES__0__DEADLINE=5ms` the deadline of the first route. Values are YAML. Names are read in lower
case, so a key with capitals, such as an issuer called `Main`, can be set in the file only.
";

/// The reference as Markdown.
#[must_use]
pub fn reference() -> String {
    let schema = super::schema();
    let mut page = INTRODUCTION.to_owned();
    let mut pending = vec![("The file".to_owned(), schema.clone())];
    let mut done: Vec<String> = Vec::new();
    while !pending.is_empty() {
        let (name, section) = pending.remove(0);
        if done.contains(&name) {
            continue;
        }
        write_section(&mut page, &name, &section);
        for reference in references(&section) {
            if let Some(definition) = schema.pointer(&format!("/$defs/{reference}")) {
                pending.push((reference, definition.clone()));
            }
        }
        done.push(name);
    }
    page
}

fn write_section(page: &mut String, name: &str, section: &Value) {
    // Writing to a String cannot fail, here and below.
    let _ = write!(page, "\n## {name}\n");
    if let Some(description) = section["description"].as_str() {
        let _ = write!(page, "\n{}\n", flat(description));
    }
    if let Some(properties) = section["properties"].as_object() {
        page.push_str("\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
        for (key, property) in properties {
            let meaning = flat(property["description"].as_str().unwrap_or_default());
            let _ = writeln!(
                page,
                "| `{key}` | {} | {} | {meaning} |",
                kind(property),
                default(section, key, property),
            );
        }
    }
    for (value, meaning) in choices(section) {
        let _ = write!(page, "\n- {value}: {meaning}");
        if meaning.is_empty() {
            page.truncate(page.trim_end_matches(": ").len());
        }
    }
    if !choices(section).is_empty() {
        page.push('\n');
    }
}

/// The alternatives of an enumeration.
fn choices(section: &Value) -> Vec<(String, String)> {
    let variants = section["oneOf"].as_array().or_else(|| section["anyOf"].as_array());
    let named = variants.into_iter().flatten().map(|variant| {
        let value = match variant["const"].as_str() {
            Some(value) => format!("`{value}`"),
            None => kind(variant),
        };
        (value, flat(variant["description"].as_str().unwrap_or_default()))
    });
    let plain = section["enum"].as_array().into_iter().flatten();
    let plain = plain.filter_map(Value::as_str).map(|value| (format!("`{value}`"), String::new()));
    named.chain(plain).collect()
}

fn kind(property: &Value) -> String {
    if let Some(reference) = referenced(property) {
        return format!("[{reference}](#{})", reference.to_lowercase());
    }
    if let Some(variants) = property["anyOf"].as_array() {
        let kinds = variants.iter().filter(|variant| variant["type"] != "null").map(kind);
        return kinds.collect::<Vec<_>>().join(" or ");
    }
    let types: Vec<&str> = match &property["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect()
        }
        _ => return "anything".to_owned(),
    };
    match types.as_slice() {
        ["array"] => format!("list of {}", kind(&property["items"])),
        ["object"] => match &property["additionalProperties"] {
            Value::Object(_) => format!("map to {}", kind(&property["additionalProperties"])),
            _ => "map".to_owned(),
        },
        types => types.join(" or "),
    }
}

fn default(section: &Value, key: &str, property: &Value) -> String {
    let required = section["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
    match &property["default"] {
        _ if required => "required".to_owned(),
        Value::Null => "–".to_owned(),
        // A section's own table tells its defaults.
        Value::Object(_) if referenced(property).is_some() => "see there".to_owned(),
        Value::Object(map) if map.is_empty() => "none".to_owned(),
        Value::String(text) => format!("`{text}`"),
        value => format!("`{value}`"),
    }
}

fn referenced(property: &Value) -> Option<&str> {
    property["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// Every definition that `value` refers to, in order.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let own = referenced(value).map(str::to_owned);
            own.into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// One line, safe inside a table.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_docs_is_what_the_binary_reads() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == reference(),
            "docs/configuration.md is out of date; run `make reference` and commit the result"
        );
    }

    #[test]
    fn every_link_leads_to_a_section() {
        let page = reference();
        let anchors: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .map(|name| name.to_lowercase().replace(' ', "-"))
            .collect();
        let links: Vec<_> =
            page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(links.len() > 50, "{} links", links.len());
        for link in links {
            assert!(anchors.iter().any(|anchor| anchor == link), "#{link} leads nowhere");
        }
    }

    #[test]
    fn every_choice_of_the_blacklist_has_a_default() {
        let page = reference();
        let section = page.split("\n## ").filter(|section| {
            ["Blacklist\n", "RabbitMq\n", "Redis\n"].iter().any(|name| section.starts_with(name))
        });
        let section: String = section.collect();
        for (key, default) in [
            ("mode", "`authoritative`"),
            ("while_stale", "`ask-redis`"),
            ("topology", "`stream`"),
            ("refresh", "see there"),
        ] {
            let line = section.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
            let line = line.unwrap_or_else(|| panic!("no key {key}"));
            assert!(line.contains(&format!(" | {default} | ")), "{line}");
        }
    }

    #[test]
    fn every_key_has_a_meaning() {
        for line in reference().lines().filter(|line| line.starts_with("| `")) {
            assert!(!line.ends_with("|  |"), "no doc comment: {line}");
        }
    }
}
