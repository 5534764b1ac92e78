//! Frames to feed: the connection of monitor.md §10, from client 10.0.0.1:1111 (ISN 1000) to server 10.0.1.1:80 (ISN 5000).
//!
//! Sequence and acknowledgement numbers are given as stream offsets (0 is the byte behind the SYN) unless a method says
//! otherwise. A packet acknowledges nothing but the peer's SYN unless it says so.

/// FIN.
pub const F: u8 = 1;
/// SYN.
pub const S: u8 = 2;
/// RST.
pub const R: u8 = 4;
/// PSH.
pub const P: u8 = 8;
/// ACK.
pub const A: u8 = 16;

/// The client's initial sequence number.
pub const CLIENT_ISN: u32 = 1000;
/// The server's initial sequence number.
pub const SERVER_ISN: u32 = 5000;
/// Device the client's packets come in by.
pub const CLIENT_DEV: u8 = 0;
/// Device the server's packets come in by.
pub const SERVER_DEV: u8 = 1;

/// The client's address.
pub const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 1111);
/// The server's address.
pub const SERVER: ([u8; 4], u16) = ([10, 0, 1, 1], 80);

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A frame and the device it comes in by.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Device number.
    pub dev: u8,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// A TCP packet to be built.
#[derive(Clone, Debug)]
pub struct Packet {
    from_client: bool,
    src: ([u8; 4], u16),
    dst: ([u8; 4], u16),
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    ip_options: Vec<u8>,
    payload: Vec<u8>,
}

fn packet(from_client: bool, flags: u8, seq: u32, ack: u32) -> Packet {
    let (src, dst) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    Packet {
        from_client,
        src,
        dst,
        seq,
        ack: if flags & A != 0 { ack } else { 0 },
        flags,
        window: 65535,
        options: Vec::new(),
        ip_options: Vec::new(),
        payload: Vec::new(),
    }
}

/// The client's SYN.
pub fn syn() -> Packet {
    packet(true, S, CLIENT_ISN, 0)
}

/// The server's SYN/ACK.
pub fn syn_ack() -> Packet {
    packet(false, S | A, SERVER_ISN, CLIENT_ISN + 1)
}

/// The client's packet with `flags` at stream offset `off`.
pub fn c(flags: u8, off: u32) -> Packet {
    packet(true, flags, (CLIENT_ISN + 1).wrapping_add(off), SERVER_ISN + 1)
}

/// The server's packet with `flags` at stream offset `off`.
pub fn s(flags: u8, off: u32) -> Packet {
    packet(false, flags, (SERVER_ISN + 1).wrapping_add(off), CLIENT_ISN + 1)
}

/// The client's handshake ACK.
pub fn ack() -> Packet {
    c(A, 0)
}

/// Data from the client at stream offset `off`.
pub fn data(off: u32, bytes: impl AsRef<[u8]>) -> Packet {
    c(P | A, off).with(bytes)
}

/// Data from the server at stream offset `off`.
pub fn reply(off: u32, bytes: impl AsRef<[u8]>) -> Packet {
    s(P | A, off).with(bytes)
}

/// `len` bytes that differ by position.
pub fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| b'a' + (n % 26) as u8).collect()
}

impl Packet {
    /// Payload.
    pub fn with(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.payload = bytes.as_ref().to_vec();
        self
    }

    /// Absolute sequence number.
    pub fn seq(mut self, seq: u32) -> Self {
        self.seq = seq;
        self
    }

    /// Absolute acknowledgement number; the flag stays as it is.
    pub fn ack_no(mut self, ack: u32) -> Self {
        self.ack = ack;
        self
    }

    /// Acknowledges the peer's stream up to offset `off` (a FIN counts one).
    pub fn acks(self, off: u32) -> Self {
        let isn = if self.from_client { SERVER_ISN } else { CLIENT_ISN };
        self.ack_no((isn + 1).wrapping_add(off))
    }

    /// Window field.
    pub fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    /// TCP options, padded to whole words.
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options.extend_from_slice(options);
        while self.options.len() % 4 != 0 {
            self.options.push(0);
        }
        self
    }

    /// Timestamp option.
    pub fn stamp(self, val: u32, ecr: u32) -> Self {
        let mut option = vec![1, 1, 8, 10];
        option.extend_from_slice(&val.to_be_bytes());
        option.extend_from_slice(&ecr.to_be_bytes());
        self.options(&option)
    }

    /// IP options (whole words).
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self
    }

    /// Another client port, for another flow.
    pub fn port(mut self, port: u16) -> Self {
        if self.from_client {
            self.src.1 = port
        } else {
            self.dst.1 = port
        }
        self
    }

    /// Another server port.
    pub fn server_port(mut self, port: u16) -> Self {
        if self.from_client {
            self.dst.1 = port
        } else {
            self.src.1 = port
        }
        self
    }

    /// Another client address.
    pub fn client(mut self, addr: [u8; 4], port: u16) -> Self {
        if self.from_client {
            self.src = (addr, port)
        } else {
            self.dst = (addr, port)
        }
        self
    }

    /// Another server address.
    pub fn server(mut self, addr: [u8; 4], port: u16) -> Self {
        if self.from_client {
            self.dst = (addr, port)
        } else {
            self.src = (addr, port)
        }
        self
    }

    /// The frame's bytes, checksums filled in.
    pub fn bytes(&self) -> Vec<u8> {
        let (ihl, doff) = (20 + self.ip_options.len(), 20 + self.options.len());
        let total = ihl + doff + self.payload.len();
        let (to, from) = if self.from_client { (SERVER_MAC, CLIENT_MAC) } else { (CLIENT_MAC, SERVER_MAC) };
        let mut f = Vec::new();
        f.extend_from_slice(&to);
        f.extend_from_slice(&from);
        f.extend_from_slice(&[8, 0]);
        f.extend_from_slice(&[0x40 | (ihl / 4) as u8, 0]);
        f.extend_from_slice(&(total as u16).to_be_bytes());
        f.extend_from_slice(&[0x12, 0x34, 0x40, 0, 64, 6, 0, 0]);
        f.extend_from_slice(&self.src.0);
        f.extend_from_slice(&self.dst.0);
        f.extend_from_slice(&self.ip_options);
        f.extend_from_slice(&self.src.1.to_be_bytes());
        f.extend_from_slice(&self.dst.1.to_be_bytes());
        f.extend_from_slice(&self.seq.to_be_bytes());
        f.extend_from_slice(&self.ack.to_be_bytes());
        f.extend_from_slice(&[((doff / 4) << 4) as u8, self.flags]);
        f.extend_from_slice(&self.window.to_be_bytes());
        f.extend_from_slice(&[0; 4]);
        f.extend_from_slice(&self.options);
        f.extend_from_slice(&self.payload);
        fill_checksums(&mut f);
        f
    }

    /// The frame, to be bent by `edit`.
    pub fn bent(&self, edit: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let mut frame = Frame::from(self.clone());
        edit(&mut frame.bytes);
        frame
    }
}

impl From<Packet> for Frame {
    fn from(p: Packet) -> Frame {
        Frame { dev: if p.from_client { CLIENT_DEV } else { SERVER_DEV }, bytes: p.bytes() }
    }
}

/// Computes the checksums of an Ethernet, IPv4 and TCP frame anew.
pub fn fill_checksums(f: &mut [u8]) {
    let ihl = (f[14] & 15) as usize * 4;
    f[24..26].fill(0);
    let sum = !folded(&f[14..14 + ihl], 0);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    let end = 14 + u16::from_be_bytes([f[16], f[17]]) as usize;
    let l4 = 14 + ihl;
    f[l4 + 16..l4 + 18].fill(0);
    let sum = !tcp_sum(&f[..end]);
    f[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
}

fn tcp_sum(f: &[u8]) -> u16 {
    let l4 = 14 + (f[14] & 15) as usize * 4;
    let pseudo = folded(&f[26..34], 6 + (f.len() - l4) as u32);
    folded(&f[l4..], pseudo as u32)
}

/// Whether both checksums of a frame are right.
pub fn checksums_hold(f: &[u8]) -> bool {
    let ihl = (f[14] & 15) as usize * 4;
    let end = 14 + u16::from_be_bytes([f[16], f[17]]) as usize;
    folded(&f[14..14 + ihl], 0) == 0xffff && tcp_sum(&f[..end]) == 0xffff
}

fn folded(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A TCP frame read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Source.
    pub src: ([u8; 4], u16),
    /// Destination.
    pub dst: ([u8; 4], u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Bytes of TCP options.
    pub options: Vec<u8>,
    /// Payload.
    pub payload: Vec<u8>,
}

/// Reads a TCP frame; panics when its lengths or checksums are wrong.
pub fn seen(f: &[u8]) -> Seen {
    assert!(checksums_hold(f), "checksums of {f:02x?}");
    let total = u16::from_be_bytes([f[16], f[17]]) as usize;
    assert_eq!(f.len(), 14 + total, "the frame is as long as the packet");
    let l4 = 14 + (f[14] & 15) as usize * 4;
    let addr = |at: usize| [f[at], f[at + 1], f[at + 2], f[at + 3]];
    let port = |at: usize| u16::from_be_bytes([f[at], f[at + 1]]);
    let word = |at: usize| u32::from_be_bytes(addr(at));
    let body = l4 + (f[l4 + 12] >> 4) as usize * 4;
    Seen {
        src: (addr(26), port(l4)),
        dst: (addr(30), port(l4 + 2)),
        seq: word(l4 + 4),
        ack: word(l4 + 8),
        flags: f[l4 + 13],
        options: f[l4 + 20..body].to_vec(),
        payload: f[body..].to_vec(),
    }
}

/// A UDP datagram from the client.
pub fn udp() -> Frame {
    other_protocol(17, &[4, 87, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4])
}

/// An ICMP echo request from the client.
pub fn icmp() -> Frame {
    other_protocol(1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0])
}

fn other_protocol(protocol: u8, body: &[u8]) -> Frame {
    let mut f = syn().bytes();
    f.truncate(34);
    f.extend_from_slice(body);
    f[16..18].copy_from_slice(&(20 + body.len() as u16).to_be_bytes());
    f[23] = protocol;
    f[24..26].fill(0);
    let sum = !folded(&f[14..34], 0);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    Frame { dev: CLIENT_DEV, bytes: f }
}

/// A frame with another EtherType and `len` bytes behind the Ethernet header.
pub fn ethernet(ether_type: u16, len: usize) -> Frame {
    syn().bent(|f| {
        f[12..14].copy_from_slice(&ether_type.to_be_bytes());
        f.resize(14 + len, 0x55);
    })
}
