//! The macro `listed_enum!`: an enum that lists its variants and has a text for each.
//!
//! Lists that are written by hand beside an enum can miss a variant.

/// Declares an enum whose variants stand for texts. It gets `ALL`, its variants in their order, and
/// a method that returns the text. The name of the method follows the name of the enum:
/// `pub enum Reason: code { Allowed = "allowed" }`.
#[macro_export]
macro_rules! listed_enum {
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident: $text:ident {
            $($(#[$note:meta])* $variant:ident = $value:literal,)+
        }
    ) => {
        $(#[$about])*
        $vis enum $name {
            $($(#[$note])* $variant,)+
        }

        impl $name {
            /// Every variant, each at the index that is its number.
            $vis const ALL: [Self; [$($value),+].len()] = [$(Self::$variant),+];

            /// The text that stands for it, in logs, metrics and configuration.
            #[must_use]
            $vis const fn $text(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    listed_enum! {
        /// For the test.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Colour: name {
            /// The first.
            Red = "red",
            Green = "green",
        }
    }

    #[test]
    fn every_variant_is_listed_at_its_number_with_its_text() {
        assert_eq!(Colour::ALL, [Colour::Red, Colour::Green]);
        for (index, colour) in Colour::ALL.into_iter().enumerate() {
            assert_eq!(colour as usize, index);
        }
        assert_eq!(Colour::ALL.map(Colour::name), ["red", "green"]);
    }
}
