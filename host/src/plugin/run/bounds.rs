//! The limits on the memory, tables and core instances of an instance, and the requests for more that were refused in
//! the current call.

use wasmtime::{ResourceLimiter, Result, StoreLimits, StoreLimitsBuilder};

use super::engine::{CORE_INSTANCES_PER_COMPONENT, TABLES_PER_COMPONENT};
use super::limit::Limit;
use crate::config;

pub(crate) struct Limiter {
    limits: StoreLimits,
    refused: Refused,
    /// The kinds of limits that were logged in the current call, a bit each.
    logged: u16,
}

/// The last refusal of each kind: the size before, and the size that was asked for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Refused {
    /// Bytes.
    pub(crate) memory: Option<(usize, usize)>,
    /// Elements.
    pub(crate) table: Option<(usize, usize)>,
}

impl Refused {
    pub(crate) fn is_any(self) -> bool {
        self.memory.is_some() || self.table.is_some()
    }
}

impl Limiter {
    pub(crate) fn new(limits: &config::PluginLimits) -> Self {
        Self {
            limits: StoreLimitsBuilder::new()
                .memory_size(limits.memory_bytes)
                .memories(1)
                .table_elements(limits.table_elements)
                // The pooling engine has the same bounds; an engine that reserves nothing has none of its own.
                .instances(CORE_INSTANCES_PER_COMPONENT as usize)
                .tables(TABLES_PER_COMPONENT as usize)
                .build(),
            refused: Refused::default(),
            logged: 0,
        }
    }

    /// Forgets the refusals of the call before.
    pub(crate) fn begin(&mut self) {
        self.refused = Refused::default();
        self.logged = 0;
    }

    pub(crate) fn refused(&self) -> Refused {
        self.refused
    }

    /// Whether a limit is met for the first time in the current call.
    pub(crate) fn is_first(&mut self, limit: Limit) -> bool {
        let before = self.logged;
        self.logged |= limit.bit();
        before != self.logged
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let allowed = self.limits.memory_growing(current, desired, maximum)?;
        if !allowed {
            self.refused.memory = Some((current, desired));
        }
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.limits.memory_grow_failed(error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let allowed = self.limits.table_growing(current, desired, maximum)?;
        if !allowed {
            self.refused.table = Some((current, desired));
        }
        Ok(allowed)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.limits.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}
