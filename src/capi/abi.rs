//! The C interface as Rust sees it: mirrors of every public structure, and its constants.
//!
//! Layouts and values are those of `include/*.h` (contract: monitor §8, endpoint-io §1.3 and §8).
//! The C side asserts the same numbers in `tests/c/layout.inc`. x86-64 and 64-bit Arm.

use libc::{c_char, c_int, c_void, size_t};

/// `mctx_t`: what C holds of a context.
pub type Mctx = *mut MtcpContext;

/// `event_t`: one built-in event bit, or the id of a user event.
pub type Event = u64;

/// `callback_t`. `None` is C's NULL.
pub type Callback =
    Option<unsafe extern "C" fn(mctx: Mctx, sock: c_int, side: c_int, event: Event, arg: *mut FilterArg)>;

/// `filter_t`. The result is C's `bool`, taken as a byte: only its being zero is looked at.
pub type Filter = Option<
    unsafe extern "C" fn(mctx: Mctx, sock: c_int, side: c_int, event: Event, arg: *mut FilterArg) -> u8,
>;

/// `mtcp_sighandler_t`.
pub type SigHandler = Option<unsafe extern "C" fn(signum: c_int)>;

/// `struct mtcp_context`.
#[repr(C)]
#[derive(Debug)]
pub struct MtcpContext {
    /// Core id; programs read it.
    pub cpu: c_int,
}

/// `struct mtcp_conf`. Programs allocate it themselves: its size is part of the interface.
#[repr(C)]
pub struct MtcpConf {
    /// Highest configured core + 1.
    pub num_cores: c_int,
    /// Socket ids per core.
    pub max_concurrency: c_int,
    /// Cores that serve a device.
    pub cpu_mask: u64,
    /// Neither filled nor read.
    pub max_num_buffers: c_int,
    /// Bytes of reassembly per side.
    pub rcvbuf_size: c_int,
    /// Bytes of send buffer.
    pub sndbuf_size: c_int,
    /// Milliseconds in TIME_WAIT.
    pub tcp_timewait: c_int,
    /// Milliseconds of silence that end a flow.
    pub tcp_timeout: c_int,
    /// Cores of each application.
    pub app_cpu_mask: [u64; MOS_APP],
    /// Words of each application's `run` line.
    pub app_argv: [[*mut c_char; MOS_APP_ARGC]; MOS_APP],
    /// Number of words in each.
    pub app_argc: [c_int; MOS_APP],
    /// Number of applications.
    pub num_app: c_int,
}

/// `struct app_context`; the library does not use it.
#[repr(C)]
pub struct AppContext {
    /// Context of the core.
    pub mctx: Mctx,
    /// Listening socket.
    pub socket_id: c_int,
    /// `struct conn_filter *`.
    pub cf: *mut c_void,
    /// Epoll id.
    pub ep_id: c_int,
}

/// `struct app_ops`; the library does not use it.
#[repr(C)]
pub struct AppOps {
    /// Once per application.
    pub app_init: Option<unsafe extern "C" fn(argc: c_int, argv: *mut *mut c_char)>,
    /// Once per core.
    pub thread_init: Option<unsafe extern "C" fn(mctx: Mctx, app_ctx: *mut *mut c_void)>,
    /// The application's body.
    pub run: Option<unsafe extern "C" fn(mctx: Mctx, app_ctx: *mut *mut c_void)>,
    /// Nonzero: in use.
    pub enable: c_int,
}

/// `struct mtcp_epoll_event`, with `union mtcp_epoll_data` as the eight bytes that it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MtcpEpollEvent {
    /// Mask; only the low 32 bits count, since `MOS_EPOLLET` arrives sign-extended.
    pub events: u64,
    /// Handed back as it was given.
    pub data: u64,
}

/// `struct pkt_info`.
#[repr(C)]
pub struct PktInfo {
    /// Arrival in milliseconds, modulo 2^32.
    pub cur_ts: u32,
    /// Index of the input device.
    pub in_ifidx: i8,
    /// Bytes of the frame.
    pub eth_len: u16,
    /// Total length of the IP packet.
    pub ip_len: u16,
    /// Offset of the payload in the receiver's stream.
    pub offset: u64,
    /// Captured bytes of payload.
    pub payloadlen: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack_seq: u32,
    /// Window field, not scaled.
    pub window: u16,
    /// `struct ethhdr *`.
    pub ethh: *mut u8,
    /// `struct iphdr *`.
    pub iph: *mut u8,
    /// `struct tcphdr *`.
    pub tcph: *mut u8,
    /// First byte behind the TCP header.
    pub payload: *mut u8,
}

/// `struct pkt_ctx`; no function passes it.
#[repr(C)]
pub struct PktCtx {
    /// The packet.
    pub p: PktInfo,
    /// Where it came from.
    pub direction: i8,
    /// Nonzero: to be forwarded.
    pub forward: u8,
    /// Index of the output device.
    pub out_ifidx: i8,
    /// Place in the burst.
    pub batch_index: i8,
}

/// `seq_remap_info`; reserved.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqRemapInfo {
    /// Drift of the sequence numbers.
    pub seq_off: i64,
    /// Side it concerns.
    pub side: c_int,
    /// Sequence number it starts at.
    pub base_seq: u32,
}

/// `struct filter_arg`, `filter_arg_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FilterArg {
    /// The bytes.
    pub arg: *mut c_void,
    /// How many.
    pub len: size_t,
}

/// `struct tcp_buf_info`. All but the first member are offsets in the stream.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpBufInfo {
    /// Sequence number of the first byte: the peer's ISN + 1.
    pub tcpbi_init_seq: u32,
    /// Bytes below may be evicted; it lags one segment behind the next member. No socket's reading moves it.
    pub tcpbi_last_byte_read: u32,
    /// End of the in-order bytes.
    pub tcpbi_next_byte_expected: u32,
    /// End of all stored bytes.
    pub tcpbi_last_byte_received: u32,
}

/// `struct tcp_ring_fragment`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpRingFragment {
    /// Offset in the stream.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// `union monitor_filter`. The raw filter and the SYN filter are the same pointer: which one it
/// is, the socket's type says.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MonitorFilter {
    /// `raw_pkt_filter` of a raw socket, `stream_syn_filter` of a stream socket.
    pub raw_or_syn: *mut c_char,
    /// `stream_orphan_filter`. Raw sockets: not to be read (C may pass a smaller object).
    pub stream_orphan_filter: *mut c_char,
}

/// `struct mos_stats`: counters of one context. Members are only ever added at the end.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MosStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Their bytes, as captured.
    pub rx_bytes: u64,
    /// Belongs to a monitored flow.
    pub in_flow: u64,
    /// TCP of no known flow.
    pub in_orphan: u64,
    /// IPv4, but not TCP.
    pub in_non_tcp: u64,
    /// Not IPv4.
    pub in_non_ip: u64,
    /// Fragment of an IP packet: not looked into.
    pub in_fragment: u64,
    /// For an end-host socket or address of our own.
    pub in_local: u64,
    /// Frame shorter than its header.
    pub in_malformed_eth: u64,
    /// An IP length contradicts the frame.
    pub in_malformed_ip_len: u64,
    /// EtherType IPv4 with another version inside.
    pub in_malformed_ip_version: u64,
    /// Wrong IP header checksum.
    pub in_malformed_ip_checksum: u64,
    /// The TCP header does not fit.
    pub in_malformed_tcp_len: u64,
    /// Wrong TCP checksum.
    pub in_malformed_tcp_checksum: u64,
    /// Nobody monitors, or its monitors have stopped.
    pub in_unmonitored: u64,
    /// Forwarded.
    pub fwd_packets: u64,
    /// Taken by the stack itself (own address, ARP).
    pub consumed: u64,
    /// Forwarding is off in the configuration.
    pub drop_config: u64,
    /// MOS_DROP by a callback.
    pub drop_callback: u64,
    /// No output device or next hop.
    pub drop_no_route: u64,
    /// Malformed.
    pub drop_malformed: u64,
    /// The output device did not take it.
    pub drop_tx_full: u64,
    /// No memory to process or queue it.
    pub drop_no_memory: u64,
    /// Bytes of the packets forwarded, after edits.
    pub fwd_bytes: u64,
    /// Packets the stack made itself: segments of end hosts, resets, mtcp_sendpkt(), ARP.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Begun.
    pub flows_created: u64,
    /// Over, for whatever reason.
    pub flows_ended: u64,
    /// Held at present: created - ended.
    pub flows_now: u64,
    /// Most ever held at a time.
    pub flows_peak: u64,
    /// Of flows_ended: ended early to make room.
    pub flows_evicted: u64,
    /// Of flows_ended: silent for tcp_timeout.
    pub flows_timed_out: u64,
    /// First SYNs that found no room: no flow begun.
    pub flows_refused: u64,
    /// Payload accepted, in order or out of order.
    pub bytes_reassembled: u64,
    /// Acknowledged by the receiver but never seen.
    pub bytes_missing: u64,
    /// Payload beyond the receiver's window: not kept.
    pub bytes_out_of_window: u64,
    /// Events delivered: `[i]` counts how often event `1 << i` reached a socket with a callback for it or below it.
    pub events: [u64; MOS_NUM_EVENTS],
    /// Captured shorter than on the wire.
    pub truncated_packets: u64,
    /// Records of a capture file that were no packets.
    pub capture_skipped: u64,
    /// Allocations refused (system or memory_limit).
    pub no_memory: u64,
    /// Faults inside the library that were contained.
    pub callback_panics: u64,
    /// Packets made here that could not be sent; not in `sent_packets`.
    pub sent_lost: u64,
    /// Live devices: frames that found the receive ring full.
    pub rx_missed: u64,
    /// Live devices: frames for which there was no buffer.
    pub rx_no_buffer: u64,
    /// Live devices: frames received damaged.
    pub rx_errors: u64,
    /// Frames handed over to their flow's own core, which counts them.
    pub resteered: u64,
    /// Frames that found that core's queue full.
    pub resteer_lost: u64,
    /// Inspection: not finished, for lack of memory or because a fault was contained.
    pub in_fault: u64,
    /// Fate: a fault was contained.
    pub drop_fault: u64,
    /// Fate: the next hop does not answer ARP, or too much waits for it.
    pub drop_unresolved: u64,
    /// Fate: longer than the output device takes.
    pub drop_too_long: u64,
    /// Fate: held at present, until the next hop answers ARP.
    pub waiting: u64,
    /// Of consumed: echo requests beyond the rate limit.
    pub echo_unanswered: u64,
}

/// Most `application` blocks.
pub const MOS_APP: usize = 20;
/// Most words in a `run` line.
pub const MOS_APP_ARGC: usize = 20;
/// Longest name of an application, with its end.
pub const APP_NAME_LEN: usize = 40;
/// Number of built-in events.
pub const MOS_NUM_EVENTS: usize = 12;

/// Hook: on arrival, and events without packet.
pub const MOS_NULL: c_int = 1 << 29;
/// Hook: the receiver has taken the packet.
pub const MOS_HK_RCV: c_int = 1 << 30;
/// Hook: the sender is up to date. Negative: compare as `c_int`, never wider.
pub const MOS_HK_SND: c_int = i32::MIN;

/// No event.
pub const MOS_NULL_EVENT: Event = 0;
/// Built-in event 0.
pub const MOS_ON_PKT_IN: Event = 1 << 0;
/// Built-in event 1.
pub const MOS_ON_PKT_OUT: Event = 1 << 1;
/// Built-in event 2.
pub const MOS_ON_CONN_START: Event = 1 << 2;
/// Built-in event 3.
pub const MOS_ON_CONN_SETUP: Event = 1 << 3;
/// Built-in event 4.
pub const MOS_ON_CONN_NEW_DATA: Event = 1 << 4;
/// Built-in event 5.
pub const MOS_ON_ERROR: Event = 1 << 5;
/// Built-in event 6.
pub const MOS_ON_TIMEOUT: Event = 1 << 6;
/// Built-in event 7.
pub const MOS_ON_TCP_STATE_CHANGE: Event = 1 << 7;
/// Built-in event 8.
pub const MOS_ON_ORPHAN: Event = 1 << 8;
/// Built-in event 9.
pub const MOS_ON_REXMIT: Event = 1 << 9;
/// Built-in event 10.
pub const MOS_ON_CONN_END: Event = 1 << 10;
/// Built-in event 11.
pub const MOS_ON_DEBUG_MESSAGE: Event = 1 << 11;
/// Id of the first user event; those of later ones follow.
pub const FIRST_USER_EVENT: Event = 4096;

/// Place: Ethernet header.
pub const MOS_ETH_HDR: c_int = 1 << 0;
/// Place: IP header.
pub const MOS_IP_HDR: c_int = 1 << 1;
/// Place: TCP header.
pub const MOS_TCP_HDR: c_int = 1 << 2;
/// Place: TCP payload.
pub const MOS_TCP_PAYLOAD: c_int = 1 << 3;
/// Compute the IP checksum afterwards.
pub const MOS_UPDATE_IP_CHKSUM: c_int = 1 << 4;
/// Compute the TCP checksum afterwards.
pub const MOS_UPDATE_TCP_CHKSUM: c_int = 1 << 5;
/// Action: do not forward.
pub const MOS_DROP: c_int = 1 << 6;
/// Action: replace bytes.
pub const MOS_OVERWRITE: c_int = 1 << 7;
/// Action: take bytes out.
pub const MOS_CHOMP: c_int = 1 << 8;
/// Action: put bytes in.
pub const MOS_INSERT: c_int = 1 << 9;

/// Option level of end-host sockets.
pub const SOL_SOCKET: c_int = 1;
/// Option level of monitoring.
pub const SOL_MONSOCKET: c_int = 0xfffe;
/// Option: stored pieces, client side.
pub const MOS_FRAGINFO_CLIBUF: c_int = 1;
/// Option: stored pieces, server side.
pub const MOS_FRAGINFO_SVRBUF: c_int = 2;
/// Option: buffer state, client side.
pub const MOS_INFO_CLIBUF: c_int = 3;
/// Option: buffer state, server side.
pub const MOS_INFO_SVRBUF: c_int = 4;
/// Option: TCP state of the client.
pub const MOS_TCP_STATE_CLI: c_int = 5;
/// Option: TCP state of the server.
pub const MOS_TCP_STATE_SVR: c_int = 6;
/// Option: last activity in microseconds.
pub const MOS_TIMESTAMP: c_int = 7;
/// Option: bytes of reassembly, client side.
pub const MOS_CLIBUF: c_int = 9;
/// Option: bytes of reassembly, server side.
pub const MOS_SVRBUF: c_int = 10;
/// Option: reserved.
pub const MOS_SEQ_REMAP: c_int = 11;
/// Option: stop monitoring a side.
pub const MOS_STOP_MON: c_int = 12;
/// Option: pieces of the client side.
pub const MOS_FRAG_CLIBUF: c_int = 13;
/// Option: pieces of the server side.
pub const MOS_FRAG_SVRBUF: c_int = 14;
/// Option: overlap policy, client side.
pub const MOS_CLIOVERLAP: c_int = 15;
/// Option: overlap policy, server side.
pub const MOS_SVROVERLAP: c_int = 16;
/// Overlap: stored bytes stay.
pub const MOS_OVERLAP_POLICY_FIRST: c_int = 0;
/// Overlap: new bytes win.
pub const MOS_OVERLAP_POLICY_LAST: c_int = 1;
/// Number of overlap policies.
pub const MOS_OVERLAP_CNT: c_int = 2;
/// Side: client.
pub const MOS_SIDE_CLI: c_int = 0;
/// Side: server.
pub const MOS_SIDE_SVR: c_int = 1;
/// Both sides.
pub const MOS_SIDE_BOTH: c_int = 2;

/// `enum tcpstate`.
pub const TCP_CLOSED: c_int = 0;
/// `enum tcpstate`.
pub const TCP_LISTEN: c_int = 1;
/// `enum tcpstate`.
pub const TCP_SYN_SENT: c_int = 2;
/// `enum tcpstate`.
pub const TCP_SYN_RCVD: c_int = 3;
/// `enum tcpstate`.
pub const TCP_ESTABLISHED: c_int = 4;
/// `enum tcpstate`.
pub const TCP_FIN_WAIT_1: c_int = 5;
/// `enum tcpstate`.
pub const TCP_FIN_WAIT_2: c_int = 6;
/// `enum tcpstate`.
pub const TCP_CLOSE_WAIT: c_int = 7;
/// `enum tcpstate`.
pub const TCP_CLOSING: c_int = 8;
/// `enum tcpstate`.
pub const TCP_LAST_ACK: c_int = 9;
/// `enum tcpstate`.
pub const TCP_TIME_WAIT: c_int = 10;

/// Socket type: a free id.
pub const MOS_SOCK_UNUSED: c_int = 0;
/// Socket type: end-host stream, as `SOCK_STREAM`.
pub const MOS_SOCK_STREAM_LISTEN: c_int = 1;
/// Socket type: reserved.
pub const MOS_SOCK_PROXY_LISTEN: c_int = 2;
/// Socket type: monitor of flows.
pub const MOS_SOCK_MONITOR_STREAM: c_int = 3;
/// Socket type: end-host connection.
pub const MOS_SOCK_STREAM: c_int = 4;
/// Socket type: reserved.
pub const MOS_SOCK_PROXY: c_int = 5;
/// Socket type: one monitored flow.
pub const MOS_SOCK_MONITOR_STREAM_ACTIVE: c_int = 6;
/// Socket type: monitor of packets.
pub const MOS_SOCK_MONITOR_RAW: c_int = 7;
/// Socket type: epoll object.
pub const MOS_SOCK_EPOLL: c_int = 8;
/// Socket type: pipe.
pub const MOS_SOCK_PIPE: c_int = 9;

/// Watch a socket.
pub const MOS_EPOLL_CTL_ADD: c_int = 1;
/// Stop watching it.
pub const MOS_EPOLL_CTL_DEL: c_int = 2;
/// Change what is watched.
pub const MOS_EPOLL_CTL_MOD: c_int = 3;

/// Epoll bit: nothing.
pub const MOS_EPOLLNONE: u32 = 1 << 0;
/// Epoll bit: readable.
pub const MOS_EPOLLIN: u32 = 1 << 1;
/// Epoll bit: urgent.
pub const MOS_EPOLLPRI: u32 = 1 << 2;
/// Epoll bit: writable.
pub const MOS_EPOLLOUT: u32 = 1 << 3;
/// Epoll bit: not raised.
pub const MOS_EPOLLRDNORM: u32 = 1 << 4;
/// Epoll bit: not raised.
pub const MOS_EPOLLRDBAND: u32 = 1 << 5;
/// Epoll bit: not raised.
pub const MOS_EPOLLWRNORM: u32 = 1 << 6;
/// Epoll bit: not raised.
pub const MOS_EPOLLWRBAND: u32 = 1 << 7;
/// Epoll bit: not raised.
pub const MOS_EPOLLMSG: u32 = 1 << 8;
/// Epoll bit: failed.
pub const MOS_EPOLLERR: u32 = 1 << 9;
/// Epoll bit: hung up.
pub const MOS_EPOLLHUP: u32 = 1 << 10;
/// Epoll bit: the peer has closed its direction.
pub const MOS_EPOLLRDHUP: u32 = 1 << 11;
/// Epoll bit: report once.
pub const MOS_EPOLLONESHOT: u32 = 1 << 30;
/// Epoll bit: report changes only. A negative `int` in C.
pub const MOS_EPOLLET: u32 = 1 << 31;

/// `enum mtcp_action`; reserved.
pub const MOS_ACT_SEND_DATA: c_int = 1 << 1;
/// `enum mtcp_action`; reserved.
pub const MOS_ACT_SEND_ACK_NOW: c_int = 1 << 2;
/// `enum mtcp_action`; reserved.
pub const MOS_ACT_SEND_ACK_AGG: c_int = 1 << 3;
/// `enum mtcp_action`; reserved.
pub const MOS_ACT_SEND_CONTROL: c_int = 1 << 4;
/// `enum mtcp_action`; reserved.
pub const MOS_ACT_SEND_RST: c_int = 1 << 5;
/// `enum mtcp_action`; reserved.
pub const MOS_ACT_DESTROY: c_int = 1 << 6;
/// `enum mtcp_action`; reserved.
pub const MOS_ACT_READ_DATA: c_int = 1 << 7;
/// `enum mtcp_action`; reserved.
pub const MOS_ACT_CNT: c_int = 129;

/// Let the library choose a port.
pub const INPORT_ANY: u16 = 0;

/// `PKT_INFO_LEN`: bytes of [`PktInfo`] before its pointers.
pub const PKT_INFO_LEN: usize = std::mem::offset_of!(PktInfo, ethh);

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{align_of, offset_of, size_of};

    macro_rules! sizes {
        ($($type:ty, $size:expr, $align:expr;)*) => {
            $(assert_eq!(
                (size_of::<$type>(), align_of::<$type>()),
                ($size, $align),
                stringify!($type)
            );)*
        };
    }

    macro_rules! offsets {
        ($($type:ty, $member:ident, $offset:expr;)*) => {
            $(assert_eq!(
                offset_of!($type, $member),
                $offset,
                concat!(stringify!($type), ".", stringify!($member))
            );)*
        };
    }

    #[test]
    fn sizes_and_alignments() {
        sizes! {
            PktInfo, 72, 8;
            PktCtx, 80, 8;
            SeqRemapInfo, 16, 8;
            FilterArg, 16, 8;
            TcpBufInfo, 16, 4;
            TcpRingFragment, 16, 8;
            MonitorFilter, 16, 8;
            MtcpContext, 4, 4;
            Mctx, 8, 8;
            MtcpConf, 3488, 8;
            AppContext, 32, 8;
            AppOps, 32, 8;
            MtcpEpollEvent, 16, 8;
            Event, 8, 8;
            Callback, 8, 8;
            Filter, 8, 8;
            SigHandler, 8, 8;
            MosStats, 512, 8;
        }
    }

    #[test]
    fn offsets_of_members() {
        offsets! {
            PktInfo, cur_ts, 0;
            PktInfo, in_ifidx, 4;
            PktInfo, eth_len, 6;
            PktInfo, ip_len, 8;
            PktInfo, offset, 16;
            PktInfo, payloadlen, 24;
            PktInfo, seq, 28;
            PktInfo, ack_seq, 32;
            PktInfo, window, 36;
            PktInfo, ethh, 40;
            PktInfo, iph, 48;
            PktInfo, tcph, 56;
            PktInfo, payload, 64;
            PktCtx, p, 0;
            PktCtx, direction, 72;
            PktCtx, forward, 73;
            PktCtx, out_ifidx, 74;
            PktCtx, batch_index, 75;
            SeqRemapInfo, seq_off, 0;
            SeqRemapInfo, side, 8;
            SeqRemapInfo, base_seq, 12;
            FilterArg, arg, 0;
            FilterArg, len, 8;
            TcpBufInfo, tcpbi_init_seq, 0;
            TcpBufInfo, tcpbi_last_byte_read, 4;
            TcpBufInfo, tcpbi_next_byte_expected, 8;
            TcpBufInfo, tcpbi_last_byte_received, 12;
            TcpRingFragment, offset, 0;
            TcpRingFragment, len, 8;
            MonitorFilter, raw_or_syn, 0;
            MonitorFilter, stream_orphan_filter, 8;
            MtcpContext, cpu, 0;
            MtcpConf, num_cores, 0;
            MtcpConf, max_concurrency, 4;
            MtcpConf, cpu_mask, 8;
            MtcpConf, max_num_buffers, 16;
            MtcpConf, rcvbuf_size, 20;
            MtcpConf, sndbuf_size, 24;
            MtcpConf, tcp_timewait, 28;
            MtcpConf, tcp_timeout, 32;
            MtcpConf, app_cpu_mask, 40;
            MtcpConf, app_argv, 200;
            MtcpConf, app_argc, 3400;
            MtcpConf, num_app, 3480;
            AppContext, mctx, 0;
            AppContext, socket_id, 8;
            AppContext, cf, 16;
            AppContext, ep_id, 24;
            AppOps, app_init, 0;
            AppOps, thread_init, 8;
            AppOps, run, 16;
            AppOps, enable, 24;
            MtcpEpollEvent, events, 0;
            MtcpEpollEvent, data, 8;
            MosStats, rx_packets, 0;
            MosStats, in_flow, 16;
            MosStats, in_unmonitored, 112;
            MosStats, fwd_packets, 120;
            MosStats, drop_no_memory, 176;
            MosStats, fwd_bytes, 184;
            MosStats, sent_bytes, 200;
            MosStats, flows_created, 208;
            MosStats, flows_refused, 256;
            MosStats, bytes_reassembled, 264;
            MosStats, bytes_out_of_window, 280;
            MosStats, events, 288;
            MosStats, truncated_packets, 384;
            MosStats, callback_panics, 408;
            MosStats, sent_lost, 416;
            MosStats, resteer_lost, 456;
            MosStats, in_fault, 464;
            MosStats, waiting, 496;
            MosStats, echo_unanswered, 504;
        }
        assert_eq!(PKT_INFO_LEN, 40);
    }

    /// The values of the headers, read from them, so that the two sides cannot drift apart.
    #[test]
    fn values_are_those_asserted_in_c() {
        let asserted = include_str!("../../tests/c/layout.inc");
        let value_of = |name: &str| -> i64 {
            let start = format!("VALUE({name}, ");
            let line = asserted.lines().find(|line| line.starts_with(&start));
            let text = line.unwrap_or_else(|| panic!("{name} is not asserted in C"));
            let text = text[start.len()..].trim_end_matches(");");
            match text.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16).expect("hexadecimal"),
                None => text.parse().expect("decimal"),
            }
        };
        macro_rules! values {
            ($($name:ident)*) => { $(assert_eq!($name as i64, value_of(stringify!($name)));)* };
        }
        values! {
            MOS_APP
            MOS_APP_ARGC
            APP_NAME_LEN
            MOS_NUM_EVENTS
            MOS_NULL
            MOS_HK_RCV
            MOS_NULL_EVENT
            MOS_ON_PKT_IN
            MOS_ON_PKT_OUT
            MOS_ON_CONN_START
            MOS_ON_CONN_SETUP
            MOS_ON_CONN_NEW_DATA
            MOS_ON_ERROR
            MOS_ON_TIMEOUT
            MOS_ON_TCP_STATE_CHANGE
            MOS_ON_ORPHAN
            MOS_ON_REXMIT
            MOS_ON_CONN_END
            MOS_ON_DEBUG_MESSAGE
            MOS_ETH_HDR
            MOS_IP_HDR
            MOS_TCP_HDR
            MOS_TCP_PAYLOAD
            MOS_UPDATE_IP_CHKSUM
            MOS_UPDATE_TCP_CHKSUM
            MOS_DROP
            MOS_OVERWRITE
            MOS_CHOMP
            MOS_INSERT
            SOL_SOCKET
            SOL_MONSOCKET
            MOS_FRAGINFO_CLIBUF
            MOS_FRAGINFO_SVRBUF
            MOS_INFO_CLIBUF
            MOS_INFO_SVRBUF
            MOS_TCP_STATE_CLI
            MOS_TCP_STATE_SVR
            MOS_TIMESTAMP
            MOS_CLIBUF
            MOS_SVRBUF
            MOS_SEQ_REMAP
            MOS_STOP_MON
            MOS_FRAG_CLIBUF
            MOS_FRAG_SVRBUF
            MOS_CLIOVERLAP
            MOS_SVROVERLAP
            MOS_OVERLAP_POLICY_FIRST
            MOS_OVERLAP_POLICY_LAST
            MOS_OVERLAP_CNT
            MOS_SIDE_CLI
            MOS_SIDE_SVR
            MOS_SIDE_BOTH
            TCP_CLOSED
            TCP_LISTEN
            TCP_SYN_SENT
            TCP_SYN_RCVD
            TCP_ESTABLISHED
            TCP_FIN_WAIT_1
            TCP_FIN_WAIT_2
            TCP_CLOSE_WAIT
            TCP_CLOSING
            TCP_LAST_ACK
            TCP_TIME_WAIT
            MOS_SOCK_UNUSED
            MOS_SOCK_STREAM_LISTEN
            MOS_SOCK_PROXY_LISTEN
            MOS_SOCK_MONITOR_STREAM
            MOS_SOCK_STREAM
            MOS_SOCK_PROXY
            MOS_SOCK_MONITOR_STREAM_ACTIVE
            MOS_SOCK_MONITOR_RAW
            MOS_SOCK_EPOLL
            MOS_SOCK_PIPE
            MOS_EPOLL_CTL_ADD
            MOS_EPOLL_CTL_DEL
            MOS_EPOLL_CTL_MOD
            MOS_EPOLLNONE
            MOS_EPOLLIN
            MOS_EPOLLPRI
            MOS_EPOLLOUT
            MOS_EPOLLRDNORM
            MOS_EPOLLRDBAND
            MOS_EPOLLWRNORM
            MOS_EPOLLWRBAND
            MOS_EPOLLMSG
            MOS_EPOLLERR
            MOS_EPOLLHUP
            MOS_EPOLLRDHUP
            MOS_EPOLLONESHOT
            MOS_ACT_SEND_DATA
            MOS_ACT_SEND_ACK_NOW
            MOS_ACT_SEND_ACK_AGG
            MOS_ACT_SEND_CONTROL
            MOS_ACT_SEND_RST
            MOS_ACT_DESTROY
            MOS_ACT_READ_DATA
            MOS_ACT_CNT
            INPORT_ANY
        }
        assert_eq!(MOS_HK_SND, -2147483648);
        assert_eq!(MOS_EPOLLET, 0x8000_0000);
        // C's `IN | ET` in the 64-bit member, masked to what counts.
        assert_eq!(0xffff_ffff_8000_0002_u64 as u32, MOS_EPOLLIN | MOS_EPOLLET);
    }
}
