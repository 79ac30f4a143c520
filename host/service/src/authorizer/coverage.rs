//! Route coverage: whether an earlier route takes every request that a later one could get.
//!
//! It reports only what is certain: it compares routes one by one, not what several take together.

use super::{matcher::Matcher, pattern::Pattern};

impl Matcher {
    /// Whether every request that would be found to belong to `later` belongs to this route.
    pub(super) fn covers(&self, later: &Self) -> bool {
        if self.only_by_name || later.only_by_name || self.tcp != later.tcp {
            return false;
        }
        self.tcp
            || (includes(&self.hosts, &later.hosts)
                && self.covers_paths(later)
                && self.covers_methods(later))
    }

    fn covers_paths(&self, later: &Self) -> bool {
        let everything = [Pattern::Present];
        let paths =
            if later.paths.is_empty() { everything.as_slice() } else { later.paths.as_slice() };
        let is_left_out = |excluded: &Pattern| {
            later.not_paths.iter().any(|by| by.includes(excluded))
                || paths.iter().all(|path| path.is_disjoint_from(excluded))
        };
        includes(&self.paths, &later.paths) && self.not_paths.iter().all(is_left_out)
    }

    fn covers_methods(&self, later: &Self) -> bool {
        self.methods.is_empty()
            || (!later.methods.is_empty()
                && later.methods.iter().all(|method| self.methods.contains(method)))
    }
}

/// Whether each pattern of `later` is included in one of `earlier`; an empty list matches everything.
fn includes(earlier: &[Pattern], later: &[Pattern]) -> bool {
    let includes = |one: &Pattern| earlier.iter().any(|pattern| pattern.includes(one));
    earlier.is_empty() || (!later.is_empty() && later.iter().all(includes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::authorizer::{
        authority::HostsConfig, config::MatchConfig, matcher::ReadingRules, path::PathConfig,
    };

    fn matcher(matches: &serde_json::Value) -> Option<Matcher> {
        let config: MatchConfig = serde_json::from_value(matches.clone()).unwrap();
        let paths = PathConfig::default();
        Matcher::new(&config, ReadingRules { hosts: HostsConfig::default(), paths: &paths }).ok()
    }

    #[test]
    fn a_route_covers_another_if_each_condition_does() {
        for (earlier, later, covers) in [
            (json!({}), json!({"hosts": ["a.test"], "paths": ["/a"], "methods": ["GET"]}), true),
            (json!({"paths": ["*"]}), json!({}), true),
            (json!({"paths": ["/*"]}), json!({"paths": ["*.php"]}), true),
            (json!({"paths": ["*/"]}), json!({}), true),
            (json!({"hosts": ["*"]}), json!({"hosts": ["a.test"]}), true),
            (json!({"hosts": ["*.test"]}), json!({"hosts": ["a.test", "*.b.test"]}), true),
            (json!({"hosts": ["*.test"]}), json!({"hosts": ["a.test", "b.example"]}), false),
            (json!({"hosts": ["*.test"]}), json!({}), false),
            (json!({"paths": ["/api/*"]}), json!({"paths": ["/api/a", "/api/b/*", "/api"]}), true),
            (json!({"paths": ["/api/*"]}), json!({"paths": ["/api*"]}), false),
            (json!({"paths": ["/api"]}), json!({"paths": ["/api/"]}), true),
            (json!({"methods": ["GET", "POST"]}), json!({"methods": ["POST"]}), true),
            (json!({"methods": ["GET"]}), json!({"methods": ["GET", "POST"]}), false),
            (json!({"methods": ["GET"]}), json!({}), false),
            (json!({"not_paths": ["/a"]}), json!({"paths": ["/a", "/b"]}), false),
            (json!({"not_paths": ["/a"]}), json!({"paths": ["/b", "/c/*"]}), true),
            (json!({"not_paths": ["/a"]}), json!({"not_paths": ["/a*"]}), true),
            (json!({"not_paths": ["*.php"]}), json!({"paths": ["/a/*"]}), false),
            (json!({"tcp": true}), json!({"tcp": true}), true),
            (json!({}), json!({"tcp": true}), false),
            (json!({"tcp": true}), json!({}), false),
            (json!({}), json!({"paths": ["/a"], "only_by_name": true}), false),
            (json!({"only_by_name": true}), json!({"paths": ["/a"]}), false),
        ] {
            let (earlier_route, later_route) = (matcher(&earlier), matcher(&later));
            let found = earlier_route.unwrap().covers(&later_route.unwrap());
            assert_eq!(found, covers, "{earlier} before {later}");
        }
    }

    /// Every text over a small alphabet that is a canonical path.
    fn canonical_paths() -> Vec<String> {
        let mut paths = vec![String::new()];
        for _ in 0..5 {
            let longer =
                paths.iter().flat_map(|path| ["/", "a", "b"].map(|add| format!("{path}{add}")));
            paths.extend(longer.collect::<Vec<_>>());
        }
        paths.retain(|path| {
            path.starts_with('/') && !path.contains("//") && (path == "/" || !path.ends_with('/'))
        });
        paths
    }

    fn patterns(least: usize) -> impl Strategy<Value = Vec<String>> {
        let pattern = prop_oneof![
            "(/[ab]{1,2}){1,2}/?",
            "(/[ab]{0,1}){1,2}[*]",
            "[*]/?[ab]{0,2}",
            Just("*".to_owned())
        ];
        prop::collection::vec(pattern, least..3)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// A route that counts as covered gets no request, as trying them all shows.
        #[test]
        fn a_covered_route_gets_no_request(
            earlier in (patterns(0), patterns(0)), later in (patterns(0), patterns(0)),
        ) {
            let read = |(paths, not_paths): &(Vec<String>, Vec<String>)| {
                let mut matches = json!({"not_paths": not_paths});
                if !paths.is_empty() {
                    matches["paths"] = json!(paths);
                }
                matcher(&matches)
            };
            let (Some(earlier), Some(later)) = (read(&earlier), read(&later)) else { return Ok(()) };
            if earlier.covers(&later) {
                for path in canonical_paths() {
                    let is_reached = later.matches("a.test", &path, Some("GET"))
                        && !earlier.matches("a.test", &path, Some("GET"));
                    prop_assert!(!is_reached, "{} reaches {:?} behind {:?}", path, later, earlier);
                }
            }
        }

        /// A pattern under `trailing_slash: ignore` matches what it does with the slash or without.
        #[test]
        fn a_slash_at_the_end_makes_no_difference(pattern in patterns(1)) {
            let text = pattern[0].clone();
            let Some(matcher) = matcher(&json!({"paths": [text]})) else { return Ok(()) };
            let plain: Pattern = text.parse().unwrap();
            for path in canonical_paths() {
                let expected = plain.matches(&path)
                    || (path != "/" && plain.matches(&format!("{path}/")));
                prop_assert_eq!(matcher.matches("a.test", &path, None), expected, "{} {}", text, path);
            }
        }
    }
}
