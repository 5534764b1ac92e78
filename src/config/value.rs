//! The forms a value may have: numbers as `scanf` reads them, sizes, masks, addresses, device lines.

use super::diag::quoted;
use std::net::Ipv4Addr;

/// Longest `tcp_timeout` and `tcp_tw_interval` in seconds: in milliseconds they must fit a C `int`.
pub const MAX_SECONDS: i32 = i32::MAX / 1000;

/// Largest buffer per flow in bytes: the largest window TCP can announce (RFC 7323 2.3), rounded up.
const MAX_BUFFER: i32 = 1 << 30;

/// Longest device name in bytes (it may be a path).
const MAX_NAME: usize = 4095;

/// `rmem_size` as it takes effect: a positive multiple of 1024 bytes, at most 1 GiB (D15).
pub fn round_rmem_size(bytes: i32) -> i32 {
    (bytes.clamp(1, MAX_BUFFER) + 1023) / 1024 * 1024
}

/// `wmem_size` as it takes effect: a multiple of 4 bytes from 16 to 1 GiB (D15).
pub fn round_wmem_size(bytes: i32) -> i32 {
    (bytes.clamp(16, MAX_BUFFER) + 3) / 4 * 4
}

/// An integer at the start of a text, and what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Int<'a> {
    pub negative: bool,
    /// Lowest 64 bits of the magnitude.
    pub magnitude: u64,
    /// Whether the magnitude needs more than 64 bits.
    pub overflow: bool,
    pub rest: &'a str,
}

impl Int<'_> {
    /// The value, when it fits.
    pub fn to_i32(&self) -> Option<i32> {
        let value = i64::try_from(self.magnitude).ok().filter(|_| !self.overflow)?;
        i32::try_from(if self.negative { -value } else { value }).ok()
    }

    /// The value as a bit set; a negative number is taken in two's complement (`-1`: all).
    pub fn to_mask(&self) -> u64 {
        if self.negative { self.magnitude.wrapping_neg() } else { self.magnitude }
    }
}

/// Reads an integer as `scanf("%i")` does: blanks, a sign, then hexadecimal after `0x`, octal after `0`,
/// else decimal; whatever follows is returned (endpoint-io §2.2).
pub(super) fn int(text: &str) -> Option<Int<'_>> {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let is_hex = |s: &str| s.starts_with(|c: char| c.is_ascii_hexdigit());
    let (base, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if is_hex(hex) => (16, hex),
        _ if digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let (mut magnitude, mut overflow) = (0u64, false);
    for digit in digits[..end].chars().filter_map(|c| c.to_digit(base)) {
        overflow |= magnitude.checked_mul(base.into()).and_then(|m| m.checked_add(digit.into())).is_none();
        magnitude = magnitude.wrapping_mul(base.into()).wrapping_add(digit.into());
    }
    Some(Int { negative, magnitude, overflow, rest: &digits[end..] })
}

/// A number of bytes with an optional suffix K, M or G (powers of 1024; also KB, KiB, …).
pub(super) fn byte_size(text: &str) -> Option<u64> {
    let int = int(text)?;
    if int.negative || int.overflow {
        return None;
    }
    let shift = match int.rest.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    int.magnitude.checked_mul(1 << shift)
}

/// `a.b.c.d/prefix` with a prefix of 0 to 32.
pub(super) fn addr_prefix(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (addr, prefix) = text.split_once('/')?;
    if prefix.is_empty() || prefix.len() > 2 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let prefix = prefix.parse().ok().filter(|&p: &u8| p <= 32)?;
    Some((addr.parse().ok()?, prefix))
}

/// `addr` without its host part.
pub(super) fn network(addr: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(addr) & netmask(prefix))
}

/// The mask of a prefix length of 0 to 32.
pub(super) fn netmask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// `hh:hh:hh:hh:hh:hh`, one or two hexadecimal digits each.
pub(super) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Whether `name` may name a device: an interface, a port or a path, without blanks, control
/// characters, or any of `"';<>={}`.
pub(super) fn is_device_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "\"';<>={}".contains(c);
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains(bad)
}

/// A `netdev` line, or an item of `MOS_NETDEV`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DeviceLine {
    pub name: String,
    pub mask: Option<u64>,
    pub addr: Option<(Ipv4Addr, u8)>,
    pub mac: Option<[u8; 6]>,
    /// Parts that were not understood and are left out.
    pub complaints: Vec<String>,
}

/// Reads `name [mask] [a.b.c.d/prefix] [hh:hh:hh:hh:hh:hh]` (D22); a text without a usable name is an error.
pub(super) fn device_line(text: &str) -> Result<DeviceLine, String> {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or("");
    if !is_device_name(name) {
        return Err(format!("expected a device name, found {}", quoted(name)));
    }
    let mut line =
        DeviceLine { name: name.to_owned(), mask: None, addr: None, mac: None, complaints: Vec::new() };
    for (i, word) in words.enumerate() {
        if line.addr.is_none()
            && line.mac.is_none()
            && let Some(addr) = addr_prefix(word)
        {
            line.addr = Some(addr);
        } else if line.mac.is_none()
            && let Some(mac) = mac(word)
        {
            line.mac = Some(mac);
        } else if i == 0 {
            let int = int(word).ok_or_else(|| format!("expected a core mask, found {}", quoted(word)))?;
            line.mask = Some(int.to_mask());
            if int.overflow {
                line.complaints.push(format!("{} names a core beyond 63: ignored", quoted(word)));
            }
            if !int.rest.is_empty() {
                line.complaints.push(format!("{} after the core mask is ignored", quoted(int.rest)));
            }
        } else {
            line.complaints.push(format!(
                "expected an address `a.b.c.d/prefix` or `hh:hh:hh:hh:hh:hh` after the core mask, found {}: ignored",
                quoted(word)
            ));
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<(i32, &str)> {
        int(text).and_then(|i| Some((i.to_i32()?, i.rest)))
    }

    #[test]
    fn numbers_as_scanf_reads_them() {
        assert_eq!(value("100000"), Some((100_000, "")));
        assert_eq!(value("0x1F"), Some((31, "")));
        assert_eq!(value("0X1f "), Some((31, " ")));
        assert_eq!(value("010"), Some((8, "")));
        assert_eq!(value("09"), Some((0, "9")));
        assert_eq!(value("0"), Some((0, "")));
        assert_eq!(value("0xg"), Some((0, "xg")));
        assert_eq!(value("-1"), Some((-1, "")));
        assert_eq!(value("+7 seconds"), Some((7, " seconds")));
        assert_eq!(value("-0x80000000"), Some((i32::MIN, "")));
        assert_eq!(value("2147483648"), None);
        assert_eq!(value("99999999999999999999999"), None);
        for text in ["", "-", "abc", "x1", "- 1", "é"] {
            assert_eq!(int(text), None, "{text}");
        }
    }

    #[test]
    fn masks_hold_sixty_four_bits() {
        let mask = |t| int(t).map(|i| (i.to_mask(), i.overflow));
        assert_eq!(mask("0xffffffffffffffff"), Some((u64::MAX, false)));
        assert_eq!(mask("-1"), Some((u64::MAX, false)));
        assert_eq!(mask("0x10000000000000001"), Some((1, true)));
    }

    #[test]
    fn sizes_are_rounded_up_and_clamped() {
        for (given, expected) in
            [(i32::MIN, 1024), (0, 1024), (1, 1024), (1024, 1024), (1025, 2048), (i32::MAX, 1 << 30)]
        {
            assert_eq!(round_rmem_size(given), expected, "{given}");
        }
        for (given, expected) in [(-4, 16), (15, 16), (17, 20), (8192, 8192), (i32::MAX, 1 << 30)] {
            assert_eq!(round_wmem_size(given), expected, "{given}");
        }
    }

    #[test]
    fn byte_sizes_have_suffixes() {
        assert_eq!(byte_size("512"), Some(512));
        assert_eq!(byte_size("4K"), Some(4096));
        assert_eq!(byte_size("3 MiB"), Some(3 << 20));
        assert_eq!(byte_size("2g"), Some(2 << 30));
        for text in ["-1", "1T", "", "K", "0xffffffffffffG", "99999999999999999999"] {
            assert_eq!(byte_size(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_and_masks() {
        assert_eq!(addr_prefix("10.0.0.1/24"), Some((Ipv4Addr::new(10, 0, 0, 1), 24)));
        for text in ["10.0.0.1", "10.0.0.1/33", "10.0.0/8", "10.0.0.256/8", "10.0.0.1/", "10.0.0.1/+8", "a/8"]
        {
            assert_eq!(addr_prefix(text), None, "{text}");
        }
        assert_eq!(network(Ipv4Addr::new(10, 1, 2, 3), 16), Ipv4Addr::new(10, 1, 0, 0));
        assert_eq!((netmask(0), netmask(32)), (0, u32::MAX));
        assert_eq!(mac("02:0:0A:ff:1:9"), Some([2, 0, 10, 255, 1, 9]));
        for text in ["02:00:00:00:00", "02:00:00:00:00:00:00", "02:00:00:00:00:g0", "::::::", "002:0:0:0:0:0"]
        {
            assert_eq!(mac(text), None, "{text}");
        }
    }

    #[test]
    fn device_lines() {
        let line = device_line("dpdk0 0x1 10.0.0.1/24 02:00:00:00:00:01").unwrap();
        assert_eq!((line.name.as_str(), line.mask), ("dpdk0", Some(1)));
        assert_eq!(line.addr, Some((Ipv4Addr::new(10, 0, 0, 1), 24)));
        assert_eq!(line.mac, Some([2, 0, 0, 0, 0, 1]));
        assert!(line.complaints.is_empty());
        assert_eq!(device_line("lo 02:00:00:00:00:01").unwrap().mask, None);
        assert_eq!(device_line("lo 3x foo").unwrap().complaints.len(), 2);
        assert!(device_line("lo mask").unwrap_err().contains("expected a core mask, found `mask`"));
        assert!(device_line("a=b 1").unwrap_err().contains("expected a device name"));
        for name in ["veth-a", "eth0.100", "0000:03:00.0", "/tmp/x.pcap", "../a_b.pcap.gz", "br@1"] {
            assert!(is_device_name(name), "{name}");
        }
    }
}
