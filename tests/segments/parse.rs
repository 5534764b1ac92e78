//! Scripts, from text. The language: `scripts/README.md`.

use crate::driver::{Packet, Settings};
use std::fs;
use std::path::Path;

pub struct Script {
    pub settings: Settings,
    pub steps: Vec<Step>,
    /// Why it makes sense for a bare connection only.
    pub alone: Option<String>,
}

pub struct Step {
    /// Where it is: line, or file and line.
    pub place: String,
    pub text: String,
    /// µs after the step before.
    pub after: u64,
    pub what: What,
}

pub enum What {
    Inject(Packet),
    Expect(Expected),
    Listen,
    Connect,
    Write(usize, Option<String>),
    Read(usize, Option<String>),
    Shutdown(String, Option<String>),
    Close,
    Abort,
    Set(String, u32),
    Icmp(String, u16, u32),
    Observe(String, String),
    /// Nothing but the time passing.
    Wait,
}

/// What is not said is not compared.
pub struct Expected {
    pub packet: Packet,
    pub window: bool,
    pub options: bool,
}

type Result<T> = std::result::Result<T, String>;

pub fn script(path: &Path, common: &Path) -> Result<Script> {
    text(&fs::read_to_string(path).map_err(|e| e.to_string())?, common)
}

pub fn text(text: &str, common: &Path) -> Result<Script> {
    let settings =
        Settings { timestamps: false, sack: false, wscale: false, newreno: true, more: Vec::new() };
    let mut script = Script { settings, steps: Vec::new(), alone: None };
    lines(text, "", common, &mut script)?;
    Ok(script)
}

fn lines(text: &str, file: &str, common: &Path, script: &mut Script) -> Result<()> {
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}{}", number + 1);
        let line = line.split("//").next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        self::line(line, &place, common, script).map_err(|why| format!("{place}: {line}: {why}"))?;
    }
    Ok(())
}

fn line(line: &str, place: &str, common: &Path, script: &mut Script) -> Result<()> {
    let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
    match head {
        "config" => return config(rest.trim(), &mut script.settings),
        "alone" if !rest.trim().is_empty() => {
            script.alone = Some(rest.trim().into());
            return Ok(());
        }
        "use" => {
            let path = common.join(format!("{}.seg", rest.trim()));
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            return lines(&text, &format!("{place} in {}.seg:", rest.trim()), common, script);
        }
        _ => {}
    }
    let after = head.strip_prefix('+').ok_or("a step begins with +seconds")?;
    let after: f64 = after.parse().map_err(|_| "seconds?")?;
    let mut push = |after: u64, what: What| {
        script.steps.push(Step { place: place.to_string(), text: line.to_string(), after, what });
    };
    let after = (after * 1e6).round() as u64;
    let rest = rest.trim();
    if let Some(rest) = rest.strip_prefix('>') {
        let (expected, by) = expect(rest)?;
        for (i, part) in pieces(expected, by).into_iter().enumerate() {
            push(if i == 0 { after } else { 0 }, What::Expect(part));
        }
    } else {
        push(after, what(rest)?);
    }
    Ok(())
}

fn config(text: &str, settings: &mut Settings) -> Result<()> {
    let (name, value) = text.split_once(' ').ok_or("config NAME VALUE")?;
    let on = || match value.trim() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off?".to_string()),
    };
    match name {
        "timestamps" => settings.timestamps = on()?,
        "sack" => settings.sack = on()?,
        "wscale" => settings.wscale = on()?,
        "cubic" => settings.newreno = !on()?,
        _ => settings.more.push((name.into(), value.trim().parse().map_err(|_| "number?")?)),
    }
    Ok(())
}

fn what(text: &str) -> Result<What> {
    let (text, result) = match text.split_once("->") {
        Some((call, result)) => (call.trim(), Some(result.trim().to_string())),
        None => (text, None),
    };
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    let number = || rest.parse::<u32>().map_err(|_| "number?".to_string());
    Ok(match name {
        "<" => What::Inject(inject(rest)?),
        "listen" => What::Listen,
        "connect" => What::Connect,
        "write" => What::Write(number()? as usize, result),
        "read" => What::Read(number()? as usize, result),
        "shutdown" => What::Shutdown(rest.into(), result),
        "close" => What::Close,
        "abort" => What::Abort,
        "wait" => What::Wait,
        "nodelay" | "keepalive" | "rcvbuf" | "sndbuf" | "mtu" => What::Set(name.into(), number()?),
        "icmp" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            match words[..] {
                [name, "seq", seq] => What::Icmp(name.into(), 0, seq.parse().map_err(|_| "seq?")?),
                [name, mtu, "seq", seq] => What::Icmp(
                    name.into(),
                    mtu.parse().map_err(|_| "mtu?")?,
                    seq.parse().map_err(|_| "seq?")?,
                ),
                _ => return Err("icmp NAME [MTU] seq N".into()),
            }
        }
        "state" | "ready" | "error" | "cwnd" | "ssthresh" | "rto" | "memory" | "events" | "reopened"
        | "mss" | "unread" | "unacked" => What::Observe(name.into(), rest.into()),
        _ => return Err("what?".into()),
    })
}

fn inject(text: &str) -> Result<Packet> {
    let (mut packet, mut window, mut options) = (Packet::default(), None, None);
    packet_text(text, &mut packet, &mut window, &mut options)?;
    packet.window = window.unwrap_or(65_535);
    packet.options = options.unwrap_or_default();
    while packet.options.len() % 4 != 0 {
        packet.options.push(0);
    }
    Ok(packet)
}

/// An expected segment, and how large the pieces are in which it comes.
fn expect(text: &str) -> Result<(Expected, Option<usize>)> {
    let (text, by) = match text.rsplit_once(" by ") {
        Some((text, size)) => (text, Some(size.trim().parse().map_err(|_| "size?")?)),
        None => (text, None),
    };
    let (mut packet, mut window, mut options) = (Packet::default(), None, None);
    packet_text(text, &mut packet, &mut window, &mut options)?;
    let expected = Expected { window: window.is_some(), options: options.is_some(), packet };
    let packet =
        Packet { window: window.unwrap_or(0), options: options.unwrap_or_default(), ..expected.packet };
    Ok((Expected { packet, ..expected }, by))
}

/// PSH and FIN belong to the last piece.
fn pieces(expected: Expected, by: Option<usize>) -> Vec<Expected> {
    let Some(by) = by else { return vec![expected] };
    let total = expected.packet.len;
    (0..total.div_ceil(by))
        .map(|i| {
            let mut packet = expected.packet.clone();
            packet.seq += (i * by) as u32;
            packet.len = by.min(total - i * by);
            if (i + 1) * by < total {
                packet.flags &= !(8 | 1);
            }
            Expected { packet, ..expected }
        })
        .collect()
}

/// `FLAGS seq:end(len) [ack N] [win N] [<options>]`
fn packet_text(
    text: &str,
    packet: &mut Packet,
    window: &mut Option<u16>,
    options: &mut Option<Vec<u8>>,
) -> Result<()> {
    let mut text = text.trim();
    if let Some((before, opts)) = text.split_once('<') {
        let opts = opts.trim().strip_suffix('>').ok_or("> missing")?;
        *options = Some(self::options(opts)?);
        text = before.trim();
    }
    let mut words = text.split_whitespace();
    for flag in words.next().ok_or("flags?")?.chars() {
        packet.flags |= match flag {
            'F' => 1,
            'S' => 2,
            'R' => 4,
            'P' => 8,
            '.' => 16,
            'U' => 32,
            '-' => 0,
            _ => return Err("flag?".into()),
        };
    }
    let range = words.next().ok_or("seq:end(len)?")?;
    let (seq, rest) = range.split_once(':').ok_or("seq:end(len)?")?;
    let (end, len) = rest.strip_suffix(')').and_then(|r| r.split_once('(')).ok_or("seq:end(len)?")?;
    packet.seq = sequence(seq)?;
    packet.len = len.parse().map_err(|_| "len?")?;
    if packet.seq.wrapping_add(packet.len as u32) != sequence(end)? {
        return Err("seq + len is not end".into());
    }
    while let Some(word) = words.next() {
        let value = words.next().ok_or("number?")?;
        match word {
            "ack" => packet.ack = sequence(value)?,
            "win" => *window = Some(value.parse().map_err(|_| "win?")?),
            _ => return Err(format!("{word}?")),
        }
    }
    Ok(())
}

/// A number relative to the initial one; may lie before it.
fn sequence(text: &str) -> Result<u32> {
    text.parse::<i64>().map(|n| n as u32).map_err(|_| format!("{text}?"))
}

fn options(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for option in text.split(',').map(str::trim).filter(|o| !o.is_empty()) {
        let words: Vec<&str> = option.split_whitespace().collect();
        let number = |i: usize| {
            words.get(i).and_then(|w| w.parse::<u32>().ok()).ok_or_else(|| format!("{option}: number?"))
        };
        match words[0] {
            "nop" => bytes.push(1),
            "eol" => bytes.push(0),
            "mss" => {
                bytes.extend([2, 4]);
                bytes.extend((number(1)? as u16).to_be_bytes());
            }
            "wscale" => bytes.extend([3, 3, number(1)? as u8]),
            "sackOK" => bytes.extend([4, 2]),
            // TS val N ecr N
            "TS" => {
                bytes.extend([8, 10]);
                bytes.extend(number(2)?.to_be_bytes());
                bytes.extend(number(4)?.to_be_bytes());
            }
            "sack" => {
                bytes.extend([5, 2 + 8 * (words.len() - 1) as u8]);
                for block in &words[1..] {
                    let (start, end) = block.split_once(':').ok_or("sack A:B")?;
                    bytes.extend(sequence(start)?.to_be_bytes());
                    bytes.extend(sequence(end)?.to_be_bytes());
                }
            }
            "hex" => {
                for word in &words[1..] {
                    bytes.push(u8::from_str_radix(word, 16).map_err(|_| "hex?")?);
                }
            }
            _ => return Err(format!("{option}?")),
        }
    }
    Ok(bytes)
}
