//! packetdrill's language, as far as it is about TCP over IPv4: options (`--name=value`), shell commands and code, which are
//! not run, and steps: a time, and a packet (`<` comes in, `>` is expected) or a system call with its result.

pub use crate::lex::Result;
use crate::lex::{Cursor, without_comments};
use crate::value::{Arg, value};

/// A script.
#[derive(Debug, Default)]
pub struct Script {
    /// `--name=value`.
    pub options: Vec<(String, String)>,
    pub steps: Vec<Step>,
}

/// When a step is to be.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// `+`: counted from now; else from the start.
    pub relative: bool,
    /// µs.
    pub at: i64,
    /// `~`: or later, up to then.
    pub latest: i64,
}

/// One step.
#[derive(Debug)]
pub struct Step {
    pub line: usize,
    /// `None`: `*`, at any time.
    pub when: Option<Moment>,
    /// A call that blocks, until so long after the same origin.
    pub ends: Option<i64>,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    Inject(Packet),
    Expect(Packet),
    Icmp(Icmp),
    Call(Call),
    /// A shell command, or code that looks at `tcp_info`: only time passes.
    Skipped,
}

/// A system call.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub args: Vec<Arg>,
    /// `None`: any.
    pub result: Option<i64>,
    pub errno: Option<String>,
}

/// A TCP segment as written.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    /// ECN bits of the IP header; `None`: not said.
    pub ecn: Option<u8>,
    /// `(tos N)`: type of service, ECN bits included; `(ttl N)`.
    pub tos: Option<u8>,
    pub ttl: Option<u8>,
    pub flags: u8,
    pub seq: u32,
    pub len: usize,
    pub ack: u32,
    pub window: Option<u16>,
    pub urgent: u16,
    /// `None`: `<...>`, anything.
    pub options: Option<Vec<Opt>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opt {
    Raw(Vec<u8>),
    Stamps(u32, u32),
    Sack(Vec<(u32, u32)>),
}

/// `icmp TYPE [CODE] [mtu N] [[SEQ:END(LEN)]]`: about a segment of ours, or about nothing in particular.
#[derive(Debug)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub mtu: u16,
    pub about: Option<(u32, usize)>,
}

/// Reads a script.
pub fn script(text: &str) -> Result<Script> {
    let text = without_comments(text);
    let mut cursor = Cursor::new(&text);
    let mut script = Script::default();
    while cursor.peek() != 0 {
        let line = cursor.line();
        let read = if cursor.takes("--") {
            let option = cursor.rest_of_line();
            let (name, value) = option.split_once('=').unwrap_or((&option, ""));
            script.options.push((name.into(), value.trim_matches('"').into()));
            Ok(())
        } else if cursor.takes("`") {
            cursor.up_to("`").map(drop)
        } else {
            step(&mut cursor, line).map(|step| script.steps.push(step))
        };
        read.map_err(|why| {
            format!("{line}: {}\n    {why}", text.lines().nth(line - 1).unwrap_or("").trim())
        })?;
    }
    Ok(script)
}

fn step(c: &mut Cursor, line: usize) -> Result<Step> {
    let (mut when, mut ends) = (None, None);
    if !c.takes("*") {
        let relative = c.takes("+");
        let at = c.seconds()?;
        let mut latest = at;
        if c.takes("~") {
            c.takes("+");
            latest = c.seconds()?;
        } else if c.takes("...") {
            ends = Some(c.seconds()?);
        }
        when = Some(Moment { relative, at, latest });
    }
    let what = match c.peek() {
        b'`' => {
            c.expect("`")?;
            c.up_to("`")?;
            What::Skipped
        }
        b'%' => {
            c.expect("%{")?;
            c.up_to("}%")?;
            What::Skipped
        }
        b'<' => {
            c.expect("<")?;
            match about(c)? {
                about @ Some(_) => What::Icmp(icmp(c, about)?),
                None if c.next_word() == "icmp" => What::Icmp(icmp(c, None)?),
                None => What::Inject(packet(c)?),
            }
        }
        b'>' => {
            c.expect(">")?;
            What::Expect(packet(c)?)
        }
        _ => What::Call(call(c)?),
    };
    Ok(Step { line, when, ends, what })
}

/// `SEQ:END(LEN)`
fn range(c: &mut Cursor) -> Result<(u32, usize)> {
    let seq: u32 = c.number()?;
    c.expect(":")?;
    let end: u32 = c.number()?;
    c.expect("(")?;
    let len: usize = c.number()?;
    c.expect(")")?;
    if seq.wrapping_add(len as u32) == end { Ok((seq, len)) } else { Err("SEQ + LEN is not END".into()) }
}

/// `[SEQ:END(LEN)]`, where an ICMP message may say what it is about.
fn about(c: &mut Cursor) -> Result<Option<(u32, usize)>> {
    let mut ahead = c.clone();
    if !ahead.takes("[") || !ahead.peek().is_ascii_digit() {
        return Ok(None);
    }
    c.expect("[")?;
    let about = range(c)?;
    c.expect("]")?;
    Ok(Some(about))
}

fn packet(c: &mut Cursor) -> Result<Packet> {
    let mut packet = Packet { options: Some(Vec::new()), ..Packet::default() };
    if c.takes("[") {
        packet.ecn = match c.up_to("]")?.trim() {
            "noecn" => Some(0),
            "ect1" => Some(1),
            "ect0" => Some(2),
            "ce" => Some(3),
            "ect01" => None,
            other => return Err(format!("[{other}]: not of an IPv4 header here")),
        };
    }
    if c.takes("(") {
        let said = c.up_to(")")?;
        let (name, value) = said.trim().split_once(' ').ok_or("(tos N) or (ttl N)")?;
        let value = value.trim();
        let hex = value.strip_prefix("0x").map(|hex| u8::from_str_radix(hex, 16));
        let value = hex.unwrap_or(value.parse()).map_err(|_| format!("'{value}': not a byte"))?;
        match name {
            "tos" => packet.tos = Some(value),
            "ttl" => packet.ttl = Some(value),
            _ => return Err(format!("({name}): not of an IPv4 header here")),
        }
    }
    let mut flags = c.word();
    // A '.' is no letter of a word.
    if c.takes(".") {
        flags.push('.');
        if c.peek().is_ascii_alphabetic() {
            flags.push_str(&c.word());
        }
    }
    if flags.is_empty() {
        return Err("flags?".into());
    }
    for flag in flags.chars() {
        packet.flags |= match flag {
            'F' => 1,
            'S' => 2,
            'R' => 4,
            'P' => 8,
            '.' => 16,
            'U' => 32,
            'E' => 64,
            'W' | 'C' => 128,
            '-' => 0,
            _ => return Err(format!("{flags}: TCP flags?")),
        };
    }
    (packet.seq, packet.len) = range(c)?;
    loop {
        match &*c.next_word() {
            "ack" => {
                c.word();
                packet.ack = c.number()?;
            }
            "win" => {
                c.word();
                packet.window = Some(c.number()?);
            }
            "urg" => {
                c.word();
                packet.urgent = c.number()?;
            }
            _ => break,
        }
    }
    if c.takes("<") {
        packet.options = if c.takes("...") { None } else { Some(options(c)?) };
        c.expect(">")?;
    }
    Ok(packet)
}

fn options(c: &mut Cursor) -> Result<Vec<Opt>> {
    let mut list = Vec::new();
    while !c.sees(">") {
        list.push(option(c)?);
        if !c.sees(">") {
            c.expect(",")?;
        }
    }
    Ok(list)
}

fn option(c: &mut Cursor) -> Result<Opt> {
    let name = c.word();
    Ok(match &*name {
        "nop" => Opt::Raw(vec![1]),
        "eol" => Opt::Raw(vec![0]),
        "mss" => Opt::Raw([&[2, 4][..], &c.number::<u16>()?.to_be_bytes()].concat()),
        "wscale" => Opt::Raw(vec![3, 3, c.number()?]),
        "sackOK" => Opt::Raw(vec![4, 2]),
        "TS" => {
            c.expect("val")?;
            let value = c.number()?;
            c.expect("ecr")?;
            Opt::Stamps(value, c.number()?)
        }
        "sack" => {
            let mut blocks = Vec::new();
            while c.peek().is_ascii_digit() {
                let start = c.number()?;
                c.expect(":")?;
                blocks.push((start, c.number()?));
            }
            Opt::Sack(blocks)
        }
        "FO" | "FOEXP" => {
            let cookie = if c.sees(",") || c.sees(">") { Vec::new() } else { c.hex()? };
            let (kind, magic) = if name == "FO" { (34, &[][..]) } else { (254, &[0xf9, 0x89][..]) };
            Opt::Raw([&[kind, (2 + magic.len() + cookie.len()) as u8], magic, &cookie].concat())
        }
        _ => return Err(format!("{name}: TCP option?")),
    })
}

fn icmp(c: &mut Cursor, before: Option<(u32, usize)>) -> Result<Icmp> {
    const KINDS: &[(&str, u8)] = &[
        ("echo_reply", 0),
        ("unreachable", 3),
        ("source_quench", 4),
        ("redirect", 5),
        ("echo_request", 8),
        ("time_exceeded", 11),
        ("parameter_problem", 12),
        ("timestamp_request", 13),
        ("timestamp_reply", 14),
        ("information_request", 15),
        ("information_reply", 16),
        ("address_mask_request", 17),
        ("address_mask_reply", 18),
    ];
    const CODES: &[(&str, u8)] = &[
        ("net_unreachable", 0),
        ("host_unreachable", 1),
        ("protocol_unreachable", 2),
        ("port_unreachable", 3),
        ("frag_needed", 4),
        ("source_route_failed", 5),
        ("net_unknown", 6),
        ("host_unknown", 7),
        ("source_host_isolated", 8),
        ("net_prohibited", 9),
        ("host_prohibited", 10),
        ("net_unreachable_for_tos", 11),
        ("host_unreachable_for_tos", 12),
        ("packet_filtered", 13),
        ("precedence_violation", 14),
        ("precedence_cutoff", 15),
        ("ttl_exceeded_in_transit", 0),
        ("frag_reass_exceeded", 1),
    ];
    let look_up = |table: &[(&str, u8)], word: &str, number: &str| {
        let named = table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        named.or_else(|| word.strip_prefix(number)?.parse().ok())
    };
    c.expect("icmp")?;
    let word = c.word();
    let kind = look_up(KINDS, &word, "type_").ok_or(format!("{word}: ICMP type?"))?;
    let code = look_up(CODES, &c.next_word(), "code_");
    if code.is_some() {
        c.word();
    }
    let mtu = if c.takes("mtu") { c.number()? } else { 0 };
    Ok(Icmp { kind, code: code.unwrap_or(0), mtu, about: before.or(about(c)?) })
}

fn call(c: &mut Cursor) -> Result<Call> {
    let name = c.word();
    if name.is_empty() {
        return Err("a packet or a call?".into());
    }
    c.expect("(").map_err(|_| format!("{name}: a packet or a call?"))?;
    let mut args = Vec::new();
    while !c.sees(")") {
        args.push(value(c)?);
        if !c.sees(")") {
            c.expect(",")?;
        }
    }
    c.expect(")")?;
    c.expect("=")?;
    let result = match value(c)? {
        Arg::Number(result) => Some(result),
        Arg::Ellipsis => None,
        _ => return Err("a result?".into()),
    };
    let errno = Some(c.next_word()).filter(|word| word.starts_with('E'));
    if errno.is_some() {
        c.word();
    }
    // What the error, or the flags, are in words.
    if c.takes("(") {
        c.up_to(")")?;
    }
    Ok(Call { name, args, result, errno })
}
