//! The packets of a script: made and handed in, taken and compared; numbers of the script mapped to those on the wire.

use crate::parse::{Icmp, Opt, Packet, Result};
use crate::run::{LOCAL, PORT, REMOTE, Run};

const FIRST_REMOTE_PORT: u16 = 40_000;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The connection that packets of the script are of.
#[derive(Clone, Copy)]
pub struct Wire {
    local_port: u16,
    remote_port: u16,
    /// What is added to a script's number of our direction to have the one on the wire.
    shift: Option<u32>,
}

impl Wire {
    /// That of a connection from the `made`th remote port, of which nothing was sent yet.
    pub fn passive(made: u16) -> Self {
        Wire { local_port: PORT, remote_port: FIRST_REMOTE_PORT + made, shift: None }
    }
}

impl Run {
    pub fn inject(&mut self, packet: &Packet) -> Result<()> {
        if packet.flags & (SYN | ACK) == SYN && self.listens {
            // A new connection to the listener. Further SYNs are of the same one.
            self.wire = Wire::passive(self.made);
            self.made += 1;
            self.listens = false;
            self.stamps.clear();
        }
        let shift = self.wire.shift.unwrap_or(0);
        let mut options = Vec::new();
        for option in packet.options.as_deref().ok_or("options must be given")? {
            match option {
                Opt::Raw(bytes) => options.extend(bytes),
                Opt::Stamps(value, echo) => {
                    options.extend([8, 10]);
                    options.extend(value.to_be_bytes());
                    options.extend(self.stamps.get(echo).unwrap_or(echo).to_be_bytes());
                }
                Opt::Sack(blocks) => {
                    options.extend([5, 2 + 8 * blocks.len() as u8]);
                    for edge in blocks.iter().flat_map(|&(start, end)| [start, end]) {
                        options.extend(edge.wrapping_add(shift).to_be_bytes());
                    }
                }
            }
        }
        options.resize(options.len().next_multiple_of(4), 0);
        let ack = if packet.flags & ACK != 0 { packet.ack.wrapping_add(shift) } else { 0 };
        let mut tcp = Vec::new();
        tcp.extend(self.wire.remote_port.to_be_bytes());
        tcp.extend(self.wire.local_port.to_be_bytes());
        tcp.extend(packet.seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([((20 + options.len()) / 4 * 16) as u8, packet.flags]);
        tcp.extend(packet.window.unwrap_or(0).to_be_bytes());
        tcp.extend([0; 2]);
        tcp.extend(packet.urgent.to_be_bytes());
        tcp.extend(options);
        tcp.resize(tcp.len() + packet.len, 0);
        let sum = sum(&pseudo(REMOTE, LOCAL, &tcp));
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        self.send(6, packet.tos.or(packet.ecn).unwrap_or(0), &tcp)
    }

    pub fn icmp(&mut self, icmp: &Icmp) -> Result<()> {
        let mut message = vec![icmp.kind, icmp.code, 0, 0, 0, 0];
        message.extend(icmp.mtu.to_be_bytes());
        // Errors are about a packet of ours: the script's, or any of the connection. (RFC 792)
        if matches!(icmp.kind, 3 | 4 | 5 | 11 | 12) {
            let (seq, len) = icmp.about.unwrap_or((self.sent, 0));
            message.extend(ip(6, 0, LOCAL, REMOTE, 20 + len));
            message.extend(self.wire.local_port.to_be_bytes());
            message.extend(self.wire.remote_port.to_be_bytes());
            message.extend(seq.wrapping_add(self.wire.shift.unwrap_or(0)).to_be_bytes());
        }
        let sum = sum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.send(1, 0, &message)
    }

    fn send(&self, protocol: u8, tos: u8, payload: &[u8]) -> Result<()> {
        let packet = [&ip(protocol, tos, REMOTE, LOCAL, payload.len())[..], payload].concat();
        // SAFETY: as many bytes as said.
        let sent = unsafe {
            (self.table.0.netdev_send)(self.table.0.userdata, packet.as_ptr().cast(), packet.len())
        };
        if sent == 0 { Ok(()) } else { Err("netdev_send".into()) }
    }

    /// Takes the next packet that leaves; `when`: the earliest and the latest moment, from the origin.
    pub fn expect(&mut self, packet: &Packet, when: Option<(i64, i64)>) -> Result<()> {
        let (mut bytes, mut time) = ([0u8; 65_536], 0);
        let mut len = bytes.len();
        let userdata = self.table.0.userdata;
        // SAFETY: room as said.
        let got = unsafe {
            (self.table.0.netdev_receive)(userdata, bytes.as_mut_ptr().cast(), &raw mut len, &raw mut time)
        };
        if got != 0 || len == 0 {
            return Err("no packet left".into());
        }
        let bytes = &bytes[..len];
        if len < 40 || bytes[0] != 0x45 || bytes[9] != 6 || sum(&bytes[..20]) != 0 {
            return Err(format!("no TCP packet: {bytes:02x?}"));
        }
        let tcp = &bytes[20..];
        if sum(&pseudo(LOCAL, REMOTE, tcp)) != 0 || bytes[12..20] != [LOCAL, REMOTE].concat() {
            return Err("wrong checksum or address".into());
        }
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let half = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let (flags, header) = (tcp[13], usize::from(tcp[12] >> 4) * 4);
        if flags & SYN != 0 && packet.flags & SYN != 0 {
            if flags & ACK == 0 && self.wire.shift.is_none() {
                self.wire = Wire { local_port: half(0), remote_port: half(2), shift: None };
            }
            self.wire.shift = Some(word(4).wrapping_sub(packet.seq));
        }
        if (half(0), half(2)) != (self.wire.local_port, self.wire.remote_port) {
            return Err(format!("a packet from port {} to port {}", half(0), half(2)));
        }
        let shift = self.wire.shift.unwrap_or(0);
        // The reset of what reached nobody has the number 0.
        let seq = if flags & RST != 0 && word(4) == 0 { 0 } else { word(4).wrapping_sub(shift) };
        self.sent = seq;
        let wanted = (packet.flags, packet.seq, packet.len, packet.ack, packet.window.unwrap_or(half(14)));
        let found = (flags, seq, tcp.len() - header, word(8), half(14));
        if wanted != found {
            return Err(format!(
                "flags, seq, len, ack, win were {found:?}, not {wanted:?} (at {} s)",
                (time - self.origin) as f64 / 1e6
            ));
        }
        if self.zeros && tcp[header..].iter().any(|&b| b != 0) {
            return Err("other bytes than were written".into());
        }
        if let Some(options) = &packet.options {
            self.compare_options(options, &tcp[20..header])?;
        }
        if packet.ecn.is_some_and(|ecn| ecn != bytes[1] & 3) {
            return Err(format!("ECN bits were {}", bytes[1] & 3));
        }
        if packet.tos.is_some_and(|tos| tos != bytes[1]) || packet.ttl.is_some_and(|ttl| ttl != bytes[8]) {
            return Err(format!("type of service was {:#x}, time to live {}", bytes[1], bytes[8]));
        }
        if let Some((earliest, latest)) = when {
            let time = time - self.origin;
            let late = if time > latest { time - latest } else { (time - earliest).min(0) };
            if late.abs() > self.tolerance {
                return Err(format!("it left {late} µs late"));
            }
        }
        Ok(())
    }

    fn compare_options(&mut self, wanted: &[Opt], found: &[u8]) -> Result<()> {
        let mut rest = found;
        let wrong = || Err(format!("options were {found:?}, not {wanted:?}"));
        for option in wanted {
            let len = match option {
                Opt::Raw(bytes) => bytes.len(),
                Opt::Stamps(..) => 10,
                Opt::Sack(blocks) => 2 + 8 * blocks.len(),
            };
            let Some((here, after)) = rest.split_at_checked(len) else { return wrong() };
            rest = after;
            let word = |at: usize| u32::from_be_bytes([here[at], here[at + 1], here[at + 2], here[at + 3]]);
            let same = match option {
                Opt::Raw(bytes) => here == bytes,
                Opt::Stamps(value, echo) => {
                    let same = here[..2] == [8, 10] && word(6) == *echo;
                    if same {
                        self.stamps.insert(*value, word(2));
                    }
                    same
                }
                Opt::Sack(blocks) => {
                    let edges = |n: usize| (word(2 + 8 * n), word(6 + 8 * n));
                    here[..2] == [5, len as u8] && (0..blocks.len()).all(|n| edges(n) == blocks[n])
                }
            };
            if !same {
                return wrong();
            }
        }
        if rest.is_empty() { Ok(()) } else { wrong() }
    }
}

fn ip(protocol: u8, tos: u8, from: [u8; 4], to: [u8; 4], len: usize) -> Vec<u8> {
    let mut header = vec![0x45, tos];
    header.extend(((20 + len) as u16).to_be_bytes());
    header.extend([0, 0, 0, 0, 255, protocol, 0, 0]);
    header.extend(from);
    header.extend(to);
    let sum = sum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn pseudo(from: [u8; 4], to: [u8; 4], tcp: &[u8]) -> Vec<u8> {
    [&from[..], &to, &[0, 6], &(tcp.len() as u16).to_be_bytes(), tcp].concat()
}

fn sum(bytes: &[u8]) -> u16 {
    let halves = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0)));
    let mut sum: u32 = halves.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
