//! Parser of the header `x-forwarded-client-cert`: elements, and their keys and values.
//!
//! Elements are separated by commas, the pairs of one by semicolons. A value may be in quotation marks,
//! within which a backslash takes the next character as it is: Envoy writes subjects so (RFC 2253).

/// A key and its value, the quotation marks left out and escapes left in.
pub(super) type Pair<'h> = (&'h str, &'h str);

/// The elements of a header; `None` if it has another form.
pub(super) fn elements(header: &str) -> Option<Vec<Vec<Pair<'_>>>> {
    let mut elements = vec![Vec::new()];
    let mut rest = header;
    loop {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let (value, after) = value(after)?;
        elements.last_mut()?.push((key, value));
        match after.split_at_checked(1) {
            None => return after.is_empty().then_some(elements),
            Some((",", next)) => {
                elements.push(Vec::new());
                rest = next;
            }
            Some((";", next)) => rest = next,
            Some(_) => return None,
        }
    }
}

/// The value at the beginning of a text, and what follows it.
fn value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return (!value.contains('"')).then_some((value, after));
    };
    let mut is_escaped = false;
    let end = quoted.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    })?;
    let (value, after) = quoted.split_at(end);
    Some((value, after.strip_prefix('"')?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_and_pairs_are_told_apart_outside_of_quotation_marks() {
        let all = elements(
            r#"By=spiffe://a;Hash=00;Subject="/C=US/CN=a, b; c\",x=\"";URI=http://c,Hash=11;DNS="#,
        );
        let first = vec![
            ("By", "spiffe://a"),
            ("Hash", "00"),
            ("Subject", r#"/C=US/CN=a, b; c\",x=\""#),
            ("URI", "http://c"),
        ];
        assert_eq!(all, Some(vec![first, vec![("Hash", "11"), ("DNS", "")]]));
        // A name that ends in a backslash, as RFC 2253 writes it.
        let all = elements(r#"Subject="CN=a\\",Hash=11"#).unwrap();
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn what_has_another_form_is_refused() {
        for header in [
            "",
            ",",
            "Hash",
            "=a",
            "Hash=a,",
            "Hash=a;",
            ",Hash=a",
            "Hash=a, Hash=b",
            "Ha sh=a",
            r#"Hash=a"b""#,
            r#"Hash="a"#,
            r#"Hash="a\""#,
            r#"Hash="a"b"#,
            r#"Hash="a" ;By=b"#,
        ] {
            assert_eq!(elements(header), None, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_all_of_the_header(header in "(A|B|=|;|,|\"|\\\\|\u{e9}){0,20}") {
            if let Some(all) = elements(&header) {
                let quoted = |(key, value): &Pair<'_>| {
                    [format!("{key}={value}"), format!("{key}=\"{value}\"")]
                };
                // Written again with or without quotation marks, each pair is where it was.
                let mut rest = header.as_str();
                for (place, pair) in all.iter().flatten().enumerate() {
                    let rest_of = |rest: &'_ str| if place == 0 { 0 } else { rest.len().min(1) };
                    rest = &rest[rest_of(rest)..];
                    let [bare, quoted] = quoted(pair);
                    let length = if rest.starts_with(&bare) { bare.len() } else { quoted.len() };
                    prop_assert!(rest.starts_with(&bare) || rest.starts_with(&quoted));
                    rest = &rest[length..];
                }
                prop_assert_eq!(rest, "");
            }
        }

        #[test]
        fn a_client_writes_no_element_into_a_quoted_subject(subject in "\\PC{0,20}") {
            let escaped = subject.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Hash=00;Subject=\"{escaped}\";By=a");
            let all = elements(&header).unwrap();
            prop_assert_eq!(all.len(), 1);
            prop_assert_eq!(all[0].len(), 3);
        }
    }
}
