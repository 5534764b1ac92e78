//! The part of packetdrill's language that our scripts use: a line is a time, and a packet (`<` comes in, `>` is expected) or
//! a system call with its result.

/// One line.
#[derive(Debug)]
pub struct Step {
    pub line: usize,
    /// `+`: counted from the step before; else from the start. µs.
    pub relative: bool,
    pub at: i64,
    /// A call that blocks, until so long after the same origin.
    pub ends: Option<i64>,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    Inject(Packet),
    Expect(Packet),
    Icmp(Icmp),
    Call { name: String, args: Vec<Arg>, result: i64, errno: Option<String> },
}

/// A TCP segment as written.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    pub flags: u8,
    pub seq: u32,
    pub len: usize,
    pub ack: u32,
    pub window: Option<u16>,
    /// `None`: `<...>`, anything.
    pub options: Option<Vec<Opt>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opt {
    Raw(Vec<u8>),
    Stamps(u32, u32),
    Sack(Vec<(u32, u32)>),
}

/// `[SEQ:END(LEN)] icmp TYPE [CODE] [mtu N]`: an error about a segment of ours; about the SYN unless it says.
#[derive(Debug)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub mtu: u16,
    pub seq: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    Number(i64),
    Ellipsis,
    List(Vec<Arg>),
    Fields(Vec<(String, Arg)>),
}

type Result<T> = std::result::Result<T, String>;

/// Reads a script.
pub fn script(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split("//").next().unwrap_or("").trim();
        if !line.is_empty() {
            steps.push(step(number + 1, line).map_err(|why| format!("{}: {line}\n    {why}", number + 1))?);
        }
    }
    Ok(steps)
}

fn step(line: usize, text: &str) -> Result<Step> {
    let (time, rest) = text.split_once(' ').ok_or("a time, and what happens")?;
    let (time, relative) = time.strip_prefix('+').map_or((time, false), |time| (time, true));
    let (at, ends) = match time.split_once("...") {
        Some((at, ends)) => (seconds(at)?, Some(seconds(ends)?)),
        None => (seconds(time)?, None),
    };
    let rest = rest.trim();
    let what = if let Some(packet) = rest.strip_prefix('<') {
        match packet.split_once("icmp ") {
            Some((about, error)) => What::Icmp(icmp(about.trim(), error)?),
            None => What::Inject(self::packet(packet)?),
        }
    } else if let Some(packet) = rest.strip_prefix('>') {
        What::Expect(self::packet(packet)?)
    } else {
        call(rest)?
    };
    Ok(Step { line, relative, at, ends, what })
}

fn seconds(text: &str) -> Result<i64> {
    text.parse::<f64>().map(|s| (s * 1e6).round() as i64).map_err(|_| format!("'{text}': seconds?"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| format!("'{text}': number?"))
}

/// `SEQ:END(LEN)`
fn range(text: &str) -> Result<(u32, usize)> {
    let (seq, rest) = text.split_once(':').ok_or("SEQ:END(LEN)?")?;
    let (end, len) = rest.strip_suffix(')').and_then(|r| r.split_once('(')).ok_or("SEQ:END(LEN)?")?;
    let (seq, end, len): (u32, u32, usize) = (number(seq)?, number(end)?, number(len)?);
    if seq.wrapping_add(len as u32) == end { Ok((seq, len)) } else { Err("SEQ + LEN is not END".into()) }
}

fn packet(text: &str) -> Result<Packet> {
    let mut packet = Packet { options: Some(Vec::new()), ..Packet::default() };
    let mut text = text.trim();
    if let Some((before, options)) = text.split_once('<') {
        let list = options.trim().strip_suffix('>').ok_or("> is missing")?;
        packet.options = if list.trim() == "..." { None } else { Some(self::options(list)?) };
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
            // None at all.
            '-' => 0,
            _ => return Err(format!("{flag}: flag?")),
        };
    }
    (packet.seq, packet.len) = range(words.next().ok_or("SEQ:END(LEN)?")?)?;
    while let Some(word) = words.next() {
        let value = words.next().ok_or("number?")?;
        match word {
            "ack" => packet.ack = number(value)?,
            "win" => packet.window = Some(number(value)?),
            _ => return Err(format!("{word}?")),
        }
    }
    Ok(packet)
}

fn options(text: &str) -> Result<Vec<Opt>> {
    let mut list = Vec::new();
    for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        let words: Vec<&str> = option.split_whitespace().collect();
        list.push(match words[..] {
            ["nop"] => Opt::Raw(vec![1]),
            ["eol"] => Opt::Raw(vec![0]),
            ["mss", size] => Opt::Raw([&[2, 4][..], &number::<u16>(size)?.to_be_bytes()].concat()),
            ["wscale", shift] => Opt::Raw(vec![3, 3, number(shift)?]),
            ["sackOK"] => Opt::Raw(vec![4, 2]),
            ["TS", "val", value, "ecr", echo] => Opt::Stamps(number(value)?, number(echo)?),
            ["sack", ..] => {
                let edges = |block: &&str| {
                    let (start, end) = block.split_once(':').ok_or("START:END?")?;
                    Ok((number(start)?, number(end)?))
                };
                Opt::Sack(words[1..].iter().map(edges).collect::<Result<_>>()?)
            }
            _ => return Err(format!("{option}: option?")),
        });
    }
    Ok(list)
}

fn icmp(about: &str, error: &str) -> Result<Icmp> {
    let seq = match about {
        "" => 0,
        _ => range(about.strip_prefix('[').and_then(|a| a.strip_suffix(']')).ok_or("[SEQ:END(LEN)]?")?)?.0,
    };
    let words: Vec<&str> = error.split_whitespace().collect();
    let (words, mtu) = match words[..] {
        [ref words @ .., "mtu", mtu] => (words, number(mtu)?),
        _ => (&words[..], 0),
    };
    let (kind, codes): (u8, &[&str]) = match words.first() {
        Some(&"unreachable") => (3, &UNREACHABLE),
        Some(&"source_quench") => (4, &[]),
        Some(&"redirect") => (5, &[]),
        Some(&"time_exceeded") => (11, &["ttl_exceeded_in_transit", "frag_reass_exceeded"]),
        Some(&"parameter_problem") => (12, &[]),
        other => return Err(format!("{other:?}: ICMP type?")),
    };
    let code = match words.get(1) {
        None => 0,
        Some(name) => match name.strip_prefix("code_") {
            Some(code) => number(code)?,
            None => codes.iter().position(|c| c == name).ok_or(format!("{name}: code?"))? as u8,
        },
    };
    Ok(Icmp { kind, code, mtu, seq })
}

/// Codes of "destination unreachable", in order.
const UNREACHABLE: [&str; 16] = [
    "net_unreachable",
    "host_unreachable",
    "protocol_unreachable",
    "port_unreachable",
    "frag_needed",
    "source_route_failed",
    "net_unknown",
    "host_unknown",
    "source_host_isolated",
    "net_prohibited",
    "host_prohibited",
    "net_unreachable_for_tos",
    "host_unreachable_for_tos",
    "packet_filtered",
    "precedence_violation",
    "precedence_cutoff",
];

fn call(text: &str) -> Result<What> {
    let (name, rest) = text.split_once('(').ok_or("a packet or a call?")?;
    let mut chars = Chars { text: rest.as_bytes(), at: 0 };
    let args = chars.list(b')')?;
    chars.expect(b'=')?;
    let result = match chars.value()? {
        Arg::Number(result) => result,
        _ => return Err("a result?".into()),
    };
    // What follows in parentheses explains.
    let errno = rest[chars.at..].split_whitespace().next().filter(|word| !word.starts_with('('));
    let errno = errno.map(str::to_string);
    Ok(What::Call { name: name.trim().into(), args, result, errno })
}

/// Arguments, letter by letter.
struct Chars<'a> {
    text: &'a [u8],
    at: usize,
}

impl Chars<'_> {
    fn peek(&mut self) -> u8 {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        if self.peek() == wanted {
            self.at += 1;
            return Ok(());
        }
        Err(format!("'{}' is missing", char::from(wanted)))
    }

    fn list(&mut self, end: u8) -> Result<Vec<Arg>> {
        let mut list = Vec::new();
        while self.peek() != end {
            list.push(self.value()?);
            if self.peek() != end {
                self.expect(b',')?;
            }
        }
        self.expect(end)?;
        Ok(list)
    }

    fn word(&mut self) -> String {
        self.peek();
        let from = self.at;
        while self.text.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b)) {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.text[from..self.at]).into_owned()
    }

    fn value(&mut self) -> Result<Arg> {
        match self.peek() {
            b'[' => {
                self.at += 1;
                Ok(Arg::List(self.list(b']')?))
            }
            b'{' => {
                self.at += 1;
                let mut fields = Vec::new();
                while self.peek() != b'}' {
                    let name = self.word();
                    self.expect(b'=')?;
                    fields.push((name, self.value()?));
                    if self.peek() != b'}' {
                        self.expect(b',')?;
                    }
                }
                self.expect(b'}')?;
                Ok(Arg::Fields(fields))
            }
            _ => {
                let mut value = 0;
                loop {
                    let word = self.word();
                    if word == "..." {
                        return Ok(Arg::Ellipsis);
                    }
                    value |= symbol(&word)?;
                    if self.peek() != b'|' {
                        return Ok(Arg::Number(value));
                    }
                    self.at += 1;
                }
            }
        }
    }
}

/// A number, or a name of the system's headers.
fn symbol(word: &str) -> Result<i64> {
    macro_rules! named {
        ($($name:ident)*) => { match word { $(stringify!($name) => return Ok(libc::$name as i64),)* _ => {} } };
    }
    named! {
        AF_INET AF_INET6 SOCK_STREAM SOCK_DGRAM SOCK_NONBLOCK IPPROTO_TCP SOL_SOCKET
        SO_REUSEADDR SO_ERROR SO_LINGER SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_TYPE TCP_NODELAY TCP_MAXSEG
        F_GETFL F_SETFL O_RDWR O_NONBLOCK FIONREAD TIOCOUTQ SHUT_RD SHUT_WR SHUT_RDWR
        MSG_PEEK MSG_DONTWAIT MSG_WAITALL MSG_OOB EPOLL_CTL_ADD EPOLL_CTL_MOD EPOLL_CTL_DEL
        EPOLLIN EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLET EPOLLONESHOT
        POLLIN POLLOUT POLLERR POLLHUP POLLRDHUP POLLNVAL
    }
    match word {
        "SIOCINQ" => return Ok(libc::FIONREAD as i64),
        "SIOCOUTQ" => return Ok(libc::TIOCOUTQ as i64),
        _ => {}
    }
    match word.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).map_err(|_| format!("'{word}'?")),
        // An error is a number, too: what SO_ERROR gives.
        None => errno(word).map(i64::from).or_else(|_| number(word)),
    }
}

/// The number of an errno.
pub fn errno(name: &str) -> Result<i32> {
    macro_rules! named {
        ($($name:ident)*) => { match name { $(stringify!($name) => return Ok(libc::$name),)* _ => {} } };
    }
    named! {
        EAGAIN EWOULDBLOCK EALREADY EBADF ECONNABORTED ECONNREFUSED ECONNRESET EEXIST EHOSTUNREACH EINPROGRESS EINVAL EISCONN ENETUNREACH
        ENOENT ENOTCONN ENOTSOCK EPIPE ETIMEDOUT EADDRINUSE EAFNOSUPPORT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP
        ENOPROTOOPT EFAULT ENOTTY ESPIPE
    }
    Err(format!("{name}: errno?"))
}
