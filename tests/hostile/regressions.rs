//! Packet sequences that once went wrong, by name.
