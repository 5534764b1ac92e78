//! The endpoint's TCP, driven from outside: two ends over a bad link, and hostile segments.

mod goodput;
mod hostile;
mod link;
mod linux;
mod random;
mod transfer;
