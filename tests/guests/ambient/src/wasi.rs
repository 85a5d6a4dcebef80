//! Handles of WASI's HTTP, which the standard library does not use.

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
