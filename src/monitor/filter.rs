//! Monitor filters: BPF texts that decide which packets and flows a monitor socket sees.
//!
//! libpcap compiles the text once; the program then runs in the small interpreter below. Unlike
//! libpcap's own program type it can be shared between cores, and it knows no code but Rust's.
//!
//! A filter sees an Ethernet frame. A RAW filter is given all that was captured. A stream filter (SYN or
//! orphan) is given the IPv4 packet with the 14 bytes in front of it: `ip_len + 14` bytes, less if the
//! capture was cut, never the padding behind the packet ([`crate::wire::Parsed::end`]).

use std::fmt;

use parking_lot::Mutex;
use pcap::{Capture, Linktype};

/// Why a filter text was refused. The C call gives `EINVAL` for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// The text asks for something other than TCP: it contains `!tcp` or `not tcp`.
    NotTcp,
    /// A word that stream filters do not know, or a keyword without what must follow it.
    Keyword(String),
    /// libpcap does not understand the text; its message.
    Syntax(String),
    /// libpcap's program uses an instruction that classic BPF does not have.
    Program,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTcp => write!(f, "a stream filter cannot exclude TCP"),
            Self::Keyword(word) => write!(f, "`{word}` is not allowed here in a stream filter"),
            Self::Syntax(message) => write!(f, "filter: {message}"),
            Self::Program => write!(f, "filter: unknown instruction in the compiled program"),
        }
    }
}

impl std::error::Error for FilterError {}

/// A `stream_syn_filter` or `stream_orphan_filter`: TCP only, by a fixed set of keywords.
#[derive(Clone, Debug)]
pub struct StreamFilter(Program);

impl StreamFilter {
    /// Checks the keywords (contract, monitor.md 5) and compiles. An empty text matches everything.
    ///
    /// # Errors
    /// Any [`FilterError`].
    pub fn new(text: &str) -> Result<Self, FilterError> {
        check_keywords(text)?;
        Program::compile(text).map(Self)
    }

    /// Whether the packet matches; see the module for which bytes to give.
    #[inline]
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.0.matches(frame, frame.len())
    }

    /// Likewise for a packet that was `wire_len` bytes before the capture cut it.
    #[inline]
    pub fn matches_cut(&self, frame: &[u8], wire_len: usize) -> bool {
        self.0.matches(frame, wire_len)
    }
}

/// A `raw_pkt_filter`: any BPF text.
#[derive(Clone, Debug)]
pub struct RawFilter(Program);

impl RawFilter {
    /// Compiles. An empty text matches everything.
    ///
    /// # Errors
    /// [`FilterError::Syntax`], [`FilterError::Program`].
    pub fn new(text: &str) -> Result<Self, FilterError> {
        Program::compile(text).map(Self)
    }

    /// Whether the frame matches.
    #[inline]
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.0.matches(frame, frame.len())
    }

    /// Likewise for a frame that was `wire_len` bytes before the capture cut it.
    #[inline]
    pub fn matches_cut(&self, frame: &[u8], wire_len: usize) -> bool {
        self.0.matches(frame, wire_len)
    }
}

/// Words that join or qualify.
const JOINING: [&str; 5] = ["src", "dst", "not", "and", "or"];
/// Words that take the next word as their value, whatever it is.
const WITH_VALUE: [&str; 5] = ["host", "net", "mask", "port", "portrange"];

/// The words a stream filter may consist of. A keyword must be followed by a blank, so it cannot be the
/// last word.
fn check_keywords(text: &str) -> Result<(), FilterError> {
    if text.contains("!tcp") || text.contains("not tcp") {
        return Err(FilterError::NotTcp);
    }
    let mut rest = text.trim_ascii_start();
    while !rest.is_empty() {
        let (word, after) = split_word(rest);
        let refused = || FilterError::Keyword(word.to_owned());
        rest = after.trim_ascii_start();
        if word.starts_with("tcp") {
            continue;
        }
        let value_follows = WITH_VALUE.contains(&word);
        if !after.starts_with(' ') || !(value_follows || JOINING.contains(&word)) {
            return Err(refused());
        }
        if value_follows {
            if rest.is_empty() {
                return Err(refused());
            }
            rest = split_word(rest).1.trim_ascii_start();
        }
    }
    Ok(())
}

/// The text up to the first blank, and the rest from that blank on.
fn split_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len()))
}

/// One classic BPF instruction, as in `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A program whose jumps and memory slots have been checked.
#[derive(Clone, Debug)]
struct Program(Box<[Insn]>);

/// Memory slots of the classic BPF machine.
const SLOTS: usize = 16;
/// Jumps back that a packet may cause (`protochain` walks over headers in a loop). More is no match.
const MAX_BACK: u32 = 256;

// Instruction codes (McCanne and Jacobson, "The BSD Packet Filter", 1993; BSD bpf(4)). A and X are
// the two registers, k is the instruction's number, M the memory.
const LD_WORD: u16 = 0x20;
const LD_HALF: u16 = 0x28;
const LD_BYTE: u16 = 0x30;
const LD_WORD_X: u16 = 0x40;
const LD_HALF_X: u16 = 0x48;
const LD_BYTE_X: u16 = 0x50;
const LD_K: u16 = 0x00;
const LD_LEN: u16 = 0x80;
const LD_M: u16 = 0x60;
const LDX_K: u16 = 0x01;
const LDX_LEN: u16 = 0x81;
const LDX_M: u16 = 0x61;
/// X becomes the length of the IPv4 header that starts at k.
const LDX_IHL: u16 = 0xb1;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET_K: u16 = 0x06;
const RET_X: u16 = 0x0e;
const RET_A: u16 = 0x16;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;
/// The first arithmetic code; the others follow in steps of 0x10 up to [`XOR`].
const ADD: u16 = 0x04;
const XOR: u16 = 0xa4;
/// The bit of a comparison or of arithmetic that takes X instead of k.
const BY_X: u16 = 0x08;

impl Program {
    /// Has libpcap compile `text` for Ethernet frames, with its optimizer.
    fn compile(text: &str) -> Result<Self, FilterError> {
        /// libpcap before 1.8 keeps its compiler's state in globals.
        static COMPILER: Mutex<()> = Mutex::new(());

        let syntax = |error: pcap::Error| match error {
            pcap::Error::PcapError(message) => FilterError::Syntax(message),
            other => FilterError::Syntax(other.to_string()),
        };
        let _one_at_a_time = COMPILER.lock();
        let compiled =
            Capture::dead(Linktype::ETHERNET).and_then(|c| c.compile(text, true)).map_err(syntax)?;
        // The instructions' fields are only shown in print: "code jt jf k", as tcpdump -ddd does.
        let insns = compiled.get_instructions().iter().map(|i| Insn::read(&i.to_string()));
        let insns: Box<[Insn]> = insns.collect::<Option<_>>().ok_or(FilterError::Program)?;
        Self::checked(insns).ok_or(FilterError::Program)
    }

    /// Accepts a program of known instructions that stays inside itself and its memory.
    fn checked(insns: Box<[Insn]>) -> Option<Self> {
        let inside = |at: usize, by: usize| at.checked_add(1)?.checked_add(by).filter(|to| *to < insns.len());
        for (at, insn) in insns.iter().enumerate() {
            match insn.code {
                RET_K | RET_X | RET_A => {}
                JA => {
                    let to = i64::try_from(at).ok()? + 1 + i64::from(insn.k as i32);
                    usize::try_from(to).ok().filter(|to| *to < insns.len())?;
                }
                c if matches!(c & !BY_X, JEQ | JGT | JGE | JSET) => {
                    inside(at, usize::from(insn.jt))?;
                    inside(at, usize::from(insn.jf))?;
                }
                LD_M | LDX_M | ST | STX if insn.k as usize >= SLOTS => return None,
                LD_WORD | LD_HALF | LD_BYTE | LD_WORD_X | LD_HALF_X | LD_BYTE_X | LD_K | LD_LEN | LD_M
                | LDX_K | LDX_LEN | LDX_M | LDX_IHL | ST | STX | TAX | TXA => {
                    inside(at, 0)?;
                }
                c if c & 7 == ADD && c & !BY_X <= XOR => {
                    inside(at, 0)?;
                }
                _ => return None,
            }
        }
        (!insns.is_empty()).then_some(Self(insns))
    }

    /// Whether the program's result for the packet is not zero. A load beyond the packet ends the
    /// program with "no match".
    fn matches(&self, packet: &[u8], wire_len: usize) -> bool {
        self.run(packet, wire_len as u32).is_some_and(|result| result != 0)
    }

    fn run(&self, packet: &[u8], wire_len: u32) -> Option<u32> {
        let (mut a, mut x) = (0u32, 0u32);
        let mut memory = [0u32; SLOTS];
        let mut pc = 0usize;
        let mut back = 0;
        loop {
            let insn = *self.0.get(pc)?;
            let k = insn.k;
            pc += 1;
            let mut jump = |taken: bool| pc += usize::from(if taken { insn.jt } else { insn.jf });
            match insn.code {
                LD_WORD => a = word(packet, k)?,
                LD_HALF => a = half(packet, k)?,
                LD_BYTE => a = byte(packet, k)?,
                LD_WORD_X => a = word(packet, x.checked_add(k)?)?,
                LD_HALF_X => a = half(packet, x.checked_add(k)?)?,
                LD_BYTE_X => a = byte(packet, x.checked_add(k)?)?,
                LD_K => a = k,
                LD_LEN => a = wire_len,
                LD_M => a = *memory.get(k as usize)?,
                LDX_K => x = k,
                LDX_LEN => x = wire_len,
                LDX_M => x = *memory.get(k as usize)?,
                LDX_IHL => x = (byte(packet, k)? & 0xf) << 2,
                ST => *memory.get_mut(k as usize)? = a,
                STX => *memory.get_mut(k as usize)? = x,
                TAX => x = a,
                TXA => a = x,
                RET_K => return Some(k),
                RET_X => return Some(x),
                RET_A => return Some(a),
                JEQ => jump(a == k),
                JGT => jump(a > k),
                JGE => jump(a >= k),
                JSET => jump(a & k != 0),
                JA => {
                    let by = k as i32;
                    back += u32::from(by < 0);
                    if back > MAX_BACK {
                        return None;
                    }
                    pc = pc.checked_add_signed(by as isize)?;
                }
                code if code & 7 == JA => jump(match code & !BY_X {
                    JEQ => a == x,
                    JGT => a > x,
                    JGE => a >= x,
                    _ => a & x != 0,
                }),
                code => a = alu(code, a, if code & BY_X == 0 { k } else { x })?,
            }
        }
    }
}

impl Insn {
    /// Reads "code jt jf k" in decimal.
    fn read(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let insn = Self {
            code: fields.next()?.parse().ok()?,
            jt: fields.next()?.parse().ok()?,
            jf: fields.next()?.parse().ok()?,
            k: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(insn)
    }
}

/// Four bytes at `at` in wire order; `None` beyond the packet.
#[inline(always)]
fn word(packet: &[u8], at: u32) -> Option<u32> {
    packet.get(at as usize..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// Two bytes, likewise.
#[inline(always)]
fn half(packet: &[u8], at: u32) -> Option<u32> {
    packet.get(at as usize..)?.first_chunk().map(|b| u32::from(u16::from_be_bytes(*b)))
}

/// One byte, likewise.
#[inline(always)]
fn byte(packet: &[u8], at: u32) -> Option<u32> {
    packet.get(at as usize).map(|b| u32::from(*b))
}

/// Arithmetic modulo 2^32; `None` on division by zero.
fn alu(code: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match code & 0xf0 {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a.checked_div(operand)?,
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => a.checked_shl(operand).unwrap_or(0),
        0x70 => a.checked_shr(operand).unwrap_or(0),
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(operand)?,
        _ => a ^ operand,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An IPv4 frame with ports.
    fn frame(proto: u8, src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Vec<u8> {
        let mut f = vec![0u8; 54];
        f[12] = 8;
        f[14] = 0x45;
        f[17] = 40;
        f[23] = proto;
        f[26..30].copy_from_slice(&src);
        f[30..34].copy_from_slice(&dst);
        f[34..36].copy_from_slice(&sport.to_be_bytes());
        f[36..38].copy_from_slice(&dport.to_be_bytes());
        f[46] = 0x50;
        f[47] = 0x02;
        f
    }

    const ACCEPTED: [&str; 14] = [
        "",
        "   ",
        "tcp",
        "tcp port 80",
        "  tcp   port   80  ",
        "tcp and dst net 10.0.1 and dst port 80",
        "src or dst port 80",
        "not port 80",
        "net 10.0.0.0/24",
        "portrange 80-90",
        "host 10.0.0.1",
        "tcp[13] = 2",
        "net 10.0.0.0 mask 255.255.255.0",
        "tcp src port 80 or dst host 1.2.3.4",
    ];

    #[test]
    fn keywords_of_the_contract() {
        for text in
            ACCEPTED.iter().filter(|t| !t.contains('[')).chain(&["port http", "tcp[13]=2", "port (80"])
        {
            assert_eq!(check_keywords(text), Ok(()), "{text:?}");
        }
        let refused = [
            "udp",
            "ip host 1.2.3.4",
            "src 1.2.3.4",
            "(port 80)",
            "a && b",
            "a || b",
            "tcp && port 80",
            "port 80 | port 443",
            "tcp port",
            "tcp port ",
            "tcp and",
            "net",
            "host\t1.2.3.4",
            "tcp and\tport 80",
            "port 80 and ip",
            "TCP",
        ];
        for text in refused {
            assert!(matches!(check_keywords(text), Err(FilterError::Keyword(_))), "{text:?}");
            assert!(StreamFilter::new(text).is_err());
        }
        for text in ["!tcp", "not tcp", "port 80 and not tcp", "tcp or !tcp port 80"] {
            assert_eq!(check_keywords(text), Err(FilterError::NotTcp), "{text:?}");
        }
    }

    #[test]
    fn what_passes_the_keywords_may_still_not_compile() {
        for text in ["tcp tcp", "tcp and ", "port (80", "tcpx", "port 99999", "src tcp", "not port 80 "] {
            let built = StreamFilter::new(text);
            match text {
                "not port 80 " => assert!(built.is_ok()),
                _ => assert!(matches!(built, Err(FilterError::Syntax(_))), "{text:?}: {built:?}"),
            }
        }
        assert!(RawFilter::new("port 80\0 and tcp").is_err());
        assert!(RawFilter::new("udp").is_ok());
        assert!(!RawFilter::new("nonsense (").unwrap_err().to_string().is_empty());
    }

    #[test]
    fn stream_filters_match_what_they_say() {
        let web = frame(6, [10, 0, 1, 9], [192, 168, 0, 1], 4000, 80);
        let back = frame(6, [192, 168, 0, 1], [10, 0, 1, 9], 80, 4000);
        let dns = frame(17, [10, 0, 1, 9], [192, 168, 0, 1], 4000, 53);
        let is = |text: &str, f: &[u8]| StreamFilter::new(text).unwrap().matches(f);
        assert!(is("", &web) && is("", &dns));
        assert!(is("tcp port 80", &web) && is("tcp port 80", &back) && !is("tcp port 80", &dns));
        assert!(is("src net 10.0.1", &web) && !is("src net 10.0.1", &back));
        assert!(is("dst net 10.0.1 and src port 80", &back));
        assert!(!is("not port 80", &web) && is("not port 80", &dns));
        assert!(is("src or dst port 80", &web));
        assert!(!is("tcp port 80", &web[..30]));
        assert!(!is("tcp port 80", &[]));
        let raw = RawFilter::new("udp or greater 100").unwrap();
        assert!(raw.matches(&dns) && !raw.matches(&web) && raw.matches_cut(&web, 100));
    }

    #[test]
    fn filters_can_be_shared() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<StreamFilter>();
        shared::<RawFilter>();
    }

    #[test]
    fn programs_that_leave_themselves_are_refused() {
        let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
        let ret = insn(6, 0, 0, 1);
        let program = |p: &[Insn]| Program::checked(p.into());
        assert!(program(&[]).is_none());
        assert!(program(&[ret]).is_some_and(|p| p.matches(&[], 0)));
        assert!(program(&[insn(0x28, 0, 0, 12)]).is_none());
        assert!(program(&[insn(0x15, 0, 1, 0), ret]).is_none());
        assert!(program(&[insn(0x15, 0, 0, 0), ret]).is_some());
        assert!(program(&[insn(5, 0, 0, 1), ret]).is_none());
        assert!(program(&[insn(2, 0, 0, 16), ret]).is_none());
        assert!(program(&[insn(2, 0, 0, 15), ret]).is_some());
        assert!(program(&[insn(0x38, 0, 0, 0), ret]).is_none());
        assert!(program(&[insn(0xb4, 0, 0, 0), ret]).is_none());
        assert!(program(&[insn(0x55, 0, 0, 0), ret]).is_none());
        // An endless loop is legal and ends all the same.
        assert!(program(&[insn(5, 0, 0, -1i32 as u32), ret]).is_some_and(|p| !p.matches(&[], 0)));
        // Division by zero.
        assert!(program(&[insn(0x34, 0, 0, 0), ret]).is_some_and(|p| !p.matches(&[], 0)));
    }

    /// Texts that together use every instruction libpcap emits for Ethernet.
    const TEXTS: [&str; 24] = [
        "",
        "tcp port 80",
        "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
        "tcp[(tcp[12] >> 4) * 4 : 4] = 0x47455420",
        "ip[0] & 0xf != 5",
        "ip[2:2] - ((ip[0] & 0xf) << 2) - (tcp[12] >> 2) > 3",
        "udp or icmp or arp",
        "not (src net 10.0.0.0/9 or dst portrange 20-4000)",
        "len > 60 and len <= 90",
        "ip[8] % 3 == 1 and ip[4:2] / 7 > 2",
        "ip[4] ^ ip[5] > 9",
        "ip[6:2] * 3 > 70000",
        "ip[ip[8]] > 10",
        "tcp[ip[8] : 2] | 1 = 3",
        "ether[ether[3] & 31] << ip[1] > 4",
        "-ip[3] > 0x80000000",
        "vlan or ip6",
        "vlan 5 and tcp port 80",
        "ip6 host ::1 or ip6 proto 6",
        "ip protochain 6",
        "ip6 protochain 17",
        "ether host 01:02:03:04:05:06 or ether multicast",
        "host 10.0.0.1 and (port 53 or port 80) and greater 54",
        "ip broadcast or gateway_is_no_word",
    ];

    /// The same text in libpcap's own machine.
    fn by_libpcap(text: &str) -> Option<pcap::BpfProgram> {
        Capture::dead(Linktype::ETHERNET).unwrap().compile(text, true).ok()
    }

    proptest! {
        #[test]
        fn equals_libpcap(
            mut packet in prop::collection::vec(prop_oneof![0u8..16, any::<u8>()], 0..100), start in 0u8..5, port in any::<bool>()
        ) {
            // Plausible first bytes, so that the programs get beyond them.
            let starts: [&[u8]; 4] = [&[8, 0, 0x45], &[8, 6], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 5, 8, 0, 0x45]];
            if let Some(start) = starts.get(usize::from(start)) {
                let at = packet.len().min(12);
                let n = start.len().min(packet.len() - at);
                packet[at..at + n].copy_from_slice(&start[..n]);
            }
            if port && packet.len() > 38 {
                packet[20..22].fill(0);
                packet[23] = 6;
                packet[36..38].copy_from_slice(&[0, 80]);
            }
            thread_local! {
                static PAIRS: Vec<(&'static str, RawFilter, pcap::BpfProgram)> = TEXTS
                    .iter()
                    .filter_map(|text| Some((*text, RawFilter::new(text).ok()?, by_libpcap(text)?)))
                    .collect();
            }
            PAIRS.with(|pairs| {
                assert!(pairs.len() >= TEXTS.len() - 1, "only {} texts compile", pairs.len());
                for (text, ours, theirs) in pairs {
                    assert_eq!(ours.matches(&packet), theirs.filter(&packet), "{text}");
                }
            });
        }

        #[test]
        fn any_text_is_an_answer(text in "[a-z0-9 .!()&|]{0,30}") {
            // Names would be looked up in the network: only the check, not the compiler.
            let _ = check_keywords(&text);
        }
    }
}
