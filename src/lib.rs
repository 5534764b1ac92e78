//! A stateful networking stack for middleboxes.
//!
//! For every TCP flow that passes, two endpoint stacks are kept, the sender's and the receiver's, and events are raised
//! as each packet moves through both:
//!
//! ```text
//! ingress ─► Hook::Null ─► flow ─► sender side ─► Hook::Snd ─► receiver side ─► Hook::Rcv ─► forward
//!            (raw sockets, (one     (what sending   callbacks    (what receiving   callbacks   or drop
//!             orphans)      record)  it meant)                    it means)
//! ```
//!
//! A program is a set of closures on those events. This one prints what web clients asked for, from the streams as the
//! servers received them: in order, without duplicates, whatever way the segments took.
//!
//! ```
//! use mos::{Event, Hook, Monitor, Side};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
//! let mut monitor = Monitor::open(path)?; // a capture file: pcap or pcapng, plain or gzip
//! let stream = monitor.stream()?;
//! stream.syn_filter("tcp port 8000")?;
//! stream.on(Event::NewData, Hook::Null, |ev| {
//!     let request = ev.read_all(Side::Server); // the stream that the server receives
//!     if let Some(line) = request.split(|&b| b == b'\r').next().filter(|l| !l.is_empty()) {
//!         println!("{} {}", ev.flow().client, String::from_utf8_lossy(line));
//!     }
//! })?;
//! let summary = monitor.run()?; // on this thread, until the capture has ended and every flow with it
//! assert!(summary.counters.stream_bytes > 0);
//! # Ok::<(), mos::Error>(())
//! ```
//!
//! Where to go from here:
//! * [`Monitor`]: [user events](Monitor::define_event) that refine others by a predicate, [timers](Monitor::timer).
//! * [`Builder`]: several captures, packets from memory, an output for what is forwarded, all options.
//! * [`Ctx`], what a closure gets: the [flow](Ctx::flow), both [TCP states](Ctx::state), the [packet](Ctx::packet)
//!   (to [edit](Ctx::edit) or [drop](Ctx::drop_packet)), the [streams](Ctx::peek), [data](Ctx::set_data) of one's
//!   own for each flow.
//!
//! Time is the capture's: timers, timeouts and the order of events are the same on every run. C programs use the same
//! monitor through `libmos.so` and the `mtcp_*` functions of `mos_api.h`.
#![deny(unsafe_code)]

pub mod api;
pub use api::{
    Area, Builder, Checksums, Counters, Ctx, Error, Ethernet, Event, Flow, Hook, Ipv4, Monitor, Overlap,
    PacketView, Peek, Raw, Side, StopHandle, Stream, Summary, Tcp, TcpState, TimerCtx, UserEvent,
};

// Not part of the API: tests and measurements reach in.
#[doc(hidden)]
#[allow(unsafe_code)]
pub mod capi;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod endpoint;
#[doc(hidden)]
pub mod flow;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod monitor;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod runtime;
#[doc(hidden)]
pub mod tcp;
#[doc(hidden)]
pub mod wire;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
