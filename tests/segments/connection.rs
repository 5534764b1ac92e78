//! The driver of a bare connection: a [`Tcb`], with the little of a listener that it needs.

use crate::driver::{Driver, Packet, Ret, Settings};
use mos::tcp::tcb::calls::Shutdown;
use mos::tcp::tcb::config::SECOND;
use mos::tcp::tcb::segment::reset_for;
use mos::tcp::tcb::{
    Algorithm, Cause, Config, Events, Icmp, Open, Outcome, Readiness, Refusal, Segment, State, Tcb,
};
use std::sync::Arc;

/// Both ends begin just below the wrap, so that every script crosses it.
pub const ISS: u32 = 0xffff_fff0;
pub const IRS: u32 = 0xffff_f800;

#[derive(Default)]
pub struct Connection {
    config: Arc<Config>,
    open: Option<Open>,
    tcb: Option<Tcb>,
    listening: bool,
    reopened: bool,
    /// Resets for no connection.
    resets: Vec<Packet>,
    written: usize,
    read: usize,
}

/// The byte at place `at` of a stream.
pub fn pattern(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

/// Options with something added to SACK blocks, and to the two numbers of a timestamp.
pub fn shifted_options(options: &[u8], blocks: u32, val: u32, ecr: u32) -> Vec<u8> {
    let add = |to: &mut [u8], by: u32| {
        let value = u32::from_be_bytes([to[0], to[1], to[2], to[3]]).wrapping_add(by);
        to.copy_from_slice(&value.to_be_bytes());
    };
    let mut options = options.to_vec();
    let mut at = 0;
    while at < options.len() {
        let len = match options[at] {
            0 => break,
            1 => 1,
            _ => usize::from(*options.get(at + 1).unwrap_or(&0)),
        };
        if len == 0 || at + len > options.len() {
            break;
        }
        if options[at] == 5 {
            options[at + 2..at + len].chunks_exact_mut(4).for_each(|edge| add(edge, blocks));
        }
        if options[at] == 8 && len == 10 {
            add(&mut options[at + 2..at + 6], val);
            add(&mut options[at + 6..at + 10], ecr);
        }
        at += len;
    }
    options
}

fn errno(refusal: Refusal) -> Ret {
    Ret::Errno(match refusal {
        Refusal::WouldBlock => "EAGAIN",
        Refusal::Closed => "EPIPE",
        Refusal::NotConnected => "ENOTCONN",
        Refusal::OutOfMemory => "ENOMEM",
        Refusal::Failed(cause) => cause_name(cause),
    })
}

pub fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Refused => "ECONNREFUSED",
        Cause::Reset => "ECONNRESET",
        Cause::TimedOut => "ETIMEDOUT",
        Cause::HostUnreachable => "EHOSTUNREACH",
        Cause::NetUnreachable => "ENETUNREACH",
        Cause::Aborted => "ECONNABORTED",
    }
}

pub fn state_name(state: State) -> &'static str {
    match state {
        State::Closed => "CLOSED",
        State::Listen => "LISTEN",
        State::SynSent => "SYN_SENT",
        State::SynRcvd => "SYN_RCVD",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN_WAIT_1",
        State::FinWait2 => "FIN_WAIT_2",
        State::CloseWait => "CLOSE_WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST_ACK",
        State::TimeWait => "TIME_WAIT",
    }
}

/// What all connections have, and what a script's one has of its own.
pub fn config_of(settings: &Settings) -> Result<(Config, Open), String> {
    let mut config = Config {
        timestamps: settings.timestamps,
        sack: settings.sack,
        window_scaling: settings.wscale,
        congestion: if settings.newreno { Algorithm::NewReno } else { Algorithm::Cubic },
        // What a script says of delays it says from the first segment on.
        quick_acks: 0,
        ..Config::default()
    };
    let mut open = Open::new(ISS);
    open.ts_offset = 100;
    for (name, value) in &settings.more {
        let time = (value * SECOND as f64) as u64;
        match name.as_str() {
            "rto_min" => config.rto_min = time,
            "rto_max" => config.rto_max = time,
            "delayed_ack" => config.delayed_ack = time,
            "quick_acks" => config.quick_acks = *value as u8,
            "time_wait" => config.time_wait = time,
            "fin_wait_2" => config.fin_wait_2 = time,
            "idle" => config.idle = time,
            "keepalive_idle" => config.keepalive_idle = time,
            "keepalive_interval" => config.keepalive_interval = time,
            "keepalive_probes" => config.keepalive_probes = *value as u8,
            "syn_retries" => config.syn_retries = *value as u8,
            "syn_ack_retries" => config.syn_ack_retries = *value as u8,
            "tail_probe" => config.tail_probe = *value != 0.0,
            "data_retries" => config.data_retries = *value as u8,
            "orphan_retries" => config.orphan_retries = *value as u8,
            "challenge_acks" => config.challenge_acks = *value as u8,
            "initial_window" => config.initial_window = *value as u32,
            "recv_limit" => config.recv_limit = *value as u32,
            "mss" => config.mss = *value as u16,
            "mtu" => open.mtu = *value as u16,
            "rcvbuf" => open.recv_limit = *value as u32,
            "sndbuf" => open.send_limit = *value as u32,
            "nodelay" => open.nodelay = *value != 0.0,
            "keepalive" => open.keepalive = *value != 0.0,
            _ => return Err(format!("config {name}?")),
        }
    }
    Ok((config, open))
}

impl Connection {
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let (config, open) = config_of(settings)?;
        Ok(Connection { config: Arc::new(config), open: Some(open), ..Connection::default() })
    }

    fn tcb(&mut self) -> &mut Tcb {
        self.tcb.as_mut().expect("there is no connection yet")
    }

    fn hand_to_listener(&mut self, now: u64, seg: &Segment<'_>) {
        let mut open = self.open.unwrap_or(Open::new(ISS));
        if self.reopened {
            // The listener takes a number above the old connection's; scripts count from it.
            open.iss = ISS;
        }
        match Tcb::accept(self.config.clone(), now, &open, seg) {
            Some(tcb) if self.listening => {
                self.tcb = Some(tcb);
                (self.written, self.read) = (0, 0);
            }
            _ => {
                if let Some((seq, ack)) = reset_for(seg) {
                    self.resets.push(Packet {
                        seq: if ack.is_some() { seq } else { seq.wrapping_sub(ISS) },
                        ack: ack.map_or(0, |ack| ack.wrapping_sub(IRS)),
                        flags: if ack.is_some() { 20 } else { 4 },
                        ..Packet::default()
                    });
                }
            }
        }
    }
}

impl Driver for Connection {
    fn listen(&mut self, _now: u64) {
        self.listening = true;
    }

    fn connect(&mut self, now: u64) {
        self.tcb = Some(Tcb::connect(self.config.clone(), now, &self.open.unwrap()));
    }

    fn inject(&mut self, now: u64, packet: &Packet) {
        // The first byte of a stream is number 1.
        let first = packet.seq.wrapping_add(u32::from(packet.flags & 2 != 0)).wrapping_sub(1);
        let payload: Vec<u8> = (0..packet.len).map(|i| pattern(first as usize + i)).collect();
        let options = shifted_options(&packet.options, ISS, 0, 0);
        let seg = Segment {
            seq: packet.seq.wrapping_add(IRS),
            ack: if packet.flags & 16 != 0 { packet.ack.wrapping_add(ISS) } else { 0 },
            flags: packet.flags,
            window: packet.window,
            options: &options,
            payload: &payload,
        };
        match &mut self.tcb {
            Some(tcb) if !tcb.is_closed() => {
                if let Outcome::Reopen { above } = tcb.on_segment(now, &seg) {
                    assert!(above.wrapping_sub(ISS) as i32 > 0);
                    if !self.listening {
                        return tcb.stay(now);
                    }
                    tcb.give_way();
                    self.reopened = true;
                    self.hand_to_listener(now, &seg);
                }
            }
            _ => self.hand_to_listener(now, &seg),
        }
        if let Some(tcb) = &self.tcb {
            tcb.check();
        }
    }

    fn drain(&mut self, now: u64) -> Vec<Packet> {
        let mut packets = std::mem::take(&mut self.resets);
        let Some(tcb) = &mut self.tcb else { return packets };
        tcb.poll_transmit(now, 10_000, |t| {
            let mut payload = vec![0; t.payload.len()];
            t.payload.copy_to(&mut payload);
            let seq = t.seq.wrapping_sub(ISS);
            for (i, byte) in payload.iter().enumerate() {
                assert_eq!(*byte, pattern(seq as usize - 1 + i), "wrong byte sent at {}", seq as usize + i);
            }
            packets.push(Packet {
                seq,
                ack: if t.flags & 16 != 0 { t.ack.wrapping_sub(IRS) } else { 0 },
                flags: t.flags,
                window: t.window,
                options: shifted_options(t.options, IRS.wrapping_neg(), 0, 0),
                len: payload.len(),
            });
            true
        });
        tcb.check();
        packets
    }

    fn deadline(&self) -> Option<u64> {
        self.tcb.as_ref().and_then(Tcb::deadline)
    }

    fn expire(&mut self, now: u64) {
        self.tcb().on_deadline(now);
    }

    fn write(&mut self, _now: u64, len: usize) -> Ret {
        let from = self.written;
        let bytes: Vec<u8> = (from..from + len).map(pattern).collect();
        match self.tcb().write(&bytes) {
            Ok(count) => {
                self.written += count;
                Ret::Count(count)
            }
            Err(e) => errno(e),
        }
    }

    fn read(&mut self, now: u64, len: usize) -> Ret {
        let mut bytes = vec![0; len];
        let from = self.read;
        match self.tcb().read(now, &mut bytes) {
            Ok(count) => {
                for (i, byte) in bytes[..count].iter().enumerate() {
                    assert_eq!(*byte, pattern(from + i), "wrong byte received at {}", from + i);
                }
                self.read += count;
                Ret::Count(count)
            }
            Err(e) => errno(e),
        }
    }

    fn shutdown(&mut self, _now: u64, how: &str) -> Ret {
        let how = match how {
            "read" => Shutdown::Read,
            "write" => Shutdown::Write,
            _ => Shutdown::Both,
        };
        match self.tcb().shutdown(how) {
            Ok(()) => Ret::Count(0),
            Err(e) => errno(e),
        }
    }

    fn close(&mut self, now: u64) -> Result<(), String> {
        self.tcb().close(now);
        Ok(())
    }

    fn abort(&mut self, _now: u64) -> Result<(), String> {
        self.tcb().abort();
        Ok(())
    }

    fn set(&mut self, _now: u64, name: &str, value: u32) -> Result<(), String> {
        let tcb = self.tcb();
        match name {
            "nodelay" => tcb.set_nodelay(value != 0),
            "keepalive" => tcb.set_keepalive(value != 0),
            "rcvbuf" => tcb.set_recv_limit(value),
            "sndbuf" => tcb.set_send_limit(value),
            "mtu" => tcb.set_mtu(value as u16),
            _ => return Err(format!("{name}?")),
        }
        Ok(())
    }

    fn icmp(&mut self, _now: u64, name: &str, mtu: u16, seq: u32) -> Result<(), String> {
        let icmp = match name {
            "too_big" => Icmp::TooBig(mtu),
            "port" => Icmp::PortUnreachable,
            "host" => Icmp::HostUnreachable,
            "net" => Icmp::NetUnreachable,
            _ => return Err(format!("icmp {name}?")),
        };
        self.tcb().on_icmp(icmp, seq.wrapping_add(ISS));
        Ok(())
    }

    fn observe(&mut self, name: &str) -> Option<String> {
        let reopened = self.reopened;
        let listening = self.listening;
        let Some(tcb) = &mut self.tcb else {
            let state = if listening { State::Listen } else { State::Closed };
            return (name == "state").then(|| state_name(state).to_string());
        };
        Some(match name {
            "state" => state_name(tcb.state()).into(),
            "error" => tcb.cause().map_or("none", cause_name).into(),
            "cwnd" => tcb.congestion_window().0.to_string(),
            "ssthresh" => tcb.congestion_window().1.to_string(),
            "rto" => format!("{}", tcb.rto() as f64 / 1e6),
            "memory" => tcb.allocated_bytes().to_string(),
            "mss" => tcb.max_payload().to_string(),
            "unread" => tcb.unread().to_string(),
            "unacked" => tcb.unacknowledged().to_string(),
            "reopened" => if reopened { "yes" } else { "no" }.into(),
            "ready" => {
                let names = [
                    (Readiness::READABLE, "IN"),
                    (Readiness::WRITABLE, "OUT"),
                    (Readiness::READ_CLOSED, "RDHUP"),
                    (Readiness::HUNG_UP, "HUP"),
                    (Readiness::ERROR, "ERR"),
                ];
                let ready = tcb.readiness();
                names
                    .iter()
                    .filter(|(bit, _)| ready.has(*bit))
                    .map(|(_, name)| *name)
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            "events" => {
                let names = [
                    (Events::CONNECTED, "CONNECTED"),
                    (Events::DATA, "DATA"),
                    (Events::FIN, "FIN"),
                    (Events::SPACE, "SPACE"),
                    (Events::ERROR, "ERROR"),
                    (Events::CLOSED, "CLOSED"),
                ];
                let events = tcb.take_events();
                names
                    .iter()
                    .filter(|(bit, _)| events.has(*bit))
                    .map(|(_, name)| *name)
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            _ => return None,
        })
    }
}
