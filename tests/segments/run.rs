//! Runs a script against a driver, in virtual time.

use crate::driver::{Driver, Packet, Ret};
use crate::parse::{Expected, Script, Step, What};
use std::collections::VecDeque;
use std::fmt::Write;

/// How far from its time a segment may be, µs: a script says milliseconds.
const TOLERANCE: u64 = 1000;

struct Run<'a> {
    now: u64,
    driver: &'a mut dyn Driver,
    /// What left and was not expected yet.
    sent: VecDeque<(u64, Packet)>,
    /// All that was on the wire.
    wire: String,
}

/// Runs `script`; the error names the line.
pub fn run(script: &Script, driver: &mut dyn Driver, verbose: bool) -> Result<(), String> {
    let mut run = Run { now: 0, driver, sent: VecDeque::new(), wire: String::new() };
    let mut outcome = Ok(());
    for step in &script.steps {
        outcome = run.step(step).map_err(|why| format!("{}: {}\n    {why}", step.place, step.text));
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok()
        && let Some((at, packet)) = run.sent.front()
    {
        outcome = Err(format!("end: unexpected at {}: {}", seconds(*at), show(packet)));
    }
    if verbose {
        println!("{}", run.wire);
    }
    outcome.map_err(|why| format!("{why}\n{}", run.wire))
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let at = self.now + step.after;
        self.advance(at);
        if let What::Expect(expected) = &step.what {
            return self.expect(at, expected);
        }
        // Looking is allowed before all that left was taken.
        if let Some((sent, packet)) = self.sent.front()
            && !matches!(step.what, What::Observe(..))
        {
            return Err(format!("before this, at {}, left: {}", seconds(*sent), show(packet)));
        }
        self.act(step)?;
        self.collect();
        Ok(())
    }

    /// Lets time pass up to `to`, stopping at every deadline.
    fn advance(&mut self, to: u64) {
        for _ in 0..100_000 {
            match self.driver.deadline() {
                Some(at) if at <= to => {
                    self.now = self.now.max(at);
                    self.driver.expire(self.now);
                    self.collect();
                }
                _ => {
                    self.now = to;
                    return;
                }
            }
        }
        panic!("a deadline that stays due");
    }

    fn collect(&mut self) {
        for packet in self.driver.drain(self.now) {
            let _ = writeln!(self.wire, "        {:>10} > {}", seconds(self.now), show(&packet));
            self.sent.push_back((self.now, packet));
        }
    }

    fn expect(&mut self, at: u64, expected: &Expected) -> Result<(), String> {
        if self.sent.is_empty() {
            self.advance(at + TOLERANCE);
            self.now = at;
        }
        let (sent, packet) = self.sent.pop_front().ok_or("nothing left")?;
        if sent.abs_diff(at) > TOLERANCE {
            return Err(format!("left at {}, not at {}: {}", seconds(sent), seconds(at), show(&packet)));
        }
        let mut wanted = expected.packet.clone();
        if !expected.window {
            wanted.window = packet.window;
        }
        if !expected.options {
            wanted.options = packet.options.clone();
        }
        if packet != wanted {
            return Err(format!("left:    {}\n    not:     {}", show(&packet), show(&wanted)));
        }
        // Rounding in a script must not add up.
        self.now = self.now.max(sent);
        Ok(())
    }

    fn act(&mut self, step: &Step) -> Result<(), String> {
        let now = self.now;
        match &step.what {
            What::Inject(packet) => {
                let _ = writeln!(self.wire, "        {:>10} < {}", seconds(now), show(packet));
                self.driver.inject(now, packet);
            }
            What::Listen => self.driver.listen(now),
            What::Connect => self.driver.connect(now),
            What::Write(len, wanted) => compare(&self.driver.write(now, *len), wanted)?,
            What::Read(len, wanted) => compare(&self.driver.read(now, *len), wanted)?,
            What::Shutdown(how, wanted) => compare(&self.driver.shutdown(now, how), wanted)?,
            What::Close => self.driver.close(now)?,
            What::Abort => self.driver.abort(now)?,
            What::Set(name, value) => self.driver.set(now, name, *value)?,
            What::Icmp(name, mtu, seq) => self.driver.icmp(now, name, *mtu, *seq)?,
            What::Observe(name, wanted) => {
                if let Some(found) = self.driver.observe(name)
                    && found != *wanted
                {
                    return Err(format!("{name} is {found}"));
                }
            }
            What::Wait | What::Expect(_) => {}
        }
        Ok(())
    }
}

fn compare(found: &Ret, wanted: &Option<String>) -> Result<(), String> {
    match wanted {
        Some(wanted) if found.to_string() != *wanted => Err(format!("returned {found}")),
        _ => Ok(()),
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// A packet as scripts write it.
fn show(packet: &Packet) -> String {
    let mut text = String::new();
    for (bit, letter) in [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (32, 'U'), (16, '.')] {
        if packet.flags & bit != 0 {
            text.push(letter);
        }
    }
    let seq = packet.seq as i32;
    let _ = write!(text, " {seq}:{}({})", seq.wrapping_add(packet.len as i32), packet.len);
    if packet.flags & 16 != 0 {
        let _ = write!(text, " ack {}", packet.ack as i32);
    }
    let _ = write!(text, " win {}", packet.window);
    if !packet.options.is_empty() {
        text.push_str(" <");
        let mut rest = &packet.options[..];
        while let [kind, tail @ ..] = rest {
            let number =
                |at: usize| tail.get(at..at + 4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]));
            match *kind {
                0 => text.push_str("eol"),
                1 => text.push_str("nop"),
                2 => {
                    let mss = tail.get(1..3).map(|b| u16::from_be_bytes([b[0], b[1]]));
                    let _ = write!(text, "mss {}", mss.unwrap_or(0));
                }
                3 => {
                    let _ = write!(text, "wscale {}", tail.get(1).unwrap_or(&0));
                }
                4 => text.push_str("sackOK"),
                5 => {
                    text.push_str("sack");
                    let len = usize::from(*tail.first().unwrap_or(&2));
                    for at in (1..len.saturating_sub(1)).step_by(8) {
                        let _ = write!(text, " {}:{}", number(at).unwrap_or(0), number(at + 4).unwrap_or(0));
                    }
                }
                8 => {
                    let _ = write!(text, "TS val {} ecr {}", number(1).unwrap_or(0), number(5).unwrap_or(0));
                }
                kind => {
                    let _ = write!(text, "kind {kind}");
                }
            }
            text.push(',');
            let len = if *kind < 2 { 1 } else { usize::from(*tail.first().unwrap_or(&1)).max(1) };
            rest = rest.get(len..).unwrap_or(&[]);
        }
        text.pop();
        text.push('>');
    }
    text
}
