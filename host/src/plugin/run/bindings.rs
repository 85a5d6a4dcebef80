//! The Rust bindings that wasmtime generates from `wit/`, the one contract between the gateway and a plugin.

wasmtime::component::bindgen!({
    path: "../wit",
    // All that the gateway can call, each optional: a component exports what its plugin is called for.
    inline: "package lockgate:host;
        world host {
            include lockgate:plugin/handler-plugin@0.1.0;
            include lockgate:plugin/authorizer-plugin@0.1.0;
        }",
    world: "lockgate:host/host",
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
