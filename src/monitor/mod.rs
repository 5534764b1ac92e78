//! (placeholder)

pub mod filter;
