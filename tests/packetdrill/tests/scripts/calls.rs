//! A system call of a script: made through the table, and what it gave compared with what the script says.

use crate::parse::{Call, Result};
use crate::run::{LOCAL, PORT, REMOTE};
use crate::value::{Arg, errno};
use libc::{c_int, c_void};
use mos_packetdrill::table::Interface;

#[derive(Clone, Copy)]
pub struct Table(pub Interface);
// SAFETY: its functions may be called from any thread.
unsafe impl Send for Table {}

/// What a call gave: its result, errno, and what it wrote.
pub struct Done {
    pub result: i64,
    pub errno: i32,
    pub out: Vec<i64>,
}

/// Which arguments are descriptors.
pub fn descriptors(name: &str) -> &'static [usize] {
    match name {
        "socket" | "epoll_create" | "pipe" | "poll" => &[],
        "epoll_ctl" | "splice" => &[0, 2],
        _ => &[0],
    }
}

/// Whether a call makes a descriptor.
pub fn makes(name: &str) -> bool {
    matches!(name, "socket" | "accept" | "epoll_create")
}

/// Whether the result and the error are those expected.
pub fn check_result(call: &Call, done: &Done) -> Result<()> {
    let name = &call.name;
    if let Some(expected) = call.result {
        let right = if makes(name) && expected >= 0 { done.result >= 0 } else { done.result == expected };
        if !right {
            let error = std::io::Error::from_raw_os_error(done.errno);
            let error = if done.result < 0 { format!(" ({error})") } else { String::new() };
            return Err(format!("{name} gave {}{error}, not {expected}", done.result));
        }
    }
    if let Some(error) = &call.errno
        && errno(error)? != done.errno
    {
        let given = std::io::Error::from_raw_os_error(done.errno);
        return Err(format!("{name} gave the error '{given}', not {error}"));
    }
    Ok(())
}

/// Whether what a call stored is what was expected. `live`: a descriptor of the script's as it really is.
pub fn check_stored(call: &Call, done: &Done, live: impl Fn(i64) -> i64) -> Result<()> {
    let args = &call.args;
    let wanted: Vec<i64> = match &*call.name {
        "ioctl" => args.iter().rev().filter_map(Arg::first).take(1).collect(),
        "getsockopt" => match args.get(3) {
            Some(value @ Arg::Fields(_)) => vec![value.number("onoff"), value.number("linger")],
            // As many letters as are given.
            Some(Arg::Text(text)) => text.chunks(4).map(word).collect(),
            Some(Arg::List(list)) if matches!(list[..], [Arg::Text(_)]) => {
                let Arg::Text(text) = &list[0] else { unreachable!() };
                text.chunks(4).map(word).collect()
            }
            // What is written as 0xffffffff is -1.
            Some(value) => value.first().map(|n| i64::from(n as c_int)).into_iter().collect(),
            None => Vec::new(),
        },
        "poll" => args[0].list().iter().map(|fd| fd.number("revents")).collect(),
        "epoll_wait" if done.result > 0 => {
            let events: Vec<&Arg> = match &args[1] {
                Arg::List(list) => list.iter().collect(),
                one => vec![one],
            };
            let of = |event: &&Arg| {
                let data = [("ptr", false), ("u32", false), ("u64", false), ("fd", true)]
                    .into_iter()
                    .find(|(key, _)| event.field(key).is_some());
                let data = data.map_or(0, |(key, fd)| {
                    let number = event.number(key);
                    if fd { live(number) } else { number }
                });
                [event.number("events"), data]
            };
            events.iter().flat_map(of).collect()
        }
        _ => return Ok(()),
    };
    let found = &done.out[..done.out.len().min(wanted.len().max(1))];
    if wanted.is_empty() || wanted == found {
        Ok(())
    } else {
        Err(format!("{} stored {found:x?}, not {wanted:x?}", call.name))
    }
}

fn word(bytes: &[u8]) -> i64 {
    bytes.iter().rev().fold(0, |word, &b| word << 8 | i64::from(b))
}

/// What an argument is as bytes in memory; `None`: not said.
fn memory(arg: &Arg) -> Option<Vec<u8>> {
    match arg {
        Arg::Number(number) => Some((*number as c_int).to_ne_bytes().into()),
        Arg::Text(text) => Some([&text[..], &[0]].concat()),
        Arg::List(list) => memory(list.first()?),
        Arg::Fields(fields) => Some(
            fields
                .iter()
                .flat_map(|(_, value)| (value.first().unwrap_or(0) as c_int).to_ne_bytes())
                .collect(),
        ),
        Arg::Ellipsis => None,
    }
}

/// The buffers of an `iovec`: `[{..., 10}, {"abc", 3}]`.
fn vectors(arg: Option<&Arg>) -> Vec<Vec<u8>> {
    let of = |entry: &Arg| {
        let mut bytes = match entry.field("0") {
            Some(Arg::Text(text)) => text.clone(),
            _ => Vec::new(),
        };
        bytes.resize(entry.number("1").max(0) as usize, 0);
        bytes
    };
    arg.map_or(&[][..], Arg::list).iter().map(of).collect()
}

/// The address an argument says, or where `or` says.
fn address(arg: Option<&Arg>, or: [u8; 4]) -> libc::sockaddr_in {
    let mut family = libc::AF_INET;
    let (mut port, mut ip) = (PORT, or);
    if let Some(arg @ Arg::Fields(_)) = arg {
        family = arg.number("sa_family") as c_int;
        if arg.field("sin_port").is_some() {
            port = arg.number("sin_port") as u16;
        }
        if let Some(Arg::Text(text)) = arg.field("sin_addr")
            && let Ok(parsed) = String::from_utf8_lossy(text).parse::<std::net::Ipv4Addr>()
        {
            ip = parsed.octets();
        }
    }
    libc::sockaddr_in {
        sin_family: family as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip) },
        sin_zero: [0; 8],
    }
}

/// Calls a function of the table.
///
/// # Safety
/// The table is live.
pub unsafe fn invoke(table: Table, name: &str, args: &[Arg]) -> Done {
    let (t, u) = (&table.0, table.0.userdata);
    let n = |at: usize| args.get(at).and_then(Arg::first).unwrap_or(0);
    let i = |at: usize| n(at) as c_int;
    let mut ints = [0 as c_int; 64];
    let mut address = match name {
        "bind" => address(args.get(1), LOCAL),
        _ => address(args.get(1), REMOTE),
    };
    let mut len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let to = (&raw mut address).cast::<libc::sockaddr>();
    let plain = matches!(name, "read" | "recv" | "recvfrom" | "write" | "send" | "sendto");
    let count = if plain { n(2).max(0) as usize } else { 0 };
    let mut bytes = vec![0u8; count];
    if let Some(Arg::Text(text)) = args.get(1)
        && name != "read"
    {
        let len = text.len().min(count);
        bytes[..len].copy_from_slice(&text[..len]);
    }
    // `NULL` is written as such.
    let null = args.get(1) == Some(&Arg::Number(0));
    let buf = if null { std::ptr::null_mut() } else { bytes.as_mut_ptr().cast::<c_void>() };
    let in_message = args.get(1).and_then(|arg| arg.field("msg_iov"));
    let mut buffers = vectors(if in_message.is_some() { in_message } else { args.get(1) });
    let mut iov: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|b| libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() })
        .collect();
    // SAFETY: plain data, valid when zeroed.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (iov.as_mut_ptr(), iov.len() as _);
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
            "readv" => (t.readv)(u, i(0), iov.as_ptr(), iov.len() as c_int) as i64,
            "recv" => (t.recv)(u, i(0), buf, count, i(3)) as i64,
            "recvfrom" => (t.recvfrom)(u, i(0), buf, count, i(3), to, &raw mut len) as i64,
            "recvmsg" => (t.recvmsg)(u, i(0), &raw mut message, i(2)) as i64,
            "write" => (t.write)(u, i(0), buf, count) as i64,
            "writev" => (t.writev)(u, i(0), iov.as_ptr(), iov.len() as c_int) as i64,
            "send" => (t.send)(u, i(0), buf, count, i(3)) as i64,
            "sendto" => (t.sendto)(u, i(0), buf, count, i(3), to, len) as i64,
            "sendmsg" => (t.sendmsg)(u, i(0), &raw const message, i(2)) as i64,
            "close" => (t.close)(u, i(0)) as i64,
            "shutdown" => (t.shutdown)(u, i(0), i(1)) as i64,
            "fcntl" => (t.fcntl)(u, i(0), i(1), n(2)) as i64,
            "ioctl" => {
                ints[0] = i(2);
                let result = (t.ioctl)(u, i(0), n(1) as _, ints.as_mut_ptr()) as i64;
                out.push(ints[0].into());
                result
            }
            "getsockopt" => {
                let mut len =
                    args.get(4).and_then(Arg::first).unwrap_or(256).clamp(0, 256) as libc::socklen_t;
                let result =
                    (t.getsockopt)(u, i(0), i(1), i(2), ints.as_mut_ptr().cast(), &raw mut len) as i64;
                out.extend(ints.iter().map(|&int| i64::from(int)));
                result
            }
            "setsockopt" => {
                let value = args.get(3).and_then(memory);
                let len = args.get(4).and_then(Arg::first).or(value.as_ref().map(|v| v.len() as i64));
                let at = value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
                let most = value.as_ref().map_or(0, Vec::len) as i64;
                (t.setsockopt)(u, i(0), i(1), i(2), at.cast(), len.unwrap_or(0).min(most) as _) as i64
            }
            "poll" => {
                let entry = |a: &Arg| libc::pollfd {
                    fd: a.number("fd") as c_int,
                    events: a.number("events") as i16,
                    revents: 0,
                };
                let list = args.first().map_or(&[][..], Arg::list);
                let mut fds: Vec<libc::pollfd> = list.iter().map(entry).collect();
                let result = (t.poll)(u, fds.as_mut_ptr(), fds.len() as _, i(2)) as i64;
                out.extend(fds.iter().map(|fd| i64::from(fd.revents)));
                result
            }
            "epoll_create" => (t.epoll_create)(u, i(0)) as i64,
            "epoll_ctl" => {
                let event = args.get(3).unwrap_or(&Arg::Ellipsis);
                let data = ["fd", "ptr", "u32", "u64"].iter().map(|key| event.number(key)).find(|&n| n != 0);
                let mut event = libc::epoll_event {
                    events: event.number("events") as u32,
                    u64: data.unwrap_or(0) as u64,
                };
                (t.epoll_ctl)(u, i(0), i(1), i(2), &raw mut event) as i64
            }
            "epoll_wait" => {
                let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
                let result = (t.epoll_wait)(u, i(0), events.as_mut_ptr(), i(2).min(64), i(3)) as i64;
                let count = result.max(0) as usize;
                out.extend(events[..count].iter().flat_map(|e| [i64::from(e.events), e.u64 as i64]));
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
                eprintln!("{name}: no such call in the table");
                -2
            }
        }
    };
    Done { result, errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0), out }
}
