//! One core: the poll loop, the clock, the lock ("baton"), threads, signals, statistics.

#[allow(unsafe_code)]
pub mod affinity;
#[allow(unsafe_code)]
pub mod cancel;
pub mod context;
pub mod core_loop;
pub mod devices;
#[allow(unsafe_code)]
pub mod enter;
pub mod gate;
pub mod live_loop;
pub mod live_ports;
pub mod log;
pub mod registry;
pub mod replay_loop;
#[allow(unsafe_code)]
pub mod report;
#[allow(unsafe_code)]
pub mod signals;
#[allow(unsafe_code)]
pub mod sleep;
pub mod surroundings;
pub mod sync;
pub mod turns;
pub mod wait;
