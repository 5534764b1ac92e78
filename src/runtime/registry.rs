//! The process's configuration and its contexts, by core id.
//!
//! The `mtcp_context` an application holds lies in a slot that is never freed: a stale one is noticed (K9).

use super::context::Context;
use super::devices::Devices;
use super::sync::RwLock;
use crate::config::Config;
use crate::monitor::{Errno, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Core ids are below this.
pub const MAX_CORES: usize = 64;

/// What a `mctx_t` points to: laid out as `struct mtcp_context`.
#[derive(Debug)]
#[repr(C)]
pub struct Handle {
    /// Core id.
    pub cpu: i32,
}

/// One slot for each core id.
pub static HANDLES: [Handle; MAX_CORES] = {
    let mut all = [const { Handle { cpu: 0 } }; MAX_CORES];
    let mut n = 0;
    while n < MAX_CORES {
        all[n].cpu = n as i32;
        n += 1;
    }
    all
};

/// Everything process-wide.
#[derive(Debug, Default)]
pub struct Registry {
    /// The configuration, once `mtcp_init` was called.
    pub config: Option<Arc<Config>>,
    /// Number of cores as changed by `mtcp_setconf`.
    pub num_cores: Option<i32>,
    /// Its devices.
    pub devices: Option<Arc<Devices>>,
    /// Contexts by core id.
    pub contexts: Vec<Option<Arc<Context>>>,
    /// Whether packets flow: contexts made now get none of this replay.
    pub started: bool,
    /// Core ids of those that share the packets of this replay, ascending: settled when it starts.
    pub sharing: Vec<usize>,
}

/// The one registry: a leaf lock.
pub static REGISTRY: RwLock<Registry> = RwLock::new(Registry {
    config: None,
    num_cores: None,
    devices: None,
    contexts: Vec::new(),
    started: false,
    sharing: Vec::new(),
});

/// The context of a core id, running or finished. EINVAL: no such core id; EPERM: no context there.
pub fn context(cpu: i32) -> Result<Arc<Context>> {
    let index = usize::try_from(cpu).ok().filter(|&i| i < MAX_CORES).ok_or(Errno(libc::EINVAL))?;
    // Recursive: a signal handler may ask while the thread it interrupted reads.
    REGISTRY.read_recursive().contexts.get(index).and_then(|c| c.clone()).ok_or(Errno(libc::EPERM))
}

/// The contexts there are.
pub fn all() -> Vec<Arc<Context>> {
    REGISTRY.read().contexts.iter().flatten().cloned().collect()
}

/// The address applications know a core's context by.
pub fn handle(core: usize) -> usize {
    std::ptr::from_ref(&HANDLES[core]) as usize
}

/// Adds a context. `false`: the core has one already.
pub fn add(context: Arc<Context>) -> bool {
    let mut r = REGISTRY.write();
    let core = context.core;
    if r.contexts.len() <= core {
        r.contexts.resize_with(core + 1, || None);
    }
    if r.contexts[core].is_some() {
        return false;
    }
    context.late.store(r.started, Ordering::Release);
    r.contexts[core] = Some(context);
    true
}

/// Takes a context out, if it is still this one.
pub fn remove(context: &Arc<Context>) {
    let mut r = REGISTRY.write();
    if let Some(slot) = r.contexts.get_mut(context.core)
        && slot.as_ref().is_some_and(|c| Arc::ptr_eq(c, context))
    {
        *slot = None;
    }
    if r.contexts.iter().all(Option::is_none) {
        r.started = false;
    }
}
