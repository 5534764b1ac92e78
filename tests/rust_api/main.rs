//! The Rust API from outside: on the capture that ships with the tests, and on packets by hand.

mod flows;
mod packet;
mod packets;
mod runs;
mod streams;

use std::sync::{Arc, Mutex};

use mos::{Builder, Monitor};

/// The capture of `tests/data`.
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");

/// What closures report, shared with the test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn say(&self, line: impl ToString) {
        self.0.lock().unwrap().push(line.to_string());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    #[track_caller]
    fn expect(&self, lines: &[&str]) {
        assert_eq!(self.lines(), lines);
    }
}

/// A builder for the packets of one conversation.
fn of(talk: &mut packets::Talk) -> Builder {
    Monitor::builder().packets(talk.take())
}
