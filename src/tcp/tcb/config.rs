//! What a stack decides for all its connections, and what one connection may have of its own.
//!
//! All times are in microseconds, all sizes in bytes.

/// One second.
pub const SECOND: u64 = 1_000_000;
/// One millisecond.
pub const MILLISECOND: u64 = 1_000;

/// Least MTU of a link (RFC 791). A path's is believed from [`Config::mtu_floor`] on only, but the way's own is known.
const LEAST_MTU: u16 = 68;

/// Which window the congestion control keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681 with RFC 6582.
    NewReno,
}

/// Settings shared by the connections of a stack.
#[derive(Clone, Debug)]
pub struct Config {
    /// Offer, and accept, timestamps (RFC 7323 3).
    pub timestamps: bool,
    /// Offer, and accept, selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// Offer, and accept, window scaling (RFC 7323 2).
    pub window_scaling: bool,
    /// Congestion control.
    pub congestion: Algorithm,
    /// Segments that may leave before the first acknowledgment (RFC 6928 2), at most 14600 bytes unless fewer than two.
    pub initial_window: u32,
    /// Retransmission time-out before anything was measured (RFC 6298 2.1).
    pub rto_initial: u64,
    /// Least retransmission time-out (RFC 6298 2.4 recommends a second; what is deployed is this).
    pub rto_min: u64,
    /// Most that back-off reaches; at least 60 s (RFC 6298 2.5).
    pub rto_max: u64,
    /// Probe the end of a flight well before the time-out, where SACK can tell what is missing (RFC 8985 7).
    pub tail_probe: bool,
    /// Retransmissions of a SYN before the attempt has failed (RFC 9293 3.8.3: at least three minutes' worth).
    pub syn_retries: u8,
    /// Retransmissions of a SYN/ACK.
    pub syn_ack_retries: u8,
    /// Retransmissions of data, or unanswered window probes, before the connection is lost (R2 of RFC 9293 3.8.3).
    pub data_retries: u8,
    /// The same once the application has closed: nobody waits for the outcome.
    pub orphan_retries: u8,
    /// How long an acknowledgment may wait for company, below 500 ms (RFC 9293 3.8.6.3). 0: it never does.
    pub delayed_ack: u64,
    /// So many acknowledgments at the beginning of a connection wait for the next millisecond only: the peer is in slow start, and
    /// each of them lets it send more (RFC 9293 3.8.6.3 allows the delay and does not ask for it; Linux sends them at once).
    /// Over with the first data that answers: it will carry acknowledgments.
    pub quick_acks: u8,
    /// How long TIME_WAIT lasts: two maximum segment lifetimes (RFC 9293 3.4.2).
    pub time_wait: u64,
    /// How long FIN_WAIT_2 lasts when the application has closed and the peer does not.
    pub fin_wait_2: u64,
    /// A connection that received nothing for so long has timed out. 0: never.
    pub idle: u64,
    /// Keep-alive (RFC 9293 3.8.4), for connections that ask for it: first probe after so much silence.
    pub keepalive_idle: u64,
    /// Time between keep-alive probes.
    pub keepalive_interval: u64,
    /// Unanswered keep-alive probes after which the connection is lost.
    pub keepalive_probes: u8,
    /// Challenge acknowledgments a connection sends in a second (RFC 5961 7).
    pub challenge_acks: u8,
    /// Bytes written and not yet acknowledged, at most.
    pub send_limit: u32,
    /// Bytes received and not yet read, at most. The window scale follows from it.
    pub recv_limit: u32,
    /// The receive limit a connection begins with; it grows to [`Config::recv_limit`] as the application keeps up.
    pub recv_initial: u32,
    /// Most that our SYN says a segment may hold; further bounded by the path's MTU.
    pub mss: u16,
    /// A peer that says less is not believed: headers would outweigh what they carry.
    pub mss_floor: u16,
    /// A path MTU below this is not believed (RFC 5927 7.2).
    pub mtu_floor: u16,
    /// Initial send sequence number of every connection; `None`: as RFC 6528 says. Anyone can guess it: for tests.
    pub iss: Option<u32>,
    /// The urgent mechanism is not offered; PSH is set on the last segment of what was written (RFC 9293 3.9.1.2).
    pub push: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            timestamps: true,
            sack: true,
            window_scaling: true,
            congestion: Algorithm::Cubic,
            initial_window: 10,
            rto_initial: SECOND,
            rto_min: 200 * MILLISECOND,
            rto_max: 60 * SECOND,
            tail_probe: true,
            syn_retries: 6,
            syn_ack_retries: 5,
            data_retries: 15,
            orphan_retries: 8,
            delayed_ack: 40 * MILLISECOND,
            quick_acks: 16,
            time_wait: 60 * SECOND,
            fin_wait_2: 60 * SECOND,
            idle: 0,
            keepalive_idle: 7200 * SECOND,
            keepalive_interval: 75 * SECOND,
            keepalive_probes: 9,
            challenge_acks: 10,
            send_limit: 1 << 20,
            recv_limit: 4 << 20,
            recv_initial: 64 << 10,
            mss: 65_495,
            mss_floor: 64,
            mtu_floor: 552,
            iss: None,
            push: true,
        }
    }
}

/// What the caller says of one connection when it opens.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Initial send sequence number; see [`super::isn`].
    pub iss: u32,
    /// Added to the clock in timestamps; see [`super::isn`].
    pub ts_offset: u32,
    /// MTU of the way to the peer, IP header included.
    pub mtu: u16,
    /// Most bytes written and unacknowledged (`SO_SNDBUF`); 0: as configured.
    pub send_limit: u32,
    /// Most bytes received and unread (`SO_RCVBUF`); 0: as configured. Given, it is not tuned.
    pub recv_limit: u32,
    /// Most that our SYN says a segment may hold (`TCP_MAXSEG`); 0: as configured.
    pub mss: u16,
    /// Small segments do not wait for each other (`TCP_NODELAY`).
    pub nodelay: bool,
    /// A silent peer is probed (`SO_KEEPALIVE`).
    pub keepalive: bool,
}

impl Open {
    /// A connection that begins at `iss`, over Ethernet, without wishes.
    pub fn new(iss: u32) -> Self {
        Open {
            iss,
            ts_offset: 0,
            mtu: 1500,
            send_limit: 0,
            recv_limit: 0,
            mss: 0,
            nodelay: false,
            keepalive: false,
        }
    }

    /// The segment size that our SYN or SYN/ACK offers.
    pub(super) fn mss_offered(&self, config: &Config) -> u16 {
        let wished = if self.mss == 0 { config.mss } else { self.mss };
        self.mtu.max(LEAST_MTU).saturating_sub(40).min(config.mss).min(wished)
    }
}
