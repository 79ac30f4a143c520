//! Query parameters that a decision sets or removes: percent-encoding, and every spelling of a
//! parameter in the request.

use portcullis_types::{
    attributes::{AmbiguousQuery, parameters_like},
    decision::Allow,
};

use super::super::percent::push_escape;

/// Encodes what `allow` sets, and names what it removes as the request spells it. `raw` is the query
/// without the question mark.
///
/// # Errors
/// When servers would not agree on where a parameter that matters begins, or what it is called.
pub(in crate::authorizer) fn rewrite(
    allow: &mut Allow,
    raw: Option<&str>,
) -> Result<(), AmbiguousQuery> {
    if allow.set_query_parameters.is_empty() && allow.remove_query_parameters.is_empty() {
        return Ok(());
    }
    let mut set: Vec<(String, String)> = Vec::new();
    for (key, value) in std::mem::take(&mut allow.set_query_parameters) {
        // As with headers, the last one counts.
        set.retain(|(earlier, _)| *earlier != key);
        set.push((key, value));
    }
    let removed = std::mem::take(&mut allow.remove_query_parameters);
    let keys: Vec<&str> =
        set.iter().map(|(key, _)| key.as_str()).chain(removed.iter().map(String::as_str)).collect();
    let mut spellings: Vec<String> = Vec::new();
    for (name, _) in parameters_like(raw.unwrap_or_default(), &keys)? {
        if !spellings.iter().any(|known| known == name) {
            spellings.push(name.to_owned());
        }
    }
    let set: Vec<_> =
        set.iter().map(|(key, value)| (percent_encoded(key), percent_encoded(value))).collect();
    // Envoy removes after it sets, and sets in place of what has the same spelling.
    spellings.retain(|spelling| set.iter().all(|(key, _)| key != spelling));
    allow.set_query_parameters = set;
    allow.remove_query_parameters = spellings;
    Ok(())
}

/// Text of which every server that decodes it makes the same: all but the unreserved characters of
/// RFC 3986 section 2.3 is encoded. An Envoy with `validate_mutations` refuses every `%`, so the files of
/// `deploy` leave that off.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            push_escape(&mut encoded, byte);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use portcullis_types::attributes::decoded_name as decoded;
    use proptest::prelude::*;

    use super::*;

    type Rewritten = Result<(Vec<(String, String)>, Vec<String>), AmbiguousQuery>;

    fn rewritten(set: &[(&str, &str)], remove: &[&str], query: &str) -> Rewritten {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let mut allow = Allow {
            set_query_parameters: set.iter().map(pair).collect(),
            remove_query_parameters: remove.iter().map(|key| (*key).to_owned()).collect(),
            ..Allow::default()
        };
        rewrite(&mut allow, Some(query))?;
        Ok((allow.set_query_parameters, allow.remove_query_parameters))
    }

    #[test]
    fn what_is_set_is_encoded_and_the_last_one_counts() {
        let (set, removed) =
            rewritten(&[("user", "b"), ("a b", "c#d"), ("user", "a&role=admin é")], &[], "")
                .unwrap();
        let expected = [("a%20b", "c%23d"), ("user", "a%26role%3Dadmin%20%C3%A9")];
        assert_eq!(set, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(removed, Vec::<String>::new());
    }

    #[test]
    fn every_spelling_of_a_parameter_is_removed() {
        for (query, expected) in [
            ("debug=1&x=2", &["debug"] as &[&str]),
            ("%64ebug=1&x=2&debu%67", &["%64ebug", "debu%67"]),
            ("debug", &["debug"]),
            ("debug[]=1&debug[a]=2&debug%5B%5D=3", &["debug[]", "debug[a]", "debug%5B%5D"]),
            ("+debug=1&%20debug=2", &["+debug", "%20debug"]),
            ("Debug=1&%44ebug=1&debugs=2&x=debug&x%3Ddebug", &["Debug", "%44ebug"]),
            ("x=%zz&y=;&debug=1", &["debug"]),
            ("", &[]),
        ] {
            let (_, removed) = rewritten(&[], &["debug"], query).unwrap();
            assert_eq!(removed, expected, "{query}");
        }
        let (_, removed) = rewritten(&[], &["a_b"], "a.b=1&a+b=2&a%5Fb=3&a-b=4").unwrap();
        assert_eq!(removed, ["a.b", "a+b", "a%5Fb"]);
        let (_, removed) =
            rewritten(&[], &["f[a]"], "f[a]=1&f[b]=2&f%5Ba%5D=3&f[a]x=4&f=5").unwrap();
        assert_eq!(removed, ["f[a]", "f%5Ba%5D", "f[a]x"]);
        let query = "de[ug=1&de%5Bug=2&de%5bug=3&+de[ug=4&de[u]g=5&de[=6&de[ugs=7";
        let (_, removed) = rewritten(&[], &["de_ug"], query).unwrap();
        assert_eq!(removed, ["de[ug", "de%5Bug", "de%5bug", "+de[ug"]);
        let (_, removed) = rewritten(&[], &["a_b_c"], "a[b[c=1&a[b.c=2&a.b[c=3").unwrap();
        assert_eq!(removed, ["a[b[c", "a[b.c", "a.b[c"]);
        let (_, removed) = rewritten(&[], &["a[b"], "a_b=1&a.b=2&a[b=3&a[b]=4").unwrap();
        assert_eq!(removed, ["a_b", "a.b", "a[b"]);
        let (_, removed) =
            rewritten(&[], &["debug"], "[debug]=1&%5Bdebug%5D=2&debug]=3&[x]=4").unwrap();
        assert_eq!(removed, ["[debug]", "%5Bdebug%5D", "debug]"]);
    }

    #[test]
    fn what_is_set_replaces_every_spelling_and_is_not_removed() {
        let (set, removed) =
            rewritten(&[("role", "user")], &["role"], "%72ole=admin&role=x&role[]=y").unwrap();
        assert_eq!(set, [("role".to_owned(), "user".to_owned())]);
        assert_eq!(removed, ["%72ole", "role[]"]);
    }

    #[test]
    fn a_query_that_servers_read_differently_is_refused() {
        for query in [
            "x=1;role=admin",
            "role;x=1",
            "x;%72ole=1",
            "r%6=1",
            "r%u006fle=1",
            "role%00x=1",
            "x=1#&role=admin",
        ] {
            assert_eq!(rewritten(&[("role", "user")], &[], query), Err(AmbiguousQuery), "{query}");
            assert_eq!(rewritten(&[], &["role"], query), Err(AmbiguousQuery), "{query}");
            assert!(rewritten(&[], &[], query).is_ok(), "{query} is left as it is");
        }
        assert!(rewritten(&[], &["role"], "x=1;y=2").is_ok());
    }

    /// As Envoy edits a query, and then as a server reads it.
    fn read(query: &str, (set, removed): (Vec<(String, String)>, Vec<String>)) -> Vec<Vec<u8>> {
        let kept =
            query.split('&').filter_map(|parameter| parameter.split('=').next()).filter(|name| {
                !removed.iter().any(|gone| gone == name) && !set.iter().any(|(key, _)| key == name)
            });
        let mut names: Vec<_> = kept.map(|name| decoded(name).unwrap()).collect();
        names.extend(set.iter().map(|(key, _)| decoded(key).unwrap()));
        names
    }

    /// The variable that PHP makes of a decoded name, as `php_register_variable_ex` reads it. Versions
    /// differ in whether they replace what follows a bracket that nothing closes.
    fn php(name: &[u8], replaces_rest: bool) -> Vec<u8> {
        let mut variable = Vec::new();
        let mut rest = name.iter().copied().skip_while(|byte| *byte == b' ').collect::<Vec<_>>();
        while !rest.is_empty() {
            match rest.remove(0) {
                b' ' | b'.' => variable.push(b'_'),
                // A name that begins with a bracket is not a variable.
                b'[' if variable.is_empty() => break,
                b'[' if rest.contains(&b']') => break,
                b'[' => {
                    variable.push(b'_');
                    let replaced = |byte| if b" .[".contains(&byte) { b'_' } else { byte };
                    let kept = |byte| if replaces_rest { replaced(byte) } else { byte };
                    variable.extend(rest.drain(..).map(kept));
                }
                byte => variable.push(byte),
            }
        }
        variable
    }

    proptest! {
        #[test]
        fn php_reads_a_parameter_that_is_set_once_and_a_removed_one_never(
            query in "(de|ug|_|\\.|\\+|%20|%2E|\\[|%5B|\\]|%5d|=|&|x){0,14}",
            replaces_rest: bool,
        ) {
            let Ok(set) = rewritten(&[("de_ug", "1")], &[], &query) else { return Ok(()) };
            let is_read = |name: &Vec<u8>| php(name, replaces_rest) == b"de_ug";
            prop_assert_eq!(read(&query, set).iter().filter(|name| is_read(name)).count(), 1);
            let removed = rewritten(&[], &["de_ug"], &query).unwrap();
            prop_assert_eq!(read(&query, removed).iter().filter(|name| is_read(name)).count(), 0);
        }

        #[test]
        fn a_parameter_that_is_set_is_there_once_and_a_removed_one_never(
            query in "(%72|r|ole|o%6Ce|role|=|&|x|\\[|\\+|;|a){0,12}",
        ) {
            let Ok(set) = rewritten(&[("role", "user")], &[], &query) else { return Ok(()) };
            let names = read(&query, set);
            prop_assert_eq!(names.iter().filter(|name| **name == b"role").count(), 1);
            let removed = rewritten(&[], &["role"], &query).unwrap();
            prop_assert!(read(&query, removed).iter().all(|name| name != b"role"));
        }

        #[test]
        fn what_is_encoded_decodes_to_itself(text in "\\PC{0,12}") {
            let encoded = percent_encoded(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(decoded(&encoded).unwrap(), text.as_bytes());
        }
    }
}
