//! Texts of the configuration that are compared with those of tokens: which ones no token has.

/// What is wrong with a text that is compared with that of a token.
pub(super) fn wrong_text(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        Some("has a blank value; remove it or fill it in")
    } else if text.trim() != text {
        Some(
            "has a value with a blank at its beginning or end, which no token has; remove the blank",
        )
    } else if text.chars().any(char::is_control) {
        Some("has a value with a control character, which no token has; remove it")
    } else {
        None
    }
}

/// Whether a text can be the id of a key.
pub(super) fn is_key_id(text: &str) -> bool {
    wrong_text(text).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_no_token_has_is_refused() {
        for text in ["", " ", "sub ", "\u{a0}sub", "a\nb", "a\0"] {
            assert!(wrong_text(text).is_some(), "{text:?}");
        }
        for text in ["sub", "My API", "https://id.example/", "kubernetes.io"] {
            assert!(wrong_text(text).is_none(), "{text:?}");
        }
    }
}
