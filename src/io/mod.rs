//! (placeholder)
pub mod capture;
pub mod progress;
pub mod replay;
