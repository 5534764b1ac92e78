//! Bindings to the part of DPDK that libmos uses, made from the headers of the libdpdk that is installed.
//!
//! `rte_*` are DPDK's own functions and types, described in its API reference; `shim_*` and `SHIM_*` come from
//! `c/shim.h`, which says what they do. Everything is as unsafe as it is in C.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
