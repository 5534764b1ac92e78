//! TCP without I/O: sequence arithmetic, options, the transition table and the reassembly store.
//!
//! Time, randomness and memory limits come in as arguments. [`side`] is the observed endpoint of the
//! monitor: compact, and tolerant of what the tap did not see.

pub mod loose;
pub mod machine;
pub mod one;
pub mod options;
pub mod ranges;
pub mod reassembly;
pub mod seq;
pub mod side;
pub mod state;
pub mod store;
pub mod tcb;
