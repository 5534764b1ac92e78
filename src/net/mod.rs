//! What happens below TCP: parsing and checking what came in, sending on what goes out, and this host's own place in the
//! network.

pub mod arp;
pub mod forward;
pub mod host;
pub mod icmp;
pub mod input;
pub mod limit;
pub mod local;
pub mod neighbours;
pub mod output;
pub mod prepare;
pub mod route;
pub mod stations;
pub mod waiting;

/// The map of tuples to cores.
pub use crate::wire::rss;
