//! Packets in and out: capture files, their replay, and the outputs that take what is forwarded.

pub mod capture;
pub mod interface;
pub mod output;
pub mod progress;
pub mod replay;
pub mod source;
