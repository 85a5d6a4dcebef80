//! What an instance may take for itself, and whether it was refused more in the present call.

use wasmtime::{ResourceLimiter, Result, StoreLimits, StoreLimitsBuilder};

use super::engine::{CORE_INSTANCES_PER_COMPONENT, TABLES_PER_COMPONENT};
use super::limit::Limit;
use crate::config;

pub(crate) struct Bounds {
    limits: StoreLimits,
    refused: Refused,
    /// The kinds of limits that were told of in the present call.
    told: u8,
}

/// The last that was refused of each kind: how much there was, and how much was asked for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Refused {
    /// Bytes.
    pub(crate) memory: Option<(usize, usize)>,
    /// Elements.
    pub(crate) table: Option<(usize, usize)>,
}

impl Bounds {
    pub(crate) fn new(limits: &config::PluginLimits) -> Self {
        Self {
            limits: StoreLimitsBuilder::new()
                .memory_size(limits.memory_bytes)
                .memories(1)
                .table_elements(limits.table_elements)
                // The engine says the same when it reserves room for all of them, and nothing when it does not.
                .instances(CORE_INSTANCES_PER_COMPONENT as usize)
                .tables(TABLES_PER_COMPONENT as usize)
                .build(),
            refused: Refused::default(),
            told: 0,
        }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self) {
        self.refused = Refused::default();
        self.told = 0;
    }

    pub(crate) fn refused(&self) -> Refused {
        self.refused
    }

    /// Whether a limit is met for the first time in the present call.
    pub(crate) fn is_news(&mut self, limit: Limit) -> bool {
        let before = self.told;
        self.told |= limit.bit();
        before != self.told
    }
}

impl ResourceLimiter for Bounds {
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
