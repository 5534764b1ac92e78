//! The threads that use DPDK. None is one of EAL's lcores: each registers when it first receives or sends, and from then on
//! has an lcore number and with it a cache in every packet pool; where DPDK gives it none (all numbers are taken, or a
//! second process takes part), the thread keeps caches of its own.

use super::{eal, reason};
use dpdk_sys::{rte_mempool, rte_mempool_cache, shim_pool};
use std::cell::{Cell, RefCell};

/// What the calling thread is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Not looked at.
    New,
    /// An lcore, whose caches DPDK finds by itself.
    Lcore,
    /// None: caches of its own.
    Foreign,
}

/// What is given back when the thread ends.
struct Registration {
    /// It was this module that registered the thread.
    ours: bool,
    caches: Vec<(*mut rte_mempool, *mut rte_mempool_cache)>,
}

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::New) };
    static REGISTRATION: RefCell<Registration> = const { RefCell::new(Registration { ours: false, caches: Vec::new() }) };
}

impl Registration {
    fn give_back(&mut self) {
        let alive = eal::alive();
        for (pool, cache) in self.caches.drain(..) {
            if alive && !cache.is_null() {
                // SAFETY: pools live as long as EAL, which is up; the cache is this thread's and not used again.
                unsafe { dpdk_sys::shim_cache_free(shim_pool { pool, cache }) };
            }
        }
        if std::mem::take(&mut self.ours) && alive {
            // SAFETY: EAL is up, and this thread was registered by `enter`.
            unsafe { dpdk_sys::rte_thread_unregister() };
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Makes DPDK know the calling thread.
#[inline]
pub(super) fn enter() {
    if KIND.get() == Kind::New {
        register();
    }
}

#[cold]
fn register() {
    if !eal::alive() {
        return;
    }
    // SAFETY: EAL is up.
    let known = unsafe { dpdk_sys::shim_is_lcore() } != 0;
    // SAFETY: EAL is up, and this thread is no lcore.
    let kind = if known || unsafe { dpdk_sys::rte_thread_register() } == 0 {
        let _ = REGISTRATION.try_with(|r| r.borrow_mut().ours = !known);
        Kind::Lcore
    } else {
        // SAFETY: no preconditions.
        log::info!("DPDK gives this thread no lcore number: {}", reason(unsafe { dpdk_sys::shim_errno() }));
        Kind::Foreign
    };
    KIND.set(kind);
}

/// Makes DPDK forget the calling thread, before EAL ends.
pub(super) fn leave() {
    let _ = REGISTRATION.try_with(|r| r.borrow_mut().give_back());
    KIND.set(Kind::New);
}

/// The pool as the calling thread uses it.
#[inline]
pub(super) fn pool(pool: *mut rte_mempool) -> shim_pool {
    enter();
    let cache = if KIND.get() == Kind::Foreign { own_cache(pool) } else { std::ptr::null_mut() };
    shim_pool { pool, cache }
}

#[cold]
fn own_cache(pool: *mut rte_mempool) -> *mut rte_mempool_cache {
    REGISTRATION
        .try_with(|r| {
            let caches = &mut r.borrow_mut().caches;
            if let Some(&(_, cache)) = caches.iter().find(|(p, _)| *p == pool) {
                return cache;
            }
            // SAFETY: EAL is up: there is a pool. NULL means no cache, which is right too.
            let cache = unsafe { dpdk_sys::shim_cache_create() };
            caches.push((pool, cache));
            cache
        })
        .unwrap_or(std::ptr::null_mut())
}
