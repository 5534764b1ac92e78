//! What happens below TCP: parsing and checking what came in, sending on what goes out.

pub mod forward;
pub mod prepare;

/// The map of tuples to cores.
pub use crate::wire::rss;
