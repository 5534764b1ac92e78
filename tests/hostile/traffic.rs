//! Packets that no honest network carries: conversations with every field bent, and captured frames with bytes changed.
//!
//! A payload byte is a function of its sequence number, so that whoever reads a stream can tell where a byte belongs.

use crate::random::Random;
use mos::wire::checksum;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// The payload byte at a sequence number.
pub fn byte_at(seq: u32) -> u8 {
    (seq.wrapping_mul(0x9e37_79b1) >> 23) as u8
}

/// A captured frame.
#[derive(Clone)]
pub struct Frame {
    pub dev: u8,
    pub bytes: Vec<u8>,
    /// Length on the wire: more than `bytes` when the capture cut it.
    pub wire_len: u32,
}

/// A TCP segment to build.
#[derive(Clone, Debug)]
pub struct Segment {
    pub from: ([u8; 4], u16),
    pub to: ([u8; 4], u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// TCP options; padded to whole words.
    pub options: Vec<u8>,
    /// IP options; padded likewise.
    pub ip_options: Vec<u8>,
    pub len: usize,
}

impl Segment {
    /// The Ethernet frame, checksums right, payload by [`byte_at`].
    pub fn build(&self) -> Vec<u8> {
        let pad = |o: &[u8]| {
            let mut o = o[..o.len().min(40)].to_vec();
            o.resize(o.len().div_ceil(4) * 4, 0);
            o
        };
        let (tcp_options, ip_options) = (pad(&self.options), pad(&self.ip_options));
        let headers = 40 + tcp_options.len() + ip_options.len();
        let len = self.len.min(65535 - headers - 14);
        let total = headers + len;
        let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        f.extend([0x45 + (ip_options.len() / 4) as u8, 0]);
        f.extend((total as u16).to_be_bytes());
        f.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        f.extend(self.from.0);
        f.extend(self.to.0);
        f.extend(ip_options);
        f.extend(self.from.1.to_be_bytes());
        f.extend(self.to.1.to_be_bytes());
        f.extend(self.seq.to_be_bytes());
        f.extend(self.ack.to_be_bytes());
        f.extend([((20 + tcp_options.len()) << 2) as u8, self.flags]);
        f.extend(self.window.to_be_bytes());
        f.extend([0; 4]);
        f.extend(tcp_options);
        let first = self.seq.wrapping_add((self.flags & SYN != 0) as u32);
        f.extend((0..len as u32).map(|i| byte_at(first.wrapping_add(i))));
        sums(&mut f);
        f
    }
}

/// Makes the checksums right, if the lengths allow it.
fn sums(frame: &mut [u8]) {
    let _ = checksum::fill_ipv4(&mut frame[14..]);
    let _ = checksum::fill_tcp(&mut frame[14..]);
}

/// Two ends that talk.
struct Talk {
    ends: [([u8; 4], u16); 2],
    next: [u32; 2],
    isn: [u32; 2],
    stage: u8,
    stamps: bool,
    clock: u32,
}

/// How far the packets go.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// A field is bent once in so many times.
    pub calm: usize,
    pub talks: usize,
    pub packets: usize,
    /// Whether the bytes in streams are to stay those of [`byte_at`].
    pub checked: bool,
}

/// Packets of several conversations, in loop iterations: virtual nanoseconds and frames.
pub fn conversations(r: &mut Random, shape: Shape) -> Vec<(u64, Vec<Frame>)> {
    let ports = [80, 80, 8000, 1, 65535, 443];
    let mut talks: Vec<Talk> = (0..shape.talks)
        .map(|n| {
            let mut ends = [
                ([10, 0, 0, r.below(3) as u8], 1024 + n as u16),
                ([10, 0, 1, r.below(2) as u8], r.pick(&ports)),
            ];
            if r.once_in(12) {
                ends[1] = ends[0];
            } else if r.once_in(12) {
                ends[0].1 = ends[1].1;
            }
            Talk { ends, next: [0; 2], isn: [0; 2], stage: 0, stamps: r.once_in(2), clock: r.bits() as u32 }
        })
        .collect();
    let mut now = start(r);
    let mut batches = Vec::new();
    let mut left = shape.packets;
    while left > 0 {
        now += pause(r);
        let size = if r.once_in(4) { 1 + r.below(40) } else { 1 + r.below(3) }.min(left);
        left -= size;
        let mut frames: Vec<Frame> = Vec::new();
        for _ in 0..size {
            let n = r.below(talks.len());
            let (segment, from) = talks[n].say(r, shape);
            frames.push(dress(r, &segment, from as u8, shape));
            if r.once_in(shape.calm * 4) && frames.len() > 1 {
                let (a, b) = (r.below(frames.len()), r.below(frames.len()));
                frames.swap(a, b);
            }
        }
        batches.push((now, frames));
    }
    batches
}

fn start(r: &mut Random) -> u64 {
    r.pick(&[0, 1_000_000, 1_700_000_000_000, (1 << 32) - 500, (1 << 33) - 1]) * 1_000_000
}

fn pause(r: &mut Random) -> u64 {
    let ms = match r.below(60) {
        0 => 1000 + r.below(40_000) as u64,
        1 => 31_000,
        2 if r.once_in(20) => r.pick(&[1 << 31, 1 << 32, (1 << 32) + 7]),
        3..20 => 0,
        _ => r.below(30) as u64,
    };
    ms * 1_000_000 + r.below(1000) as u64
}

impl Talk {
    /// The next segment and who sends it.
    fn say(&mut self, r: &mut Random, shape: Shape) -> (Segment, usize) {
        let calm = shape.calm;
        let mut from = r.below(2);
        let (mut flags, mut len, mut options) = (ACK, 0, Vec::new());
        match self.stage {
            0 => {
                from = r.once_in(10) as usize;
                flags = SYN;
                self.isn = [0; 2].map(|_| {
                    if r.once_in(3) { 0u32.wrapping_sub(r.below(3000) as u32) } else { r.bits() as u32 }
                });
                self.next = self.isn;
                self.stage = 1;
            }
            1 => {
                (from, flags) = (1, if r.once_in(8) { SYN } else { SYN | ACK });
                self.stage = 2;
            }
            2 => {
                from = 0;
                self.stage = 3;
            }
            _ => {
                len = match r.below(12) {
                    0 => 0,
                    1 => 1,
                    2 => 1 + r.below(9000),
                    3 if r.once_in(6) => 65000,
                    _ => 1 + r.below(1460),
                };
                flags = if r.once_in(2) { ACK | PSH } else { ACK };
                if r.once_in(25) {
                    flags |= FIN;
                }
                if r.once_in(60) {
                    flags = if r.once_in(2) { RST } else { RST | ACK };
                    len = 0;
                }
            }
        }
        let syn = flags & SYN != 0;
        if syn {
            options = syn_options(r);
            if r.once_in(6) {
                len = r.below(1400);
            }
        }
        if self.stamps {
            self.clock = self.clock.wrapping_add(r.below(20) as u32);
            let stamp =
                if r.once_in(calm) { self.clock.wrapping_sub(r.below(5000) as u32) } else { self.clock };
            options.extend([1, 1, 8, 10]);
            options.extend(stamp.to_be_bytes());
            options.extend(r.pick(&[0, self.clock]).to_be_bytes());
        }
        let mut seq = if syn { self.isn[from] } else { self.next[from] };
        let end = seq.wrapping_add(len as u32).wrapping_add((flags & (SYN | FIN) != 0) as u32);
        match r.below(10) {
            // Lost before the tap.
            0 if !syn => self.next[from] = end.wrapping_add(r.below(3000) as u32),
            // Sent again, or overlapping what was sent.
            1 | 2 if !syn => seq = seq.wrapping_sub(r.below(4000) as u32),
            // A later one overtakes.
            3 if !syn => seq = seq.wrapping_add(r.below(3000) as u32),
            _ => self.next[from] = end,
        }
        if r.once_in(40) && self.stage == 3 && flags & (FIN | RST) != 0 {
            self.stage = 0;
        } else if r.once_in(calm * 10) {
            self.stage = r.below(4) as u8;
        }
        let mut s = Segment {
            from: self.ends[from],
            to: self.ends[1 - from],
            seq,
            ack: if flags & ACK != 0 { self.next[1 - from] } else { 0 },
            flags,
            window: r.pick(&[65535, 8192, 1000]),
            options,
            ip_options: Vec::new(),
            len,
        };
        bend(r, &mut s, calm);
        (s, from)
    }
}

fn syn_options(r: &mut Random) -> Vec<u8> {
    let mut o = vec![2, 4, 5, 180];
    if r.once_in(2) {
        let scale = if r.once_in(3) { r.bits() as u8 } else { r.below(15) as u8 };
        o.extend([1, 3, 3, scale]);
    }
    if r.once_in(2) {
        o.extend([1, 1, 4, 2]);
    }
    o
}

fn far(r: &mut Random, n: u32) -> u32 {
    match r.below(6) {
        0 => r.bits() as u32,
        1 => n.wrapping_add(1 << 31),
        2 => n.wrapping_add((1 << 31) - 1),
        3 => n.wrapping_add(r.below(200_000) as u32),
        4 => n.wrapping_sub(r.below(200_000) as u32),
        _ => n.wrapping_sub(1),
    }
}

/// Changes fields of a segment; it stays well-formed.
fn bend(r: &mut Random, s: &mut Segment, calm: usize) {
    if r.once_in(calm) {
        s.flags = if r.once_in(2) { r.bits() as u8 } else { s.flags ^ 1 << r.below(6) };
    }
    if r.once_in(calm) {
        s.seq = far(r, s.seq);
    }
    if r.once_in(calm) {
        s.ack = far(r, s.ack);
    }
    if r.once_in(calm) {
        s.window = r.pick(&[0, 0, 1, 65535]);
    }
    if r.once_in(calm) {
        let n = r.below(41);
        s.options = r.bytes(n);
    }
    if r.once_in(calm) {
        let n = r.below(41);
        s.ip_options = r.bytes(n);
    }
}

/// Makes a frame of a segment, and lies about it.
fn dress(r: &mut Random, s: &Segment, dev: u8, shape: Shape) -> Frame {
    let mut bytes = s.build();
    let calm = shape.calm * 2;
    let l4 = 14 + (bytes[14] & 15) as usize * 4;
    let payload = bytes.len() - l4 - (bytes[l4 + 12] >> 4) as usize * 4;
    if r.once_in(calm) {
        let total = u16::from_be_bytes([bytes[16], bytes[17]]);
        let lie = match r.below(4) {
            0 => r.bits() as u16,
            1 => total.wrapping_sub(r.below(60) as u16),
            2 => total.wrapping_add(r.below(60) as u16),
            _ => r.below(64) as u16,
        };
        bytes[16..18].copy_from_slice(&lie.to_be_bytes());
        sums(&mut bytes);
    }
    if !shape.checked && r.once_in(calm) {
        bytes[l4 + 12] = r.bits() as u8;
        sums(&mut bytes);
    }
    if !shape.checked && r.once_in(calm) {
        bytes[14] = r.bits() as u8;
        sums(&mut bytes);
    }
    if r.once_in(calm) {
        bytes[20..22].copy_from_slice(&r.pick(&[0x2000u16, 0x2001, 1, 0x1fff, 0x8000]).to_be_bytes());
        sums(&mut bytes);
    }
    let inverted = r.once_in(calm);
    if inverted {
        // Whoever reads these bytes did not verify.
        bytes[l4 + 16] ^= 0x55;
        for b in bytes.iter_mut().skip(l4 + 60) {
            *b = !*b;
        }
        if shape.checked {
            // The sum of the inverted bytes might be right by chance.
            let sum =
                checksum::tcp_ok(&bytes[14..], bytes[14] & 15, u16::from_be_bytes([bytes[16], bytes[17]]));
            bytes[l4 + 16] ^= if sum { 0x33 } else { 0 };
        }
    }
    if r.once_in(calm * 2) {
        bytes[24] ^= 0x55;
    }
    if r.once_in(calm) {
        let n = r.below(30);
        let mut trailer = r.bytes(n);
        if shape.checked {
            // A total length that lies may make payload of it, and a frame that was cut is not verified.
            let first = s.seq.wrapping_add((s.flags & SYN != 0) as u32).wrapping_add(payload as u32);
            trailer = (0..n as u32).map(|i| byte_at(first.wrapping_add(i))).collect();
        }
        bytes.extend(trailer);
    }
    if r.once_in(calm * 4) {
        bytes[12..14].copy_from_slice(&r.pick(&[[0x86, 0xdd], [8, 6], [0x81, 0], [0, 0]]));
    }
    let mut wire_len = bytes.len() as u32;
    // The checksum of a frame that was cut, or says so, cannot be verified: inverted bytes must stay whole to be refused.
    if inverted && shape.checked {
        return Frame { dev, wire_len, bytes };
    }
    if r.once_in(calm) {
        bytes.truncate(r.below(bytes.len() + 1));
        wire_len = if r.once_in(4) { bytes.len() as u32 } else { wire_len };
    } else if r.once_in(calm * 2) {
        wire_len = r.bits() as u32 >> r.below(32);
    }
    Frame { dev, wire_len: wire_len.max(bytes.len() as u32), bytes }
}

/// Frames of captures, changed: bytes, bits, lengths, order.
pub fn mangled(r: &mut Random, captured: &[Vec<u8>], packets: usize, calm: usize) -> Vec<(u64, Vec<Frame>)> {
    let mut now = start(r);
    let mut at = r.below(captured.len());
    let mut batches = Vec::new();
    let mut left = packets;
    while left > 0 {
        now += pause(r);
        let size = (1 + r.below(8)).min(left);
        left -= size;
        let frames = (0..size).map(|_| {
            at = if r.once_in(30) { r.below(captured.len()) } else { (at + 1) % captured.len() };
            let mut bytes = captured[at].clone();
            let fix = r.once_in(2);
            if r.once_in(calm) {
                for _ in 0..1 + r.below(4) {
                    // Headers more than payload.
                    let most = if r.once_in(4) { bytes.len() } else { bytes.len().min(74) };
                    if most > 0 {
                        let place = r.below(most);
                        bytes[place] =
                            if r.once_in(2) { r.bits() as u8 } else { bytes[place] ^ 1 << r.below(8) };
                    }
                }
                if fix && bytes.len() > 34 {
                    sums(&mut bytes);
                }
            }
            let mut wire_len = bytes.len() as u32;
            if r.once_in(calm * 2) {
                bytes.truncate(r.below(bytes.len() + 1));
                wire_len = if r.once_in(2) { bytes.len() as u32 } else { wire_len };
            }
            Frame { dev: r.below(2) as u8, bytes, wire_len }
        });
        batches.push((now, frames.collect()));
    }
    batches
}
