//! What a script needs of what it tests: a bare connection, or a whole stack on a link in memory.

use std::fmt;

/// A segment, its numbers counted from the initial sequence numbers of their directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub len: usize,
}

/// Settings, as a script gives them.
#[derive(Clone, Debug)]
pub struct Settings {
    pub timestamps: bool,
    pub sack: bool,
    pub wscale: bool,
    pub newreno: bool,
    /// Every other `config` line: name and value.
    pub more: Vec<(String, f64)>,
}

/// How a call ended: a count, or the name of an errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ret {
    Count(usize),
    Errno(&'static str),
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ret::Count(n) => write!(f, "{n}"),
            Ret::Errno(name) => f.write_str(name),
        }
    }
}

/// Times are microseconds of virtual time. Data is a pattern of its place in the stream: the driver makes it and checks it,
/// and panics when it is wrong.
pub trait Driver {
    fn listen(&mut self, now: u64);
    fn connect(&mut self, now: u64);
    fn inject(&mut self, now: u64, packet: &Packet);
    /// Takes the packets that are to be sent now.
    fn drain(&mut self, now: u64) -> Vec<Packet>;
    /// When [`Driver::expire`] is to be called.
    fn deadline(&self) -> Option<u64>;
    fn expire(&mut self, now: u64);

    fn write(&mut self, now: u64, len: usize) -> Ret;
    fn read(&mut self, now: u64, len: usize) -> Ret;
    /// `read`, `write`, `both`.
    fn shutdown(&mut self, now: u64, how: &str) -> Ret;
    fn close(&mut self, now: u64) -> Result<(), String>;
    fn abort(&mut self, now: u64) -> Result<(), String>;
    /// An option by name: `nodelay`, `keepalive`, `rcvbuf`, `sndbuf`.
    fn set(&mut self, now: u64, name: &str, value: u32) -> Result<(), String>;
    /// An ICMP error by name, its MTU, and the sequence number it quotes.
    fn icmp(&mut self, now: u64, name: &str, mtu: u16, seq: u32) -> Result<(), String>;

    /// What can be observed by name (`state`, `ready`, `error`, `cwnd` ...), as text. `None`: not by this driver.
    fn observe(&mut self, name: &str) -> Option<String>;
}
