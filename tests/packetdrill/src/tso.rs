//! What Linux hands to a device that cuts segments itself (TSO): the segments of a moment that follow each other as one.

/// Bytes of an IP packet at most.
const MOST: usize = 65_535;
const IP: usize = 20;
const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Appends a packet to the one that left before it, if a device could have made both of one: data of one connection, one behind
/// the other, all else alike, with nothing urging the first. `false`: not done.
pub fn join(first: &mut Vec<u8>, next: &[u8]) -> bool {
    let (Some(a), Some(b)) = (Parts::of(first), Parts::of(next)) else { return false };
    let alike = first[12..IP] == next[12..IP]
        && first[1] == next[1]
        && first[IP..IP + 4] == next[IP..IP + 4]
        && first[IP + 8..IP + 12] == next[IP + 8..IP + 12]
        && first[IP + 14..IP + 16] == next[IP + 14..IP + 16]
        && first[IP + 20..a.data] == next[IP + 20..b.data];
    let follows = a.seq.wrapping_add((first.len() - a.data) as u32) == b.seq;
    let data = first.len() > a.data && next.len() > b.data;
    if !(alike && follows && data && a.flags == ACK && b.flags & !(PSH | FIN) == ACK) {
        return false;
    }
    let len = first.len() + next.len() - b.data;
    if len > MOST {
        return false;
    }
    first.extend_from_slice(&next[b.data..]);
    first[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    first[IP + 13] = b.flags;
    put_sums(first);
    true
}

/// The parts of a TCP packet that matter here.
struct Parts {
    seq: u32,
    flags: u8,
    /// Where the payload begins.
    data: usize,
}

impl Parts {
    fn of(packet: &[u8]) -> Option<Self> {
        let tcp = packet.get(IP..IP + 20)?;
        let data = IP + usize::from(tcp[12] >> 4) * 4;
        let plain = packet[0] == 0x45 && packet[9] == 6 && data >= IP + 20 && data <= packet.len();
        plain.then(|| Parts {
            seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            flags: tcp[13],
            data,
        })
    }
}

fn put_sums(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = fold(add(0, &packet[..IP]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[IP + 16..IP + 18].fill(0);
    let pseudo = add(6 + (packet.len() - IP) as u32, &packet[12..IP]);
    let sum = fold(add(pseudo, &packet[IP..]));
    packet[IP + 16..IP + 18].copy_from_slice(&sum.to_be_bytes());
}

fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(sum, |sum, c| sum + (u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut p = vec![
            0x45,
            0,
            0,
            (40 + payload.len()) as u8,
            0,
            0,
            0x40,
            0,
            64,
            6,
            0,
            0,
            10,
            0,
            0,
            1,
            10,
            0,
            0,
            2,
        ];
        p.extend([0, 1, 0, 2]);
        p.extend(seq.to_be_bytes());
        p.extend([0, 0, 0, 9, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        p.extend(payload);
        put_sums(&mut p);
        p
    }

    #[test]
    fn what_follows_is_joined() {
        let mut first = packet(u32::MAX, ACK, b"ab");
        assert!(join(&mut first, &packet(1, ACK, b"cde")));
        assert!(join(&mut first, &packet(4, ACK | PSH | FIN, b"f")));
        assert_eq!(first, packet(u32::MAX, ACK | PSH | FIN, b"abcdef"));
        // It was urged, and it ended.
        assert!(!join(&mut first, &packet(5, ACK, b"g")));
    }

    #[test]
    fn other_packets_are_not() {
        let first = packet(1, ACK, b"ab");
        let mut options = packet(3, ACK, b"cdefgh");
        options[IP + 12] = 0x60;
        let mut port = packet(3, ACK, b"cd");
        port[IP] = 9;
        for next in [
            packet(4, ACK, b"cd"),
            packet(1, ACK, b"ab"),
            packet(3, ACK, b""),
            packet(3, 4 | ACK, b"cd"),
            options,
            port,
            vec![0x45; 10],
        ] {
            assert!(!join(&mut first.clone(), &next), "{next:?}");
        }
    }
}
