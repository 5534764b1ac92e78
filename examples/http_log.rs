//! Prints one line for each HTTP request of a capture: when, who, method, URL.
//!
//! ```text
//! cargo run --example http_log [CAPTURE [PORT…]]
//! ```
//!
//! Without arguments: the capture that ships with the tests, and port 8000. Requests are read from the streams that the
//! servers received, so it does not matter how they were cut into segments, reordered or retransmitted.

use mos::{Ctx, Error, Event, Hook, Monitor, Side};
use std::time::Duration;

/// Longest request head looked at.
const LONGEST_HEAD: usize = 64 << 10;

/// What is kept with each flow.
#[derive(Default)]
struct Talk {
    /// Bytes of the request stream that are no whole head yet.
    unparsed: Vec<u8>,
    /// Bytes of a request's body that are still to come.
    body: usize,
    /// This is not HTTP, or bytes are missing: no longer looked at.
    lost: bool,
}

impl Talk {
    /// Takes bytes of the request stream; returns the requests that are complete now.
    fn requests(&mut self, bytes: &[u8]) -> Vec<String> {
        self.unparsed.extend_from_slice(bytes);
        let mut found = Vec::new();
        while !self.lost {
            let skip = self.body.min(self.unparsed.len());
            self.unparsed.drain(..skip);
            self.body -= skip;
            let Some(end) = self.unparsed.windows(4).position(|w| w == b"\r\n\r\n") else {
                self.lost = self.unparsed.len() > LONGEST_HEAD;
                break;
            };
            let head = String::from_utf8_lossy(&self.unparsed[..end]).into_owned();
            self.unparsed.drain(..end + 4);
            match parse(&head) {
                Some((request, body)) => {
                    found.push(request);
                    self.body = body;
                }
                None => self.lost = true,
            }
        }
        if self.lost {
            self.unparsed = Vec::new();
        }
        found
    }
}

/// "METHOD http://host/path" and the length of the body; `None`: not HTTP, or a body of a kind not looked at.
fn parse(head: &str) -> Option<(String, usize)> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    let (mut host, mut body) = ("-", 0);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "host" => host = value.trim(),
            "content-length" => body = value.trim().parse().ok()?,
            "transfer-encoding" => return None,
            _ => {}
        }
    }
    let text = format!("{method} http://{host}{path}");
    // What goes to the terminal comes from the network.
    Some((text.chars().map(|c| if c.is_control() { '?' } else { c }).collect(), body))
}

/// Bytes arrived in order at the server.
fn on_data(ev: &mut Ctx<'_>) {
    let (now, client) = (ev.now(), ev.flow().client.to_string());
    ev.with_data(|talk: &mut Talk, ev| {
        let mut bytes = Vec::new();
        talk.lost |= ev.read_into(Side::Server, &mut bytes) != Ok(0);
        for request in talk.requests(&bytes) {
            print(now, &client, &request);
        }
    });
}

fn print(at: Duration, client: &str, request: &str) {
    let day = at.as_secs() % 86400;
    let (h, m, s) = (day / 3600, day / 60 % 60, day % 60);
    println!("{h:02}:{m:02}:{s:02}.{:03} {client:<21} {request}", at.subsec_millis());
}

fn run(path: &str, ports: &[String]) -> Result<(), Error> {
    let mut monitor = Monitor::open(path)?;
    let stream = monitor.stream()?;
    let filter: Vec<String> = ports.iter().map(|port| format!("tcp dst port {port}")).collect();
    stream.syn_filter(&filter.join(" or "))?;
    // What the server answers is of no interest: no events, no memory for it.
    stream.ignore(Side::Client).buffer(Side::Client, 0);
    stream.on(Event::ConnStart, Hook::Rcv, |ev| {
        ev.set_data(Talk::default());
    })?;
    stream.on(Event::NewData, Hook::Null, on_data)?;
    let summary = monitor.run()?;
    eprintln!("{summary}");
    Ok(())
}

fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1);
    let path =
        args.next().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap").into());
    let mut ports: Vec<String> = args.collect();
    if ports.is_empty() {
        ports.push("8000".into());
    }
    match run(&path, &ports) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("http_log: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}
