//! Conversations by hand: frames with right checksums, at the times asked for.

use std::time::Duration;

use mos::wire::checksum;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;
/// Initial sequence numbers of client and server.
pub const ISS: [u32; 2] = [1000, 5000];
pub const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub const SERVER: [u8; 4] = [10, 0, 0, 2];
pub const START: Duration = Duration::from_secs(1_000_000);

/// An Ethernet frame with an IPv4 packet of protocol `proto`.
pub fn ipv4(src: [u8; 4], dst: [u8; 4], proto: u8, rest: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    f.extend(((20 + rest.len()) as u16).to_be_bytes());
    f.extend([0, 1, 0x40, 0, 64, proto, 0, 0]);
    f.extend(src);
    f.extend(dst);
    f.extend(rest);
    checksum::fill_ipv4(&mut f[14..]).unwrap();
    f
}

/// One conversation between a port of the client and port 80 of the server; who sends is 0 (client) or 1 (server).
pub struct Talk {
    pub port: u16,
    pub now: Duration,
    pub packets: Vec<(Duration, Vec<u8>)>,
    /// Next sequence number of each end.
    next: [u32; 2],
}

impl Talk {
    pub fn new(port: u16) -> Talk {
        Talk { port, now: START, packets: Vec::new(), next: ISS }
    }

    /// Time passes.
    pub fn wait(&mut self, ms: u64) -> &mut Self {
        self.now += Duration::from_millis(ms);
        self
    }

    /// Any segment, with offsets from the sender's and receiver's first byte (their SYNs are at -1).
    pub fn raw(&mut self, from: usize, flags: u8, seq: i64, ack: i64, payload: &[u8]) -> &mut Self {
        let (ports, ips) = ([self.port, 80], [CLIENT, SERVER]);
        let number = |end: usize, off: i64| ISS[end].wrapping_add(1).wrapping_add(off as u32);
        let mut tcp = Vec::new();
        tcp.extend(ports[from].to_be_bytes());
        tcp.extend(ports[1 - from].to_be_bytes());
        tcp.extend(number(from, seq).to_be_bytes());
        tcp.extend(if flags & ACK != 0 { number(1 - from, ack) } else { 0 }.to_be_bytes());
        tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(payload);
        let mut frame = ipv4(ips[from], ips[1 - from], 6, &tcp);
        checksum::fill_tcp(&mut frame[14..]).unwrap();
        self.packets.push((self.now, frame));
        self.wait(10)
    }

    /// The next segment of an end, in order, that acknowledges all of the other's.
    pub fn send(&mut self, from: usize, flags: u8, payload: &[u8]) -> &mut Self {
        let off = |end: usize, n: u32| n.wrapping_sub(ISS[end].wrapping_add(1)) as i32 as i64;
        let (seq, ack) = (off(from, self.next[from]), off(1 - from, self.next[1 - from]));
        let used = payload.len() as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.next[from] = self.next[from].wrapping_add(used);
        self.raw(from, flags, seq, ack, payload)
    }

    pub fn handshake(&mut self) -> &mut Self {
        self.send(0, SYN, b"").send(1, SYN | ACK, b"").send(0, ACK, b"")
    }

    pub fn close(&mut self) -> &mut Self {
        self.send(0, FIN | ACK, b"").send(1, FIN | ACK, b"").send(0, ACK, b"")
    }

    pub fn take(&mut self) -> Vec<(Duration, Vec<u8>)> {
        std::mem::take(&mut self.packets)
    }
}

/// Several conversations, merged by time.
pub fn merged(talks: impl IntoIterator<Item = Talk>) -> Vec<(Duration, Vec<u8>)> {
    let mut all: Vec<_> = talks.into_iter().flat_map(|t| t.packets).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}
