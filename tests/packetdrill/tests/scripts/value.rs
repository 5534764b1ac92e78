//! Arguments of calls: numbers and the names of the system's headers, `...`, strings, lists and structures.

use crate::lex::{Cursor, Result};

#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    Number(i64),
    Ellipsis,
    Text(Vec<u8>),
    List(Vec<Arg>),
    /// A structure; what has no name is called by its place.
    Fields(Vec<(String, Arg)>),
}

impl Arg {
    /// A number, also as the first of a list.
    pub fn first(&self) -> Option<i64> {
        match self {
            Arg::List(list) => list.first().and_then(Arg::first),
            Arg::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A field of a structure.
    pub fn field(&self, name: &str) -> Option<&Arg> {
        let Arg::Fields(fields) = self else { return None };
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A number in a structure, 0 if there is none.
    pub fn number(&self, name: &str) -> i64 {
        self.field(name).and_then(Arg::first).unwrap_or(0)
    }

    /// Its elements.
    pub fn list(&self) -> &[Arg] {
        match self {
            Arg::List(list) => list,
            _ => &[],
        }
    }
}

/// Reads a value.
pub fn value(c: &mut Cursor) -> Result<Arg> {
    match c.peek() {
        b'[' => {
            c.expect("[")?;
            let mut list = Vec::new();
            while !c.sees("]") {
                list.push(value(c)?);
                if !c.sees("]") {
                    c.expect(",")?;
                }
            }
            c.expect("]")?;
            Ok(Arg::List(list))
        }
        b'{' => structure(c),
        b'"' => Ok(Arg::Text(c.string()?)),
        _ if c.takes("...") => Ok(Arg::Ellipsis),
        _ => {
            let mut value = 0;
            loop {
                let word = c.word();
                if matches!(&*word, "htons" | "htonl" | "inet_addr") {
                    c.expect("(")?;
                    let inner = self::value(c)?;
                    c.expect(")")?;
                    return Ok(inner);
                }
                value |= symbol(&word)?;
                if !c.takes("|") {
                    return Ok(Arg::Number(value));
                }
            }
        }
    }
}

fn structure(c: &mut Cursor) -> Result<Arg> {
    c.expect("{")?;
    let mut fields = Vec::new();
    while !c.sees("}") {
        let mut ahead = c.clone();
        let name = ahead.word();
        // `msg_iov(2)=[…]`: how many there are is to be seen.
        if !name.is_empty() && ahead.takes("(") {
            ahead.up_to(")")?;
        }
        let named = !name.is_empty() && (ahead.takes("=") || ahead.takes(":"));
        if named {
            *c = ahead;
        }
        let key = if named { name } else { fields.len().to_string() };
        fields.push((key, value(c)?));
        if !c.sees("}") {
            c.expect(",")?;
        }
    }
    c.expect("}")?;
    Ok(Arg::Fields(fields))
}

/// A number, or a name of the system's headers.
fn symbol(word: &str) -> Result<i64> {
    macro_rules! named {
        ($($name:ident)*) => { match word { $(stringify!($name) => return Ok(libc::$name as i64),)* _ => {} } };
    }
    named! {
        AF_UNSPEC AF_INET AF_INET6 PF_INET SOCK_STREAM SOCK_DGRAM SOCK_NONBLOCK SOCK_CLOEXEC IPPROTO_IP IPPROTO_TCP IPPROTO_UDP
        SOL_SOCKET SOL_TCP SOL_IP SO_REUSEADDR SO_REUSEPORT SO_ERROR SO_LINGER SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_TYPE
        SO_ACCEPTCONN SO_DOMAIN SO_PROTOCOL SO_DEBUG SO_PRIORITY SO_OOBINLINE SO_ZEROCOPY SO_TIMESTAMPING SO_MARK SO_RCVLOWAT
        SO_RCVTIMEO SO_SNDTIMEO SO_BUSY_POLL SO_MAX_PACING_RATE SO_INCOMING_CPU IP_TOS IP_TTL IP_MTU_DISCOVER IP_PMTUDISC_DONT
        IP_PMTUDISC_WANT IP_PMTUDISC_DO IP_PMTUDISC_PROBE IP_MTU IP_FREEBIND IP_RECVERR IP_BIND_ADDRESS_NO_PORT
        TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2 TCP_DEFER_ACCEPT
        TCP_WINDOW_CLAMP TCP_INFO TCP_QUICKACK TCP_CONGESTION TCP_USER_TIMEOUT TCP_FASTOPEN TCP_TIMESTAMP
        F_GETFL F_SETFL F_GETFD F_SETFD O_RDWR O_RDONLY O_WRONLY O_NONBLOCK FIONREAD FIONBIO TIOCOUTQ SHUT_RD SHUT_WR SHUT_RDWR
        MSG_PEEK MSG_DONTWAIT MSG_WAITALL MSG_OOB MSG_NOSIGNAL MSG_MORE MSG_EOR MSG_TRUNC MSG_CTRUNC MSG_ERRQUEUE MSG_FASTOPEN
        EPOLL_CTL_ADD EPOLL_CTL_MOD EPOLL_CTL_DEL EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLET EPOLLONESHOT
        EPOLLRDNORM EPOLLWRNORM EPOLLEXCLUSIVE POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLRDHUP POLLNVAL POLLRDNORM POLLWRNORM
        SPLICE_F_MOVE SPLICE_F_NONBLOCK SPLICE_F_MORE
    }
    match word {
        "NULL" => return Ok(0),
        "SIOCINQ" => return Ok(libc::FIONREAD as i64),
        "SIOCOUTQ" => return Ok(libc::TIOCOUTQ as i64),
        // linux/tcp.h, linux/socket.h, linux/sockios.h
        "TCP_NOTSENT_LOWAT" => return Ok(25),
        "TCP_CC_INFO" => return Ok(26),
        "TCP_FASTOPEN_CONNECT" => return Ok(30),
        "TCP_INQ" | "TCP_CM_INQ" => return Ok(36),
        "MSG_ZEROCOPY" => return Ok(0x0400_0000),
        "SIOCOUTQNSD" => return Ok(0x894b),
        _ => {}
    }
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let number = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => digits.parse::<i64>().ok(),
    };
    // An error is a number, too: what SO_ERROR gives.
    let number = number.map(|number| sign * number).or_else(|| errno(word).ok().map(i64::from));
    number.ok_or(format!("'{word}': a number, or a known name?"))
}

/// The number of an errno.
pub fn errno(name: &str) -> Result<i32> {
    macro_rules! named {
        ($($name:ident)*) => { match name { $(stringify!($name) => return Ok(libc::$name),)* _ => {} } };
    }
    named! {
        EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNABORTED ECONNREFUSED ECONNRESET EDESTADDRREQ EEXIST
        EFAULT EHOSTUNREACH EINPROGRESS EINTR EINVAL EISCONN EMFILE EMSGSIZE ENETDOWN ENETUNREACH ENFILE ENOBUFS ENOENT ENOMEM
        ENOPROTOOPT ENOTCONN ENOTSOCK ENOTTY EOPNOTSUPP EPERM EPIPE EPROTO EPROTONOSUPPORT ESOCKTNOSUPPORT ESPIPE ETIMEDOUT
        EWOULDBLOCK
    }
    Err(format!("{name}: errno?"))
}
