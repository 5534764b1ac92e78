//! The safe Rust API: the monitor of the C ABI, as closures.
//!
//! [`Monitor`] is the door: a [`Builder`] says what it reads; [`Stream`] and [`Raw`] listeners say what is monitored;
//! closures get a [`Ctx`] for each [`Event`]. Nothing here is shared with the C ABI's configuration and contexts.

mod builder;
mod ctx;
mod data;
mod error;
mod event;
mod listener;
mod monitor;
mod packet;
mod peek;
mod summary;
mod timer;

pub use builder::Builder;
pub use ctx::Ctx;
pub use error::Error;
pub use event::{Event, Flow, Hook, Side, UserEvent};
pub use listener::{Raw, Stream};
pub use monitor::{Monitor, StopHandle};
pub use packet::{Area, Checksums, PacketView};
pub use peek::Peek;
pub use summary::{Counters, Summary};
pub use timer::TimerCtx;

pub use crate::tcp::reassembly::Overlap;
pub use crate::tcp::state::State as TcpState;
pub use crate::wire::ethernet::Ethernet;
pub use crate::wire::ipv4::Ipv4;
pub use crate::wire::tcp::Tcp;
