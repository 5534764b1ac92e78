//! Socket options (socket(7), tcp(7)), fcntl and ioctl.

use crate::Result;
use crate::sockets::Named;
use crate::world::World;
use mos::endpoint::socket::Wishes;
use mos::tcp::tcb::State;
use mos::tcp::tcb::config::Algorithm;

/// `SIOCOUTQ`.
const SIOCOUTQ: u64 = libc::TIOCOUTQ;
/// `TCPI_OPT_*` of linux/tcp.h.
const OPT_TIMESTAMPS: u8 = 1;
const OPT_SACK: u8 = 2;
const OPT_WSCALE: u8 = 4;
/// Smallest buffers that are taken, as in the C ABI.
const LEAST_BUFFER: i32 = 2048;

fn ints(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// Linux's numbers of the states (net/tcp_states.h).
fn state_number(state: State) -> u8 {
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynRcvd => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Listen => 10,
        State::Closing => 11,
    }
}

/// What a buffer's size is read as: that of one which was set is double.
fn doubled(set: u32, now: u32) -> i32 {
    now.saturating_mul(if set == 0 { 1 } else { 2 }).min(i32::MAX as u32) as i32
}

impl World {
    fn wishes(&self, number: i32) -> Result<(u32, Wishes)> {
        let fd = self.fd(number)?;
        match self.on(|st| st.wishes(fd.id)) {
            Ok(wishes) => Ok((fd.id, wishes)),
            Err(_) => Err(libc::ENOTSOCK),
        }
    }

    /// The value of an option.
    pub fn option(&mut self, number: i32, level: i32, name: i32) -> Result<Vec<u8>> {
        let (id, wishes) = self.wishes(number)?;
        let fd = self.fd(number)?;
        let sizes = self.on(|st| st.sizes(id)).map_err(|e| e.0)?;
        let (linger, listens) = (wishes.linger, self.named(&fd) == Named::Listener);
        Ok(ints(&match (level, name) {
            (libc::SOL_SOCKET, libc::SO_ERROR) => [self.take_error(number)?],
            (libc::SOL_SOCKET, libc::SO_TYPE) => [libc::SOCK_STREAM],
            (libc::SOL_SOCKET, libc::SO_DOMAIN) => [libc::AF_INET],
            (libc::SOL_SOCKET, libc::SO_PROTOCOL) => [libc::IPPROTO_TCP],
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => [listens.into()],
            (libc::SOL_SOCKET, libc::SO_REUSEADDR) => [wishes.reuse_addr.into()],
            (libc::SOL_SOCKET, libc::SO_REUSEPORT) => [wishes.reuse_port.into()],
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => [wishes.keepalive.into()],
            // Linux counts what it keeps beside the bytes.
            (libc::SOL_SOCKET, libc::SO_SNDBUF) => [doubled(wishes.send_buffer, sizes.0)],
            (libc::SOL_SOCKET, libc::SO_RCVBUF) => [doubled(wishes.recv_buffer, sizes.1)],
            (libc::SOL_SOCKET, libc::SO_LINGER) => {
                return Ok(ints(&[linger.is_some().into(), linger.unwrap_or(0).into()]));
            }
            (libc::IPPROTO_TCP, libc::TCP_NODELAY) => [wishes.nodelay.into()],
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => [sizes.2 as i32],
            (libc::IPPROTO_IP, libc::IP_TTL) => [wishes.used_ttl().into()],
            (libc::IPPROTO_IP, libc::IP_TOS) => [wishes.tos.into()],
            (libc::IPPROTO_TCP, libc::TCP_INFO) => return Ok(self.info(id, listens)),
            (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
                let mut name = self.congestion().as_bytes().to_vec();
                name.resize(16, 0);
                return Ok(name);
            }
            _ => return Err(libc::ENOPROTOOPT),
        }))
    }

    fn congestion(&self) -> &'static str {
        match self.on(|st| st.config().congestion) {
            Algorithm::Cubic => "cubic",
            Algorithm::NewReno => "reno",
        }
    }

    /// `struct tcp_info`, as far as the stack knows it.
    fn info(&self, id: u32, listens: bool) -> Vec<u8> {
        // SAFETY: plain numbers, valid when zeroed.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        info.tcpi_state = state_number(if listens { State::Listen } else { State::Closed });
        let known = self.tcb(id, |tcb| {
            let mss = tcb.max_payload().max(1);
            let (window, threshold) = tcb.congestion_window();
            info.tcpi_state = state_number(tcb.state());
            let (timestamps, sack, scaling) = tcb.agreed();
            info.tcpi_options = [(timestamps, OPT_TIMESTAMPS), (sack, OPT_SACK), (scaling, OPT_WSCALE)]
                .iter()
                .filter(|(on, _)| *on)
                .fold(0, |bits, (_, bit)| bits | bit);
            info.tcpi_rto = tcb.rto() as u32;
            info.tcpi_rtt = tcb.srtt() as u32;
            info.tcpi_snd_mss = mss;
            info.tcpi_unacked = (tcb.unacknowledged() as u32).div_ceil(mss);
            info.tcpi_snd_cwnd = window / mss;
            // Linux calls a threshold nobody has set yet so.
            info.tcpi_snd_ssthresh = if threshold >= 0x7fff_ffff { 0x7fff_ffff } else { threshold / mss };
            info.tcpi_total_retrans = tcb.retransmitted();
        });
        debug_assert!(known.is_some() || info.tcpi_rto == 0);
        // SAFETY: plain numbers without padding that matters: all was zeroed.
        let bytes = unsafe {
            std::slice::from_raw_parts((&raw const info).cast::<u8>(), size_of::<libc::tcp_info>())
        };
        bytes.to_vec()
    }

    /// Sets an option.
    pub fn set_option(&mut self, number: i32, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let (id, mut wishes) = self.wishes(number)?;
        if (level, name) == (libc::IPPROTO_TCP, libc::TCP_CONGESTION) {
            let name = value.split(|&b| b == 0).next().unwrap_or_default();
            // It is one for all connections (`cc=`): the same may be asked for again.
            return if name == self.congestion().as_bytes() { Ok(()) } else { Err(libc::ENOENT) };
        }
        let int =
            |at: usize| value.get(4 * at..4 * at + 4).map(|v| i32::from_ne_bytes([v[0], v[1], v[2], v[3]]));
        let first = int(0).ok_or(libc::EINVAL)?;
        let buffer = first.clamp(LEAST_BUFFER, 1 << 30) as u32;
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_REUSEADDR) => wishes.reuse_addr = first != 0,
            (libc::SOL_SOCKET, libc::SO_REUSEPORT) => wishes.reuse_port = first != 0,
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => wishes.keepalive = first != 0,
            (libc::SOL_SOCKET, libc::SO_SNDBUF) => wishes.send_buffer = buffer,
            (libc::SOL_SOCKET, libc::SO_RCVBUF) => wishes.recv_buffer = buffer,
            (libc::SOL_SOCKET, libc::SO_LINGER) => {
                let seconds = int(1).ok_or(libc::EINVAL)?;
                let seconds = if seconds < 0 { u16::MAX } else { seconds.min(u16::MAX.into()) as u16 };
                wishes.linger = (first != 0).then_some(seconds);
            }
            // Nothing of it shows on the wire.
            (libc::SOL_SOCKET, libc::SO_DEBUG | libc::SO_PRIORITY | libc::SO_OOBINLINE | libc::SO_MARK) => {
                return Ok(());
            }
            (libc::IPPROTO_IP, libc::IP_FREEBIND | libc::IP_RECVERR) => return Ok(()),
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => {
                wishes.mss = match first {
                    0 | 88..=32_767 => first as u16,
                    _ => return Err(libc::EINVAL),
                }
            }
            (libc::IPPROTO_TCP, libc::TCP_NODELAY) => wishes.nodelay = first != 0,
            (libc::IPPROTO_IP, libc::IP_TTL) => {
                if !wishes.set_ttl(first) {
                    return Err(libc::EINVAL);
                }
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => wishes.set_tos(first),
            _ => return Err(libc::ENOPROTOOPT),
        }
        self.on(|st| st.set_wishes(id, wishes)).map_err(|e| e.0)
    }

    /// `fcntl`.
    pub fn control(&mut self, fd: i32, command: i32, arg: i32) -> Result<i32> {
        let fd = self.fd_mut(fd)?;
        match command {
            libc::F_GETFL => Ok(libc::O_RDWR | if fd.nonblocking { libc::O_NONBLOCK } else { 0 }),
            libc::F_SETFL => {
                fd.nonblocking = arg & libc::O_NONBLOCK != 0;
                Ok(0)
            }
            libc::F_GETFD => Ok(libc::FD_CLOEXEC),
            libc::F_SETFD => Ok(0),
            _ => Err(libc::EINVAL),
        }
    }

    /// `ioctl`; the integer at its argument is given and returned.
    pub fn request(&mut self, number: i32, request: u64, value: i32) -> Result<i32> {
        let fd = self.fd(number)?;
        match request {
            libc::FIONBIO => {
                self.fd_mut(number)?.nonblocking = value != 0;
                Ok(value)
            }
            libc::FIONREAD | SIOCOUTQ => match self.named(&fd) {
                Named::Fresh => Ok(0),
                Named::Connection => {
                    let unread = request == libc::FIONREAD;
                    let count =
                        |tcb: &mos::tcp::tcb::Tcb| if unread { tcb.unread() } else { tcb.unacknowledged() };
                    Ok(self.tcb(fd.id, count).unwrap_or(0).min(i32::MAX as usize) as i32)
                }
                Named::Listener => Err(libc::EINVAL),
                _ => Err(libc::ENOTTY),
            },
            _ => Err(libc::ENOTTY),
        }
    }
}
