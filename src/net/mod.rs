//! (placeholder)

pub mod rss;
