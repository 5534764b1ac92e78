//! Events and callbacks, user-defined events, timers (monitor.md §1.3, §1.4, §1.8).

use super::abi::{Callback as CCallback, Filter as CFilter, FilterArg, Mctx};
use super::{cpu_of, entry, id_of};
use crate::monitor::event::{BUILTINS, EventId, FIRST_USER_EVENT, Hook};
use crate::monitor::forest::FOREST;
use crate::monitor::hookset::{Callback, Filter};
use crate::monitor::{Errno, Result};
use crate::runtime::enter;
use crate::runtime::registry::REGISTRY;
use std::ffi::{c_int, c_void};

/// Checks event and hook in the contract's order.
fn checked(event: EventId, hook: c_int) -> Result<Hook> {
    let builtin = if event >= FIRST_USER_EVENT {
        let forest = FOREST.read();
        if forest.get(event).is_none() {
            return Err(Errno::UNTOUCHED);
        }
        forest.builtin_of(event).ok_or(Errno::UNTOUCHED)?
    } else if event.is_power_of_two() && event < 1 << BUILTINS {
        event
    } else {
        return Err(Errno::UNTOUCHED);
    };
    let hook = Hook::from_abi(hook).ok_or(Errno(libc::EINVAL))?;
    if hook.accepts(builtin) { Ok(hook) } else { Err(Errno(libc::EINVAL)) }
}

fn change(mctx: Mctx, sock: c_int, event: EventId, hook: c_int, callback: Option<Callback>) -> Result<c_int> {
    let hook = checked(event, hook)?;
    // SAFETY: the entry's caller's promise.
    let cpu = unsafe { cpu_of(mctx) }?;
    let on_listener = enter::anywhere(cpu, None, |c| {
        let id = id_of(sock, c.monitor.settings.max_ids)?;
        c.touch();
        Ok(c.monitor.register_on_listener(id, hook, event, callback))
    })?;
    if let Some(done) = on_listener {
        return done.map(|()| 0);
    }
    enter::locked(cpu, None, |c, t| {
        let id = id_of(sock, c.monitor.settings.max_ids)?;
        c.monitor.register_on_flow(t, id, hook, event, callback).map(|()| 0)
    })
}

entry! {
    /// Registers a callback, or removes it (`cb` NULL). -1: unknown event; EINVAL: hook, type; EBADF; context errors.
    fn mtcp_register_callback(mctx: Mctx, sock: c_int, event: EventId, hook: c_int, cb: CCallback) -> c_int, fails -1; {
        change(mctx, sock, event, hook, cb.map(|f| Callback::Foreign(f as usize)))
    }
}

entry! {
    /// Removes a callback; as registering NULL.
    fn mtcp_unregister_callback(mctx: Mctx, sock: c_int, event: EventId, hook: c_int) -> c_int, fails -1; {
        change(mctx, sock, event, hook, None)
    }
}

/// Events are defined after `mtcp_init` (monitor.md §1.10).
fn configured() -> Result<()> {
    if REGISTRY.read().config.is_some() { Ok(()) } else { Err(Errno::UNTOUCHED) }
}

/// Keeps a filter's argument for the life of the process; its address is what filters and callbacks get.
fn keep(bytes: &[u8]) -> Option<usize> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    let bytes = Box::leak(copy.into_boxed_slice());
    let arg = if bytes.is_empty() { std::ptr::null_mut() } else { bytes.as_mut_ptr().cast::<c_void>() };
    Some(Box::leak(Box::new(FilterArg { arg, len: bytes.len() })) as *mut FilterArg as usize)
}

entry! {
    /// Defines an event below `parent`; the argument is copied. 0: before mtcp_init, no filter, a broken argument, unknown parent,
    /// no memory.
    fn mtcp_define_event(parent: EventId, filter: CFilter, arg: *mut FilterArg) -> EventId, fails 0; {
        let Some(filter) = filter else { return Err(Errno::UNTOUCHED) };
        configured()?;
        let mut bytes: &[u8] = &[];
        if !arg.is_null() {
            // SAFETY: not NULL, so a whole struct by the caller's promise.
            let (data, len) = unsafe { ((*arg).arg, (*arg).len) };
            if len > isize::MAX as usize || (len > 0 && data.is_null()) {
                return Err(Errno::UNTOUCHED);
            }
            if len > 0 {
                // SAFETY: `data` has `len` bytes by the caller's promise.
                bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
            }
        }
        Ok(FOREST.write().define(parent, Some(Filter::Foreign(filter as usize)), bytes, keep))
    }
}

entry! {
    /// Makes an event below `parent` that is raised by hand. 0: unknown parent, no memory.
    fn mtcp_alloc_event(parent: EventId) -> EventId, fails 0; {
        configured()?;
        Ok(FOREST.write().define(parent, None, &[], keep))
    }
}

entry! {
    /// Raises an allocated event from the filter or callback of its parent. -1: context errors, not inside one, nobody listens.
    fn mtcp_raise_event(mctx: Mctx, event: EventId) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::on_core(cpu, None, |c, t| c.monitor.raise_event(t, event).map(|()| 0))
    }
}

entry! {
    /// Sets a one-shot timer. -1: no context, `to` or `cb` NULL.
    fn mtcp_settimer(mctx: Mctx, id: c_int, to: *mut libc::timeval, cb: CCallback) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let (Some(cb), false) = (cb, to.is_null()) else { return Err(Errno::UNTOUCHED) };
        // SAFETY: not NULL, so a whole struct by the caller's promise.
        let to = unsafe { &*to };
        let us = (to.tv_sec as i128 * 1_000_000 + to.tv_usec as i128).clamp(0, i64::MAX as i128) as u64;
        enter::anywhere(cpu, None, |c| {
            c.monitor.set_timer(id, us, Callback::Foreign(cb as usize)).map(|()| 0)
        })
    }
}

entry! {
    /// Time of this loop iteration in µs, wrapping. 0 with EACCES or EPERM outside callbacks.
    fn mtcp_cb_get_ts(mctx: Mctx) -> u32, fails 0; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::on_core(cpu, None, |c, t| Ok((c.monitor.state(t).now_ms as u32).wrapping_mul(1000)))
    }
}
