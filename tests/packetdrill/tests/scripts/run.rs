//! Runs a script against the adapter through its table, as packetdrill would: calls that block on a second thread, time and
//! packets from the table's functions, numbers of the script mapped to those on the wire.

use crate::parse::{Arg, Icmp, Opt, Packet, Step, What, errno};
use libc::{c_int, c_void};
use mos_packetdrill::table::{Interface, packetdrill_interface_init};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::mpsc;
use std::time::Duration;

/// packetdrill's own default, µs.
const TOLERANCE: i64 = 4000;
const LOCAL: [u8; 4] = [192, 168, 0, 1];
const REMOTE: [u8; 4] = [192, 0, 2, 1];
const PORT: u16 = 8080;
const FIRST_REMOTE_PORT: u16 = 40_000;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

type Result<T> = std::result::Result<T, String>;

#[derive(Clone, Copy)]
struct Table(Interface);
// SAFETY: its functions may be called from any thread.
unsafe impl Send for Table {}

/// The connection that packets of the script are of.
#[derive(Clone, Copy)]
struct Wire {
    local_port: u16,
    remote_port: u16,
    /// What is added to a script's number of our direction to have the one on the wire.
    shift: Option<u32>,
}

impl Wire {
    /// That of a connection from the `made`th remote port, of which nothing was sent yet.
    fn fresh(made: u16) -> Self {
        Wire { local_port: PORT, remote_port: FIRST_REMOTE_PORT + made, shift: None }
    }
}

struct Run {
    table: Table,
    origin: i64,
    /// When the last step was, from the origin.
    last: i64,
    wire: Wire,
    /// A socket has begun to listen: the next SYN is of a new connection.
    listens: bool,
    /// Descriptors, by the script's number.
    fds: BTreeMap<i64, c_int>,
    /// Timestamps we sent, by the script's value.
    stamps: BTreeMap<u32, u32>,
    blocked: Option<Blocked>,
    made: u16,
}

/// A call in progress on the other thread.
struct Blocked {
    line: usize,
    ends: i64,
    done: mpsc::Receiver<(Done, i64)>,
    name: String,
    args: Vec<Arg>,
    expected: (i64, Option<String>),
}

/// What a call gave: its result, errno, and what it wrote.
struct Done {
    result: i64,
    errno: i32,
    out: Vec<i64>,
}

/// Runs a script; the error begins with its line.
pub fn run(script: &[Step], flags: &str) -> Result<()> {
    let flags = CString::new(flags).map_err(|_| "flags?")?;
    let mut table = std::mem::MaybeUninit::<Interface>::zeroed();
    // SAFETY: a string, and room for a table.
    let table = unsafe {
        packetdrill_interface_init(flags.as_ptr(), table.as_mut_ptr());
        Table(table.assume_init())
    };
    let mut run = Run {
        table,
        origin: 0,
        last: 0,
        wire: Wire::fresh(0),
        listens: false,
        fds: BTreeMap::new(),
        stamps: BTreeMap::new(),
        blocked: None,
        made: 0,
    };
    run.origin = run.now()?;
    let mut outcome = Ok(());
    for step in script {
        outcome = run.step(step).map_err(|why| format!("{}: {why}", step.line));
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = run.finished(true);
        // As packetdrill does with what a script leaves open.
        for fd in run.fds.values() {
            // SAFETY: no memory is involved.
            if unsafe { libc::close(*fd) } != 0 && outcome.is_ok() {
                outcome = Err("end: a descriptor that cannot be closed".into());
            }
        }
    }
    if run.blocked.is_none() {
        // SAFETY: the table's own, for the last time: no call is in progress.
        unsafe { (table.0.free)(table.0.userdata) };
    }
    outcome
}

/// Scripts that say what is not so fail.
pub fn wrong_scripts_fail() -> Result<()> {
    let open = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n\
        +0 < S 0:0(0) win 1000 <mss 1000>\n";
    let right =
        "+0 > S. 0:0(0) ack 1 <mss 1460>\n+.1 < . 1:1(0) ack 1 win 1000\n+0 accept(3, ..., ...) = 4\n";
    let check = |text: String| crate::parse::script(&text).and_then(|script| run(&script, ""));
    check(format!("{open}{right}"))?;
    for wrong in [
        "+0 > S. 0:0(0) ack 2 <mss 1460>",
        "+0 > S. 0:0(0) ack 1 <mss 1000>",
        "+0 > S. 0:0(0) ack 1",
        "+0 > S. 0:0(0) ack 1 win 1 <...>",
        "+.5 > S. 0:0(0) ack 1 <...>",
        "+0 > . 0:0(0) ack 1 <...>",
        "+0 accept(3, ..., ...) = 4",
        "+0 close(3) = -1 EBADF",
        "+0 listen(3, 1) = -1",
        "+0...0.1 accept(3, ..., ...) = 4\n+1 close(3) = 0",
    ] {
        if check(format!("{open}{wrong}")).is_ok() {
            return Err(format!("passed: {wrong}"));
        }
    }
    Ok(())
}

impl Run {
    fn now(&self) -> Result<i64> {
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
        // SAFETY: room for a time.
        let result = unsafe {
            (self.table.0.gettimeofday)(self.table.0.userdata, &raw mut time, std::ptr::null_mut())
        };
        if result == 0 { Ok(time.tv_sec * 1_000_000 + time.tv_usec) } else { Err("gettimeofday".into()) }
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let base = if step.relative { self.now()? - self.origin } else { 0 };
        let at = base + step.at;
        match &step.what {
            What::Expect(packet) => self.expect(packet, at)?,
            What::Inject(packet) => {
                self.wait(at)?;
                self.inject(packet)?;
            }
            What::Icmp(icmp) => {
                self.wait(at)?;
                self.icmp(icmp)?;
            }
            What::Call { name, args, result, errno } => {
                self.wait(at)?;
                self.finished(false)?;
                let expected = (*result, errno.clone());
                match step.ends {
                    Some(ends) => self.block(step.line, base + ends, name, args, expected)?,
                    None => {
                        let live = self.prepare(name, args)?;
                        // SAFETY: made of our own arguments.
                        let done = unsafe { invoke(self.table, name, &live) };
                        self.check(name, args, &expected, &done)?;
                    }
                }
            }
        }
        self.last = at;
        Ok(())
    }

    /// Waits like packetdrill: sleeps up to shortly before, and then looks at the clock until it is time.
    fn wait(&self, at: i64) -> Result<()> {
        loop {
            let left = at - (self.now()? - self.origin);
            if left <= 0 {
                return if left >= -TOLERANCE { Ok(()) } else { Err(format!("late by {} µs", -left)) };
            }
            if left > 20 {
                // SAFETY: no memory is involved.
                unsafe { (self.table.0.usleep)(self.table.0.userdata, (left - 20) as libc::useconds_t) };
            }
        }
    }

    fn block(
        &mut self,
        line: usize,
        ends: i64,
        name: &str,
        args: &[Arg],
        expected: (i64, Option<String>),
    ) -> Result<()> {
        self.finished(true)?;
        let (table, called, live) = (self.table, name.to_string(), self.prepare(name, args)?);
        let (tell, done) = mpsc::channel();
        let (told, tid) = mpsc::channel();
        std::thread::spawn(move || {
            let table = table;
            // SAFETY: no preconditions.
            let _ = told.send(unsafe { libc::gettid() });
            // SAFETY: made of our own arguments.
            let done = unsafe { invoke(table, &called, &live) };
            let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
            // SAFETY: room for a time.
            unsafe { (table.0.gettimeofday)(table.0.userdata, &raw mut time, std::ptr::null_mut()) };
            let _ = tell.send((done, time.tv_sec * 1_000_000 + time.tv_usec));
        });
        let tid = tid.recv().map_err(|_| "no thread")?;
        // Until it sleeps or is over.
        while std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"))
            .is_ok_and(|stat| !stat.contains(") S "))
        {
            std::thread::sleep(Duration::from_micros(50));
        }
        self.blocked = Some(Blocked { line, ends, done, name: name.into(), args: args.into(), expected });
        Ok(())
    }

    /// Checks the blocked call, if it is over; `must`: it has to be, soon.
    fn finished(&mut self, must: bool) -> Result<()> {
        let Some(blocked) = &self.blocked else { return Ok(()) };
        let wait = Duration::from_millis(if must { 1000 } else { 0 });
        let Ok((done, at)) = blocked.done.recv_timeout(wait) else {
            return if must {
                Err(format!("the call of line {} still blocks", blocked.line))
            } else {
                Ok(())
            };
        };
        let Some(blocked) = self.blocked.take() else { return Ok(()) };
        let (name, args, late) = (blocked.name, blocked.args, at - self.origin - blocked.ends);
        self.check(&name, &args, &blocked.expected, &done)
            .map_err(|why| format!("the call of line {}: {why}", blocked.line))?;
        if late.abs() > TOLERANCE {
            return Err(format!("the call of line {} ended {late} µs late", blocked.line));
        }
        Ok(())
    }

    /// The script's descriptors replaced by live ones.
    fn prepare(&self, name: &str, args: &[Arg]) -> Result<Vec<Arg>> {
        let live = |arg: &Arg| match arg {
            Arg::Number(fd) if *fd < 0 => Ok(arg.clone()),
            // A number that names nothing is not one of ours either.
            Arg::Number(fd) => {
                Ok(Arg::Number(self.fds.get(fd).copied().unwrap_or(10_000 + *fd as c_int).into()))
            }
            _ => Err(format!("{arg:?}: descriptor?")),
        };
        let in_fields = |arg: &Arg| match arg {
            Arg::Fields(fields) => {
                let of = |(key, value): &(String, Arg)| {
                    Ok((key.clone(), if key == "fd" { live(value)? } else { value.clone() }))
                };
                Ok(Arg::Fields(fields.iter().map(of).collect::<Result<_>>()?))
            }
            _ => Ok(arg.clone()),
        };
        let mut out = args.to_vec();
        let places: &[usize] = match name {
            "socket" | "epoll_create" | "pipe" | "poll" => &[],
            "epoll_ctl" | "splice" => &[0, 2],
            _ => &[0],
        };
        for &place in places {
            let arg = out.get_mut(place).ok_or("a descriptor?")?;
            *arg = live(arg)?;
        }
        for arg in &mut out {
            *arg = match arg {
                Arg::List(list) => Arg::List(list.iter().map(in_fields).collect::<Result<_>>()?),
                _ => in_fields(arg)?,
            };
        }
        Ok(out)
    }

    /// Compares what a call gave with what the script says.
    fn check(
        &mut self,
        name: &str,
        args: &[Arg],
        expected: &(i64, Option<String>),
        done: &Done,
    ) -> Result<()> {
        let makes = matches!(name, "socket" | "accept" | "epoll_create");
        let right = if makes && expected.0 >= 0 { done.result >= 0 } else { done.result == expected.0 };
        if !right {
            let error = std::io::Error::from_raw_os_error(done.errno);
            let error = if done.result < 0 { format!(" ({error})") } else { String::new() };
            return Err(format!("{name} gave {}{error}, not {}", done.result, expected.0));
        }
        if let Some(error) = &expected.1
            && errno(error)? != done.errno
        {
            let given = std::io::Error::from_raw_os_error(done.errno);
            return Err(format!("{name} gave the error '{given}', not {error}"));
        }
        if done.result < 0 {
            return Ok(());
        }
        match (name, args) {
            ("listen", _) => self.listens = true,
            ("close", [Arg::Number(fd), ..]) => {
                self.fds.remove(fd);
            }
            ("pipe", [Arg::List(ends)]) => {
                for (end, live) in ends.iter().zip(&done.out) {
                    if let Arg::Number(end) = end {
                        self.fds.insert(*end, *live as c_int);
                    }
                }
            }
            _ => {}
        }
        if makes && expected.0 >= 0 {
            self.fds.insert(expected.0, done.result as c_int);
        }
        let wanted: Vec<i64> = match (name, args) {
            ("ioctl" | "getsockopt", _) => args.iter().rev().flat_map(first).take(1).collect(),
            ("poll", [Arg::List(fds), ..]) => fds.iter().map(|fd| field(fd, "revents")).collect(),
            ("epoll_wait", [_, event, ..]) if done.result > 0 => {
                let live = |fd: i64| self.fds.get(&fd).copied().unwrap_or(-1).into();
                vec![field(event, "events"), live(field(event, "fd"))]
            }
            _ => return Ok(()),
        };
        let wanted =
            if name == "getsockopt" { args.get(3).into_iter().flat_map(first).collect() } else { wanted };
        if wanted == done.out {
            Ok(())
        } else {
            Err(format!("{name} stored {:x?}, not {wanted:x?}", done.out))
        }
    }

    // ---- Packets ------------------------------------------------------------------------------------------------

    fn inject(&mut self, packet: &Packet) -> Result<()> {
        if packet.flags & (SYN | ACK) == SYN && self.listens {
            // A new connection to the listener. Further SYNs are of the same one.
            self.wire = Wire::fresh(self.made);
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
        tcp.extend([0; 4]);
        tcp.extend(options);
        tcp.resize(tcp.len() + packet.len, 0);
        let sum = sum(&pseudo(REMOTE, LOCAL, &tcp));
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        self.send(6, &tcp)
    }

    fn icmp(&mut self, icmp: &Icmp) -> Result<()> {
        let about = icmp.seq.wrapping_add(self.wire.shift.unwrap_or(0));
        let mut message = vec![icmp.kind, icmp.code, 0, 0, 0, 0];
        message.extend(icmp.mtu.to_be_bytes());
        message.extend(ip(6, LOCAL, REMOTE, 1500 - 20));
        message.extend(self.wire.local_port.to_be_bytes());
        message.extend(self.wire.remote_port.to_be_bytes());
        message.extend(about.to_be_bytes());
        let sum = sum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.send(1, &message)
    }

    fn send(&self, protocol: u8, payload: &[u8]) -> Result<()> {
        let packet = [&ip(protocol, REMOTE, LOCAL, payload.len())[..], payload].concat();
        // SAFETY: as many bytes as said.
        let sent = unsafe {
            (self.table.0.netdev_send)(self.table.0.userdata, packet.as_ptr().cast(), packet.len())
        };
        if sent == 0 { Ok(()) } else { Err("netdev_send".into()) }
    }

    fn expect(&mut self, packet: &Packet, at: i64) -> Result<()> {
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
        let wanted = (packet.flags, packet.seq, packet.len, packet.ack, packet.window.unwrap_or(half(14)));
        let found = (flags, seq, tcp.len() - header, word(8), half(14));
        if wanted != found {
            return Err(format!(
                "flags, seq, len, ack, win were {found:?}, not {wanted:?} (at {} s)",
                (time - self.origin) as f64 / 1e6
            ));
        }
        if tcp[header..].iter().any(|&b| b != 0) {
            return Err("other bytes than were written".into());
        }
        if let Some(options) = &packet.options {
            self.compare_options(options, &tcp[20..header])?;
        }
        let late = time - self.origin - at;
        if late.abs() > TOLERANCE {
            return Err(format!("it left {late} µs late"));
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

fn first(arg: &Arg) -> Option<i64> {
    match arg {
        Arg::List(list) => list.first().and_then(first),
        Arg::Number(number) => Some(*number),
        _ => None,
    }
}

fn field(arg: &Arg, name: &str) -> i64 {
    let Arg::Fields(fields) = arg else { return 0 };
    fields.iter().find(|(key, _)| key == name).and_then(|(_, value)| first(value)).unwrap_or(0)
}

fn ip(protocol: u8, from: [u8; 4], to: [u8; 4], len: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
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

/// Calls a function of the table.
///
/// # Safety
/// The table is live.
unsafe fn invoke(table: Table, name: &str, args: &[Arg]) -> Done {
    let (t, u) = (&table.0, table.0.userdata);
    let n = |at: usize| args.get(at).and_then(first).unwrap_or(0);
    let i = |at: usize| n(at) as c_int;
    let mut ints = [0 as c_int; 64];
    let mut address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: PORT.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(if name == "bind" { LOCAL } else { REMOTE }) },
        sin_zero: [0; 8],
    };
    let mut len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let to = (&raw mut address).cast::<libc::sockaddr>();
    let count = if matches!(name, "read" | "recv" | "write" | "send") { n(2).max(0) as usize } else { 0 };
    let mut bytes = vec![0u8; count];
    let buf = bytes.as_mut_ptr().cast::<c_void>();
    let mut out = Vec::new();
    // SAFETY: all pointers are to our own, as long as said.
    let result = unsafe {
        match name {
            "socket" => {
                let domain = if args.first() == Some(&Arg::Ellipsis) { libc::AF_INET } else { i(0) };
                (t.socket)(u, domain, i(1), i(2)) as i64
            }
            "bind" => (t.bind)(u, i(0), to, len) as i64,
            "listen" => (t.listen)(u, i(0), i(1)) as i64,
            "accept" => (t.accept)(u, i(0), to, &raw mut len) as i64,
            "connect" => (t.connect)(u, i(0), to, len) as i64,
            "read" => (t.read)(u, i(0), buf, count) as i64,
            "recv" => (t.recv)(u, i(0), buf, count, i(3)) as i64,
            "write" => (t.write)(u, i(0), buf, count) as i64,
            "send" => (t.send)(u, i(0), buf, count, i(3)) as i64,
            "close" => (t.close)(u, i(0)) as i64,
            "shutdown" => (t.shutdown)(u, i(0), i(1)) as i64,
            "fcntl" => (t.fcntl)(u, i(0), i(1), n(2)) as i64,
            "ioctl" => {
                let result = (t.ioctl)(u, i(0), n(1) as _, ints.as_mut_ptr()) as i64;
                out.push(ints[0].into());
                result
            }
            "getsockopt" => {
                let mut len = 4;
                let result =
                    (t.getsockopt)(u, i(0), i(1), i(2), ints.as_mut_ptr().cast(), &raw mut len) as i64;
                out.push(ints[0].into());
                result
            }
            "setsockopt" => {
                let two = [field(&args[3], "onoff") as c_int, field(&args[3], "linger") as c_int];
                let value = if matches!(args[3], Arg::Fields(_)) { two } else { [i(3), 0] };
                (t.setsockopt)(u, i(0), i(1), i(2), value.as_ptr().cast(), i(4) as _) as i64
            }
            "poll" => {
                let Some(Arg::List(list)) = args.first() else { return Done { result: -2, errno: 0, out } };
                let entry = |a: &Arg| libc::pollfd {
                    fd: field(a, "fd") as c_int,
                    events: field(a, "events") as i16,
                    revents: 0,
                };
                let mut fds: Vec<libc::pollfd> = list.iter().map(entry).collect();
                let result = (t.poll)(u, fds.as_mut_ptr(), fds.len() as _, i(2)) as i64;
                out.extend(fds.iter().map(|fd| i64::from(fd.revents)));
                result
            }
            "epoll_create" => (t.epoll_create)(u, i(0)) as i64,
            "epoll_ctl" => {
                let (events, fd) = (field(&args[3], "events") as u32, field(&args[3], "fd") as u64);
                let mut event = libc::epoll_event { events, u64: fd };
                (t.epoll_ctl)(u, i(0), i(1), i(2), &raw mut event) as i64
            }
            "epoll_wait" => {
                let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
                let result = (t.epoll_wait)(u, i(0), events.as_mut_ptr(), i(2).min(64), i(3)) as i64;
                out.extend([i64::from(events[0].events), events[0].u64 as i64]);
                result
            }
            "pipe" => {
                let result = (t.pipe)(u, ints.as_mut_ptr()) as i64;
                out.extend(ints[..2].iter().map(|&fd| i64::from(fd)));
                result
            }
            "splice" => {
                let none = std::ptr::null_mut();
                (t.splice)(u, i(0), none, i(2), none, n(4) as usize, i(5) as u32) as i64
            }
            _ => {
                eprintln!("{name}: no such call");
                -2
            }
        }
    };
    Done { result, errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0), out }
}
