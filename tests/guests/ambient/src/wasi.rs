//! Handles to something of WASI's HTTP, for which the standard library has no use.

wit_bindgen::generate!({
    inline: r#"
        package ambient:ambient;

        world ambient {
            import wasi:http/types@0.2.0;
        }

        package wasi:http@0.2.0 {
            interface types {
                resource fields {
                    constructor();
                    clone: func() -> fields;
                }
            }
        }
    "#,
    generate_all,
});

pub use wasi::http::types::Fields;
