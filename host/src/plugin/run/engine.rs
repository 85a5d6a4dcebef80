//! The wasmtime engine: what a component may use, the memory it runs in, the clock that stops it.

use std::path::Path;
use std::time::Duration;

use wasmtime::error::{Context as _, Result};
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig, Strategy,
};

use super::address_space::{self, Addressing, Layout};

/// How often the epoch advances: a call that is over sooner is never interrupted, one that is not yields.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// Core modules in one component: a Rust component has 3, a Python one over 100.
pub(crate) const CORE_INSTANCES_PER_COMPONENT: u32 = 200;

/// Tables in one component: one for each core module at most, as a rule far fewer.
pub(crate) const TABLES_PER_COMPONENT: u32 = CORE_INSTANCES_PER_COMPONENT;

/// Tables that there is room for beside each instance. One with more takes the room of others.
pub(crate) const TABLES_PER_INSTANCE: u32 = 4;

/// Bytes of the stack for a guest's own calls, which is not the one in its memory.
pub(crate) const WASM_STACK: usize = 512 << 10;

/// Bytes of an unused slot's memory that stay with the process.
const KEPT_MEMORY: usize = 1 << 20;

/// Bytes of the largest `limits.memory_mib`.
const MAX_MEMORY: usize = 512 << 20;

/// The largest `limits.table_elements`.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;

/// The folder of compiled code, in the one that the configuration names.
pub(crate) const CACHE: &str = "wasmtime";

/// Bytes of address space that a memory has to grow into before it moves, where it has not reserved all.
const CHECKED_GROWTH: u64 = 16 << 20;

/// Bytes behind such a memory that are never there: neighbouring accesses are checked once.
const CHECKED_GUARD: u64 = 64 << 10;

/// Makes the engine, with as much room for instances as the address space allows, and starts the thread that advances its
/// epoch for as long as it lives.
pub(crate) fn start(compile_cache: Option<&Path>) -> Result<(Engine, Layout)> {
    let compile_cache = compile_cache.map(cache).transpose()?;
    let available = address_space::available();
    let mut layout = Layout::fitting(available);
    let engine = loop {
        let allocation = allocation(layout);
        match (
            engine(compile_cache.clone(), layout.addressing, allocation),
            layout.smaller(),
        ) {
            (Ok(engine), _) => break engine,
            (Err(_), Some(smaller)) => layout = smaller,
            (Err(error), None) => return Err(error),
        }
    };
    layout.say(available);
    advance_epochs(&engine)?;
    Ok((engine, layout))
}

/// An engine that compiles as the other does, and for it, and makes no instance.
pub(crate) fn to_compile(compile_cache: Cache, addressing: Addressing) -> Result<Engine> {
    let allocation = InstanceAllocationStrategy::OnDemand;
    engine(Some(compile_cache), addressing, allocation)
}

/// The cache in a folder, which has a folder of its own in there: it removes all that it does not know.
pub(crate) fn cache(folder: &Path) -> Result<Cache> {
    let place = || format!("compile_cache {}", folder.display());
    let mut cache = CacheConfig::new();
    cache.with_directory(std::path::absolute(folder.join(CACHE)).with_context(place)?);
    Cache::new(cache).with_context(place)
}

fn engine(
    compile_cache: Option<Cache>,
    addressing: Addressing,
    allocation: InstanceAllocationStrategy,
) -> Result<Engine> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        // Handlers are called one at a time: without the machinery for concurrent calls a call costs half.
        .concurrency_support(false)
        // What no supported toolchain emits is surface to attack and nothing else.
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
    config.cache(compile_cache);
    Engine::new(&config).context("cannot set up the WebAssembly engine")
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
        // A number and no place: never the reason why there is no instance.
        .total_core_instances(instances * CORE_INSTANCES_PER_COMPONENT)
        .total_memories(instances)
        .total_tables(instances * TABLES_PER_INSTANCE)
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_component_instance_size(8 << 20)
        .max_core_instance_size(4 << 20)
        // The limiter allows one; see `Bounds`.
        .max_memories_per_component(4)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memory_size(MAX_MEMORY)
        .table_elements(MAX_TABLE_ELEMENTS)
        // A slot that is used again costs page faults and calls to the kernel, unless what was touched is found by
        // scanning page maps (Linux 6.7) and zeroed where it is. A fresh Rust instance then costs a third.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(4 << 10);
    pool
}

/// The thread holds the engine weakly and ends with it.
fn advance_epochs(engine: &Engine) -> Result<()> {
    let engine = engine.weak();
    let advance = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::park_timeout(TICK);
        }
    };
    std::thread::Builder::new()
        .name("epochs".into())
        .spawn(advance)
        .context("epoch thread")?;
    Ok(())
}
