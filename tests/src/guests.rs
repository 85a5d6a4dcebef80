//! The guests that the build script has built.

use std::path::Path;

macro_rules! guests {
    ($($variant:ident = $name:literal at $path:literal,)*) => {
        /// A component to load into the gateway. A match over it with an arm each is a list that does not
        /// compile when a guest is missing from it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Guest {
            $($variant,)*
        }

        impl Guest {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name as a configuration spells it, within braces: `{probe}`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Where the component lies.
            #[must_use]
            pub fn path(self) -> &'static Path {
                match self {
                    $(Self::$variant => Path::new($path),)*
                }
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/guests.rs"));
