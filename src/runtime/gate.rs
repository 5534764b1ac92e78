//! When a replay starts: once, for all contexts together, when each is ready (design §4).

use super::context::Context;
use super::registry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A context that nobody waits for starts after so long without a call that sets something up.
const QUIET: Duration = Duration::from_secs(2);

fn is_ready(context: &Context, only_join: bool) -> bool {
    context.ready.load(Ordering::Acquire)
        || context.is_finished()
        || (!only_join && context.last_setup.lock().is_some_and(|at| at.elapsed() >= QUIET))
}

/// Waits until packets may flow. The cores that share them, ascending: empty when the replay had started without this one.
/// `None` when the context is to stop.
pub fn wait(context: &Arc<Context>) -> Option<Vec<usize>> {
    let only_join = std::env::var("MOS_REPLAY_START").is_ok_and(|v| v == "join");
    loop {
        if context.stop.load(Ordering::Acquire) {
            return None;
        }
        if context.late.load(Ordering::Acquire) {
            if is_ready(context, only_join) {
                return Some(Vec::new());
            }
            // Those who replay may have ended and gone: then this is the first of the next replay.
            context.late.store(registry::REGISTRY.read().started, Ordering::Release);
        } else if let Some(share) = share(context, only_join) {
            return Some(share);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts the replay when all are ready; once it has started, those who share it. That is settled once, by the first to see all
/// ready: a thread that gets here later finds the same.
fn share(context: &Context, only_join: bool) -> Option<Vec<usize>> {
    let mut r = registry::REGISTRY.write();
    if !r.started {
        if !r.contexts.iter().flatten().all(|c| is_ready(c, only_join)) {
            return None;
        }
        let mask = context.config.mos.cpu_mask;
        r.sharing = r.contexts.iter().flatten().map(|c| c.core).filter(|&c| mask >> c & 1 == 1).collect();
        r.started = true;
        if let Some(devices) = &r.devices {
            devices.begin();
        }
    }
    Some(if r.sharing.contains(&context.core) { r.sharing.clone() } else { Vec::new() })
}
