//! A stateful networking stack for middleboxes.
//!
//! For every TCP flow that passes, two endpoint stacks are kept, the sender's and the receiver's,
//! and events are raised as each packet moves through both:
//!
//! ```text
//! wire -> flow -> sender side -> MOS_HK_SND -> receiver side -> MOS_HK_RCV -> forward or drop
//! ```
//!
//! C programs use the `mtcp_*` functions of `capi` through `libmos.so`; Rust programs use [`api`].
#![deny(unsafe_code)]

pub mod api;
#[allow(unsafe_code)]
pub mod capi;
pub mod config;
pub mod flow;
pub mod io;
pub mod monitor;
pub mod net;
pub mod runtime;
pub mod tcp;
pub mod wire;
