//! (placeholder)

pub mod loose;
pub mod ranges;
pub mod reassembly;
pub mod store;
