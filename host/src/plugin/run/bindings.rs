//! The Rust bindings that wasmtime generates from `wit/`, the one contract between the gateway and a plugin.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "handler-plugin",
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
