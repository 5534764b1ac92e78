//! (placeholder)

pub mod options;
pub mod seq;
