//! The wasmtime engine: the features of components, and their memory.

use std::path::Path;
use std::sync::Arc;

use wasmtime::error::{Context as _, Result};
use wasmtime::{
    Cache, CacheConfig, CacheStore, Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig, Strategy,
};

use super::address_space::{self, Addressing, Layout};

/// Core modules in one component: a Rust component has 3, a Python one over 100.
pub(crate) const CORE_INSTANCES_PER_COMPONENT: u32 = 200;

/// Tables in one component: at most one for each core module, usually far fewer.
pub(crate) const TABLES_PER_COMPONENT: u32 = CORE_INSTANCES_PER_COMPONENT;

/// Tables that each instance has room for. One with more takes the room of other instances.
pub(crate) const TABLES_PER_INSTANCE: u32 = 4;

/// Bytes of the stack for a guest's calls, beside the stack in its memory.
pub(crate) const WASM_STACK: usize = 512 << 10;

/// Bytes of an unused slot that the process keeps in memory.
const KEPT_MEMORY: usize = 1 << 20;

/// Bytes of the largest `limits.memory_mib`.
const MAX_MEMORY: usize = 512 << 20;

/// The largest `limits.table_elements`.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;

/// The folder of compiled code, inside the configured one.
pub(crate) const CACHE: &str = "wasmtime";

/// Bytes that a checked memory can grow before it moves.
const CHECKED_GROWTH: u64 = 16 << 20;

/// Guard bytes behind such a memory: accesses that lie this close share one check.
const CHECKED_GUARD: u64 = 64 << 10;

/// Makes the engine, with as much room for instances as the address space allows.
pub(crate) fn start(compile_cache: Option<&Path>) -> Result<(Engine, Layout)> {
    let compile_cache = compile_cache.map(cache).transpose()?;
    let available = address_space::available();
    let mut layout = Layout::fitting(available);
    let engine = loop {
        let allocation = allocation(layout);
        let mut config = config(layout.addressing, allocation);
        config.cache(compile_cache.clone());
        match (made(&config), layout.smaller()) {
            (Ok(engine), _) => break engine,
            (Err(_), Some(smaller)) => layout = smaller,
            (Err(error), None) => return Err(error),
        }
    };
    layout.warn(available);
    Ok((engine, layout))
}

/// An engine that compiles for the one that serves, and makes no instances. It takes functions that it has compiled before from
/// `functions`.
pub(crate) fn to_compile(
    compile_cache: Cache,
    addressing: Addressing,
    functions: Option<Arc<dyn CacheStore>>,
) -> Result<Engine> {
    let mut config = config(addressing, InstanceAllocationStrategy::OnDemand);
    config.cache(Some(compile_cache));
    if let Some(functions) = functions {
        config.enable_incremental_compilation(functions)?;
    }
    made(&config)
}

/// The cache in a folder. It has a folder of its own there, since it removes all files that it does not know.
pub(crate) fn cache(folder: &Path) -> Result<Cache> {
    let context = || format!("compile_cache {}", folder.display());
    let mut cache = CacheConfig::new();
    cache.with_directory(std::path::absolute(folder.join(CACHE)).with_context(context)?);
    Cache::new(cache).with_context(context)
}

fn made(config: &Config) -> Result<Engine> {
    Engine::new(config).context("cannot set up the WebAssembly engine")
}

fn config(addressing: Addressing, allocation: InstanceAllocationStrategy) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        // An instance runs one call at a time. Without the machinery for concurrent calls a call costs half.
        .concurrency_support(false)
        // No supported toolchain emits these features: they would only be surface to attack.
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        .wasm_shared_everything_threads(false)
        .wasm_stack_switching(false)
        .wasm_wide_arithmetic(false)
        .max_wasm_stack(WASM_STACK)
        .allocation_strategy(allocation);
    if addressing == Addressing::Checked {
        config
            .memory_reservation(0)
            .memory_reservation_for_growth(CHECKED_GROWTH)
            .memory_guard_size(CHECKED_GUARD);
    }
    config
}

fn allocation(layout: Layout) -> InstanceAllocationStrategy {
    match layout.addressing {
        Addressing::Reserved => InstanceAllocationStrategy::Pooling(pool(layout.instances)),
        Addressing::Checked => InstanceAllocationStrategy::OnDemand,
    }
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // A count that takes no space: it is never the reason why an instance is missing.
        .total_core_instances(instances * CORE_INSTANCES_PER_COMPONENT)
        .total_memories(instances)
        .total_tables(instances * TABLES_PER_INSTANCE)
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_component_instance_size(8 << 20)
        .max_core_instance_size(4 << 20)
        // More than the one memory that `Limiter` allows.
        .max_memories_per_component(4)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memory_size(MAX_MEMORY)
        .table_elements(MAX_TABLE_ELEMENTS)
        // Reusing a slot costs page faults and system calls, unless the touched pages are found by scanning page maps
        // (Linux 6.7) and zeroed in place. A fresh Rust instance then costs a third.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(4 << 10);
    pool
}
