//! Spellings of header names: which of them a server takes for one header, and the likely ones of a
//! header that a proxy does not show.

/// The separators between the words of header names.
const SEPARATORS: [char; 3] = ['-', '_', '.'];
/// In a name with so many separators, each of them may be another one.
const MIXED: usize = 3;
/// For more names than this, all separators of a name are the same.
const FEW: usize = 48;

/// Whether two header names, in any case, are one to a reader that folds them.
///
/// CGI turns each hyphen into an underscore (RFC 3875 section 4.1.18), and servers in its tradition
/// do the same to every other character that is neither a letter nor a digit.
#[must_use]
pub fn fold_alike(one: &str, other: &str) -> bool {
    let alike = |(a, b): (u8, u8)| {
        a.eq_ignore_ascii_case(&b) || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric())
    };
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(alike)
}

/// The likely other spellings of `names`, for a proxy that removes headers and does not show them.
/// All spellings would be too many: there are 15 characters that servers fold.
pub fn likely_spellings<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Vec<String> {
    let are_few = names.clone().count() <= FEW;
    let mut spellings = Vec::new();
    for name in names {
        let separators = name.chars().filter(|c| !c.is_ascii_alphanumeric()).count();
        let is_mixed = are_few && separators <= MIXED;
        let rounds = match u32::try_from(separators) {
            Ok(separators) if is_mixed => SEPARATORS.len().pow(separators),
            _ => SEPARATORS.len(),
        };
        let others = (0..rounds).map(|round| spelled(name, round, is_mixed));
        spellings.extend(others.filter(|spelling| spelling != name));
    }
    spellings.sort_unstable();
    spellings.dedup();
    spellings
}

/// The name with the separators that belong to this round.
fn spelled(name: &str, mut round: usize, is_mixed: bool) -> String {
    let choose = |c: char| {
        if c.is_ascii_alphanumeric() {
            return c;
        }
        let chosen = SEPARATORS[round % SEPARATORS.len()];
        if is_mixed {
            round /= SEPARATORS.len();
        }
        chosen
    };
    name.chars().map(choose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_server_folds_into_one_are_alike() {
        for (one, other, alike) in [
            ("x-user-id", "x-user-id", true),
            ("x-user-id", "x_user_id", true),
            ("x-user-id", "x_user-id", true),
            ("x-user-id", "x.user!id", true),
            ("x-user-id", "xauser-id", false),
            ("x-user-id", "x-user-ids", false),
            ("x-user-id", "x-userid", false),
            ("authorization", "authorization", true),
            ("", "", true),
        ] {
            assert_eq!(fold_alike(one, other), alike, "{one} {other}");
            assert_eq!(fold_alike(other, one), alike, "{other} {one}");
        }
    }

    #[test]
    fn short_names_get_mixed_separators_and_long_ones_a_single_one() {
        let of = |name: &'static str| likely_spellings([name].into_iter());
        assert_eq!(of("authorization"), Vec::<String>::new());
        assert_eq!(of("x-roles"), ["x.roles", "x_roles"]);
        assert_eq!(of("x-user-id").len(), 8);
        for name in ["x.user.id", "x_user_id", "x-user_id", "x.user_id"] {
            assert!(of("x-user-id").iter().any(|spelling| spelling == name), "{name}");
        }
        assert_eq!(of("x-http-method-override").len(), 26);
        assert_eq!(of("x-a-b-c-d"), ["x.a.b.c.d", "x_a_b_c_d"]);
        assert_eq!(of("x!a"), ["x-a", "x.a", "x_a"]);
        for name in ["x-user-id", "x-a-b-c-d", "x!a"] {
            assert!(of(name).iter().all(|other| fold_alike(other, name) && other != name));
        }
    }

    #[test]
    fn many_names_have_few_spellings_each() {
        let names: Vec<_> = (0..=FEW).map(|number| format!("x-a-{number}")).collect();
        let spellings = likely_spellings(names.iter().map(String::as_str));
        assert_eq!(spellings.len(), 2 * names.len());
    }
}
