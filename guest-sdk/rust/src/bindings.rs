//! The bindings that wit-bindgen generates from the contract in `wit/`. A plugin sees them through the other modules.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unwrap_used,
    clippy::use_self,
    clippy::wildcard_enum_match_arm,
    reason = "generated"
)]

wit_bindgen::generate!({
    path: "wit",
    world: "handler-plugin",
    // `error` writes the gateway's errors out, to document them.
    // `value` has a number, which is not Eq as the other types are.
    with: {
        "lockgate:plugin/types@0.1.0/error": crate::Error,
        "lockgate:plugin/context@0.1.0/value": crate::context::Value,
    },
    additional_derives: [PartialEq, Eq],
    pub_export_macro: true,
});

/// The bindings of a plugin that decides who may connect; it shares the types of the others.
pub mod authorizer {
    wit_bindgen::generate!({
        path: "wit",
        world: "authorizer-plugin",
        with: {
            "lockgate:plugin/types@0.1.0/error": crate::Error,
            "lockgate:plugin/context@0.1.0/value": crate::context::Value,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_authorizer",
    });
}
