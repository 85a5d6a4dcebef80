//! The versions of a plugin: the ones that serve, how one replaces another, and the history of earlier ones.

pub(crate) mod change;
pub(crate) mod change_lock;
pub(crate) mod commands;
pub(crate) mod handle;
pub(crate) mod heritage;
pub(crate) mod history;
pub(crate) mod plugin;
pub(crate) mod prepared;
pub(crate) mod rollout_share;
pub(crate) mod version;
