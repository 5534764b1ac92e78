//! The conformance cases of the contract (monitor.md §10 as changed by decisions.md), through the C functions.
//!
//! One module per table of §10; `decisions`, `limits` and `kept` hold what the tables do not cover, `process` what needs a process
//! of its own. Expectations come from the contract alone.
mod callbacks;
mod calls;
mod closing;
mod data;
mod decisions;
mod edits;
#[path = "../harness/mod.rs"]
mod harness;
mod kept;
mod lab;
mod limits;
mod monitors;
mod network;
mod packets;
mod process;
mod setup;
