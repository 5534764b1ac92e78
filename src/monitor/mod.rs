//! Monitor sockets, events, the user-event forest, dispatch, filters, packet access and edit.
//!
//! [`Monitor`] is one core's monitor. What it owns lies in [`State`] behind a token (decision B); what an
//! application may touch at any time — listeners, filters, timers, counters — lies behind leaf locks that are
//! never held during a call-out (decision A).

pub mod cold;
pub mod dispatch;
pub mod end;
pub mod event;
pub mod evict;
pub mod filter;
pub mod forest;
pub mod holes;
pub mod hookset;
pub mod inject;
pub mod iteration;
pub mod listener;
pub mod lookup;
pub mod native;
pub mod open;
pub mod options;
pub mod packet;
pub mod peek;
pub mod plain;
pub mod process;
pub mod quiet;
pub mod segment;
pub mod sets;
pub mod socket;
pub mod state;
pub mod stats;
pub mod stream;
pub mod timers;

pub use state::{Monitor, Settings, State};

/// An error number of the C ABI; 0 means "failed, errno untouched".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The call fails and leaves errno as it is.
    pub const UNTOUCHED: Errno = Errno(0);
}

/// Result of a call of the API.
pub type Result<T> = std::result::Result<T, Errno>;
