//! The guests, which the build script has built.

use std::path::Path;

macro_rules! guests {
    ($($variant:ident = $name:literal at $path:literal,)*) => {
        /// A component to load into the gateway. A match with an arm for each does not compile if one is missing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Guest {
            $($variant,)*
        }

        impl Guest {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name as configurations spell it, in braces: `{probe}`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The path of the component.
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
