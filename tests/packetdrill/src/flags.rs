//! What `--so_flags` may say: `key=value` pairs, separated by commas. See the README for the keys.

use mos::tcp::tcb::config::{Algorithm, Config, MILLISECOND, SECOND};
use std::net::Ipv4Addr;

/// The settings of one script.
#[derive(Clone, Debug)]
pub struct Flags {
    /// The stack's own address.
    pub local: Ipv4Addr,
    /// The port's MTU.
    pub mtu: u16,
    /// Segments of a moment leave as one.
    pub tso: bool,
    /// Settings of all connections.
    pub tcp: Config,
}

impl Default for Flags {
    fn default() -> Self {
        // The address is packetdrill's own default.
        Flags { local: Ipv4Addr::new(192, 168, 0, 1), mtu: 1500, tso: false, tcp: Config::default() }
    }
}

/// The keys, for the message about one that is none.
const KEYS: &str = "local, mtu, tso, mss, iss, timestamps, sack, wscale, cc, iw, sndbuf, rcvbuf, rcvbuf_initial, delack, quickack, \
rto_initial, rto_min, rto_max, tlp, push, syn_retries, synack_retries, retries, orphan_retries, time_wait, fin_wait_2, idle, \
keepidle, keepintvl, keepcnt, challenge_acks";

impl Flags {
    /// Reads the text.
    ///
    /// # Errors
    /// What is wrong with which pair.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut flags = Flags::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(format!("'{pair}': expected key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            flags.set(key, value).map_err(|expected| match expected {
                Some(expected) => format!("'{pair}': expected {expected}"),
                None => format!("unknown key '{key}'; the keys are {KEYS}"),
            })?;
        }
        Ok(flags)
    }

    /// `Err`: what was expected instead of the value; `None`: there is no such key.
    fn set(&mut self, key: &str, value: &str) -> Result<(), Option<String>> {
        let tcp = &mut self.tcp;
        match key {
            "local" => self.local = value.parse().map_err(|_| Some("an IPv4 address".into()))?,
            "mtu" => self.mtu = number(value, 68, 65_535)? as u16,
            "tso" => self.tso = switch(value)?,
            "mss" => tcp.mss = number(value, 1, 65_495)? as u16,
            "iss" => tcp.iss = Some(number(value, 0, u32::MAX.into())? as u32),
            "timestamps" => tcp.timestamps = switch(value)?,
            "sack" => tcp.sack = switch(value)?,
            "wscale" => tcp.window_scaling = switch(value)?,
            "cc" => {
                tcp.congestion = match value {
                    "cubic" => Algorithm::Cubic,
                    "newreno" | "reno" => Algorithm::NewReno,
                    _ => return Err(Some("cubic or newreno".into())),
                }
            }
            "iw" => tcp.initial_window = number(value, 1, 1000)? as u32,
            "sndbuf" => tcp.send_limit = number(value, 1, 1 << 30)? as u32,
            "rcvbuf" => {
                tcp.recv_limit = number(value, 256, 1 << 30)? as u32;
                tcp.recv_initial = tcp.recv_initial.min(tcp.recv_limit);
            }
            "rcvbuf_initial" => tcp.recv_initial = number(value, 256, 1 << 30)? as u32,
            "delack" => {
                // RFC 9293 3.8.6.3
                let time = time(value)?;
                if time >= SECOND / 2 {
                    return Err(Some("less than 500ms".into()));
                }
                tcp.delayed_ack = time;
            }
            "quickack" => tcp.quick_acks = number(value, 0, 255)? as u8,
            "rto_initial" => tcp.rto_initial = time(value)?.max(MILLISECOND),
            "rto_min" => tcp.rto_min = time(value)?.max(MILLISECOND),
            "rto_max" => tcp.rto_max = time(value)?.max(MILLISECOND),
            "tlp" => tcp.tail_probe = switch(value)?,
            "push" => tcp.push = switch(value)?,
            "syn_retries" => tcp.syn_retries = number(value, 0, 255)? as u8,
            "synack_retries" => tcp.syn_ack_retries = number(value, 0, 255)? as u8,
            "retries" => tcp.data_retries = number(value, 0, 255)? as u8,
            "orphan_retries" => tcp.orphan_retries = number(value, 0, 255)? as u8,
            "time_wait" => tcp.time_wait = time(value)?,
            "fin_wait_2" => tcp.fin_wait_2 = time(value)?,
            "idle" => tcp.idle = time(value)?,
            "keepidle" => tcp.keepalive_idle = time(value)?,
            "keepintvl" => tcp.keepalive_interval = time(value)?,
            "keepcnt" => tcp.keepalive_probes = number(value, 1, 255)? as u8,
            "challenge_acks" => tcp.challenge_acks = number(value, 0, 255)? as u8,
            _ => return Err(None),
        }
        Ok(())
    }
}

fn number(value: &str, least: u64, most: u64) -> Result<u64, Option<String>> {
    let number = match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => value.parse(),
    };
    let fits = number.ok().filter(|number| (least..=most).contains(number));
    fits.ok_or(Some(format!("a number from {least} to {most}")))
}

fn switch(value: &str) -> Result<bool, Option<String>> {
    match value {
        "on" | "1" | "yes" => Ok(true),
        "off" | "0" | "no" => Ok(false),
        _ => Err(Some("on or off".into())),
    }
}

/// A time in µs; without a unit, seconds.
fn time(value: &str) -> Result<u64, Option<String>> {
    let (digits, unit) = match value {
        _ if value.ends_with("us") => (&value[..value.len() - 2], 1.0),
        _ if value.ends_with("ms") => (&value[..value.len() - 2], 1e3),
        _ => (value.strip_suffix('s').unwrap_or(value), 1e6),
    };
    let time = digits.trim().parse::<f64>().ok().map(|number| number * unit);
    let fits = time.filter(|time| (0.0..=1e15).contains(time));
    fits.map(|time| time.round() as u64).ok_or(Some("a time, such as 40ms, 0.2s or 250us".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_named_is_known() {
        for key in KEYS.split(',').map(str::trim) {
            let value = match key {
                "local" => "10.0.0.1",
                "cc" => "newreno",
                "tso" | "timestamps" | "sack" | "wscale" | "tlp" | "push" => "off",
                "delack" | "rto_initial" | "rto_min" | "rto_max" | "time_wait" | "fin_wait_2" | "idle"
                | "keepidle" | "keepintvl" => "10ms",
                _ => "256",
            };
            let value = if value == "256" && !key.contains("buf") && key != "mtu" { "7" } else { value };
            assert!(Flags::parse(&format!("{key}={value}")).is_ok(), "{key}={value}");
        }
    }

    #[test]
    fn what_is_said_is_set() {
        let f = Flags::parse("timestamps=off, sack=0,mss=1000,iss=0x10,delack=25ms,rto_min=0.3,cc=reno,")
            .expect("right");
        assert!(!f.tcp.timestamps && !f.tcp.sack && f.tcp.window_scaling);
        assert_eq!((f.tcp.mss, f.tcp.iss, f.tcp.delayed_ack), (1000, Some(16), 25_000));
        assert_eq!((f.tcp.rto_min, f.tcp.congestion), (300_000, Algorithm::NewReno));
        assert_eq!(Flags::parse("").expect("nothing").local, Ipv4Addr::new(192, 168, 0, 1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("mss", "'mss': expected key=value"),
            ("mss=x", "'mss=x': expected a number from 1 to 65495"),
            ("sack=maybe", "expected on or off"),
            ("delack=2s", "less than 500ms"),
            ("delack=-1", "a time"),
            ("colour=red", "unknown key 'colour'; the keys are local"),
            ("local=here", "an IPv4 address"),
            ("cc=vegas", "cubic or newreno"),
        ] {
            let error = Flags::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
