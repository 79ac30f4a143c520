//! Request headers that a server may take for others: names that fold into one, and headers that
//! override the method, the path or the host that a decision was made about.
//!
//! CGI, WSGI, Rack and PHP know `x-user-id` and `x_user_id` by one name, `HTTP_X_USER_ID`. So each
//! name that a decision relies on is let through in its one spelling only.

use portcullis_types::{
    attributes::{HeaderView, HttpAttributes, NameLengths, fold_alike, likely_spellings},
    decision::Allow,
};

use super::{
    config::{RouteConfig, TokenMode},
    guard,
    route_error::RouteCause,
};
use crate::token;

/// Headers that some frameworks prefer to the request line: Symfony, Laravel, Rails, Express
/// (`method-override`), ASP.NET, Jersey and Yii read the methods, Zend, Symfony on IIS, Yii and
/// `CakePHP` the URLs. `x-forwarded-host`, `-prefix` and the like are set by proxies, which have to
/// clean them.
pub(super) const OVERRIDES: [&str; 13] = [
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-http-path-override",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-override-url",
    "x-rewrite-uri",
    "x-rewrite-url",
];

/// Names to look for in requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    names: Vec<String>,
    lengths: NameLengths,
}

/// A header that is Portcullis' own to set: its name and value, or `None` to remove it.
pub(super) type OwnHeader = (String, Option<String>);

/// The headers about which a decision was made besides those that it sets or removes.
pub(super) struct Matters<'a> {
    /// Identity headers of all routes: removed in any spelling that the decision does not set.
    pub(super) identity: &'a Names,
    /// Overrides of the request: removed in any spelling.
    pub(super) overrides: &'a Names,
    /// Headers in which the token was looked for: removed in any spelling but this one.
    pub(super) credentials: Option<&'a Names>,
}

/// A header has to be removed, and the proxy removes none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy cannot remove the header {0}")]
pub(super) struct NotRemovable(String);

/// Checks the settings of a route about headers that are removed or ignored.
pub(super) fn check(config: &RouteConfig) -> Result<(), RouteCause> {
    let is_override = |name: &&String| OVERRIDES.contains(&name.as_str());
    if let Some(name) = config.keep_override_headers.iter().find(|name| !is_override(name)) {
        return Err(RouteCause::NoOverride { name: name.clone(), known: OVERRIDES.join(", ") });
    }
    if !config.ignored_schemes.is_empty() && config.token != TokenMode::Optional {
        return Err(RouteCause::SchemesWithoutOption);
    }
    match config.ignored_schemes.iter().position(|scheme| !token::is_other_scheme(scheme)) {
        Some(index) => Err(RouteCause::Scheme(index)),
        None => Ok(()),
    }
}

/// Whether a server may take `name` for a header that overrides the request.
pub(super) fn is_override(name: &str) -> bool {
    OVERRIDES.iter().any(|known| fold_alike(name, known))
}

/// Removes what the upstream could take for a header that `allow` sets or removes, or for one that
/// matters. Where the proxy does not show all headers, that includes what may have come unseen.
///
/// # Errors
/// When there is such a header, and the proxy cannot remove it.
pub(super) fn strip(
    allow: &mut Allow,
    http: &HttpAttributes,
    matters: &Matters<'_>,
) -> Result<(), NotRemovable> {
    let lengths: NameLengths = changed(allow).collect();
    let mut found = std::mem::take(&mut allow.other_spellings);
    for name in http.headers.names_as_long_as(lengths.and(matters.lengths())) {
        if matters.is_another(name, allow) {
            found.push(name.to_owned());
        }
    }
    if http.header_view == HeaderView::Listed {
        let overrides = matters.overrides.iter();
        let credentials = || matters.credentials.into_iter().flat_map(Names::iter);
        let names = changed(allow).chain(matters.identity.iter()).chain(overrides.clone());
        let mut unseen = likely_spellings(names.chain(credentials()));
        unseen.extend(overrides.map(str::to_owned));
        found.append(&mut unseen);
    }
    found.retain(|name| !is_decided(name, allow));
    if http.header_view == HeaderView::ReadOnly {
        return found.pop().map_or(Ok(()), |name| Err(NotRemovable(name)));
    }
    // An Envoy with rules for mutations answers 500 if it is to remove one of its own headers.
    let is_own = |name: &String| guard::is_envoys(name);
    if let Some(name) = found.iter().find(|name| is_own(name) && http.headers.first(name).is_some())
    {
        return Err(NotRemovable(name.clone()));
    }
    found.retain(|name| !is_own(name));
    found.sort_unstable();
    found.dedup();
    allow.remove_request_headers.append(&mut found);
    Ok(())
}

/// The names of the headers that `allow` sets or removes.
fn changed(allow: &Allow) -> impl Iterator<Item = &str> + Clone {
    let set = allow.set_request_headers.iter().map(|header| header.name.as_str());
    set.chain(allow.remove_request_headers.iter().map(String::as_str))
}

/// Whether `allow` sets or removes the header of exactly this name.
fn is_decided(name: &str, allow: &Allow) -> bool {
    changed(allow).any(|changed| changed == name)
}

// === impl Matters ===

impl Matters<'_> {
    fn lengths(&self) -> NameLengths {
        let credentials = self.credentials.map(|names| names.lengths).unwrap_or_default();
        self.identity.lengths.and(self.overrides.lengths).and(credentials)
    }

    /// Whether `name` is another spelling of a name that matters, or an override.
    fn is_another(&self, name: &str, allow: &Allow) -> bool {
        if is_decided(name, allow) {
            return false;
        }
        let is_alike = |other: &str| fold_alike(name, other);
        let mut credentials = self.credentials.into_iter().flat_map(Names::iter);
        self.overrides.iter().any(is_alike)
            || self.identity.iter().any(is_alike)
            || changed(allow).any(is_alike)
            || credentials.any(|other| other != name && is_alike(other))
    }
}

// === impl Names ===

impl Names {
    /// All of the overrides but those that a route keeps.
    pub(super) fn overrides_but(kept: &[String]) -> Self {
        let is_kept = |name: &&str| kept.iter().any(|kept| kept == name);
        OVERRIDES.into_iter().filter(|name| !is_kept(name)).map(str::to_owned).collect()
    }

    /// The names.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.names.iter().map(String::as_str)
    }

    /// Two of the names that are one to a server that folds them.
    pub(super) fn alike(&self) -> Option<(&str, &str)> {
        let pairs = self.iter().enumerate();
        let mut pairs = pairs
            .flat_map(|(place, one)| self.iter().skip(place + 1).map(move |other| (one, other)));
        pairs.find(|(one, other)| fold_alike(one, other))
    }
}

impl FromIterator<String> for Names {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        let lengths = names.iter().map(String::as_str).collect();
        Self { names, lengths }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_types::{attributes::Headers, decision::Header};
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> Names {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn request(names: &[&str], header_view: HeaderView) -> HttpAttributes {
        let headers = names.iter().map(|name| ((*name).to_owned(), "v".to_owned()));
        HttpAttributes { headers: Headers::new(headers), header_view, ..HttpAttributes::default() }
    }

    /// What is removed, in order, where a policy sets `x-set` and removes `x-gone`.
    fn removed(sent: &[&str], view: HeaderView) -> Result<Vec<String>, NotRemovable> {
        let header = Header { name: "x-set".to_owned(), value: "v".to_owned() };
        let mut allow = Allow {
            set_request_headers: vec![header],
            // As the guard does with an identity header that has no value.
            remove_request_headers: ["x-gone", "x-user-id"].map(str::to_owned).to_vec(),
            ..Allow::default()
        };
        let overrides = Names::overrides_but(&["x-host".to_owned()]);
        let matters = Matters {
            identity: &names(&["x-user-id"]),
            overrides: &overrides,
            credentials: Some(&names(&["x-token"])),
        };
        strip(&mut allow, &request(sent, view), &matters)?;
        allow.remove_request_headers.retain(|name| name != "x-gone" && name != "x-user-id");
        Ok(allow.remove_request_headers)
    }

    #[test]
    fn other_spellings_of_what_matters_are_removed_and_nothing_else() {
        for (sent, expected) in [
            (&["x-user-id", "x-set", "x-gone"] as &[&str], &[] as &[&str]),
            (&["x_user_id"], &["x_user_id"]),
            (
                &["x_user_id", "x_user-id", "x.user-id", "x_user_id"],
                &["x.user-id", "x_user-id", "x_user_id"],
            ),
            (&["x_set", "x_gone"], &["x_gone", "x_set"]),
            (&["x-other", "x_other", "x-user", "x-user-idx", "accept"], &[]),
            (&["x-original-url"], &["x-original-url"]),
            (&["x_http_method_override"], &["x_http_method_override"]),
            (&["x-host", "x_host"], &[]),
            (&["x-token", "x_token"], &["x_token"]),
        ] {
            assert_eq!(removed(sent, HeaderView::Whole).unwrap(), expected, "{sent:?}");
        }
    }

    #[test]
    fn what_may_have_come_unseen_is_removed() {
        let removed = removed(&["x-rewrite-url"], HeaderView::Listed).unwrap();
        let count = |name: &str| removed.iter().filter(|removed| *removed == name).count();
        for name in OVERRIDES.into_iter().filter(|name| *name != "x-host") {
            assert_eq!(count(name), 1, "{name}");
        }
        for name in [
            "x_user_id",
            "x.user.id",
            "x_user-id",
            "x-user.id",
            "x_user.id",
            "x_set",
            "x.gone",
            "x.http.method.override",
            "x_http_method_override",
            "x-http_method-override",
            "x_token",
        ] {
            assert_eq!(count(name), 1, "{name}");
        }
        for name in ["x-user-id", "x-set", "x-host", "x_host", "x-other", "x-token"] {
            assert_eq!(count(name), 0, "{name}");
        }
    }

    #[test]
    fn what_a_policy_reads_is_removed_unless_it_is_envoys_own() {
        let strip_of = |sent: &[&str], view| {
            let other_spellings = vec!["x_asked".to_owned(), "x-envoy.asked".to_owned()];
            let mut allow = Allow { other_spellings, ..Allow::default() };
            let none = Names::default();
            let matters = Matters { identity: &none, overrides: &none, credentials: None };
            let stripped = strip(&mut allow, &request(sent, view), &matters);
            stripped.map(|()| allow.remove_request_headers)
        };
        assert_eq!(strip_of(&[], HeaderView::Listed), Ok(vec!["x_asked".to_owned()]));
        for view in [HeaderView::Whole, HeaderView::Listed] {
            let refused = strip_of(&["x-envoy.asked"], view);
            assert_eq!(refused, Err(NotRemovable("x-envoy.asked".to_owned())));
        }
    }

    #[test]
    fn what_cannot_be_removed_is_refused() {
        for name in ["x_user_id", "x_gone", "x-rewrite-url"] {
            let refused = removed(&["accept", name], HeaderView::ReadOnly);
            assert_eq!(refused, Err(NotRemovable(name.to_owned())));
        }
        let other_spellings = vec!["x_asked".to_owned()];
        let mut allow = Allow { other_spellings, ..Allow::default() };
        let sent = request(&["x_asked"], HeaderView::ReadOnly);
        let none = Names::default();
        let matters = Matters { identity: &none, overrides: &none, credentials: None };
        let refused = strip(&mut allow, &sent, &matters);
        assert_eq!(refused, Err(NotRemovable("x_asked".to_owned())));
        let sent = ["x-user-id", "x-set", "x-gone", "x-host", "x_other"];
        assert_eq!(removed(&sent, HeaderView::ReadOnly), Ok(Vec::new()));
    }

    #[test]
    fn names_that_fold_into_one_are_found() {
        assert_eq!(names(&["x-a", "x-b", "x_a"]).alike(), Some(("x-a", "x_a")));
        assert_eq!(names(&["x-a", "x-b", "x-a-b"]).alike(), None);
    }

    proptest! {
        #[test]
        fn no_server_reads_two_headers_as_one_that_matters(
            sent in prop::collection::vec("[xy][-_.]?[ab][-_.]?c", 0..8),
        ) {
            let sent: Vec<_> = sent.iter().map(String::as_str).collect();
            let mut allow = Allow::default();
            let identity = names(&["x-a-c"]);
            let none = Names::default();
            let matters = Matters { identity: &identity, overrides: &none, credentials: None };
            strip(&mut allow, &request(&sent, HeaderView::Whole), &matters).unwrap();
            // The guard has the name itself set or removed.
            let left = sent.iter().filter(|name| {
                **name != "x-a-c" && !allow.remove_request_headers.iter().any(|gone| gone == *name)
            });
            for name in left {
                let folded = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
                prop_assert_ne!(folded, "x_a_c");
            }
        }
    }
}
