//! (placeholder)
pub mod abi;
