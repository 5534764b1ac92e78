/*
 * mos_api.h - monitoring TCP flows: events, callbacks, streams, packets.
 *
 * A monitor socket sees the flows that pass through the machine. For every flow both end
 * points are emulated; callbacks run as a packet leaves its sender (MOS_HK_SND) and as it
 * reaches its receiver (MOS_HK_RCV). In a callback `sock` is the flow (the listener, for
 * packets without a flow), `side` the end point concerned. The stream of side X is what X
 * receives: what the client sent is read at MOS_SIDE_SVR.
 *
 * Callbacks, filters and timers of a context all run on its core's own thread. The
 * functions marked "callback only" fail with EPERM elsewhere. Errors common to all
 * functions are listed in mtcp_api.h.
 */
#ifndef MOS_MOS_API_H
#define MOS_MOS_API_H

/*
 * Programs use struct tcphdr, iphdr and ethhdr through this header. The C library and the
 * kernel both define struct tcphdr, in headers that exclude each other, and the former
 * also uses names of enum tcpstate for other values. Whichever came first is used and the
 * other one is made a no-op; the names then mean enum tcpstate.
 */
#ifdef _NETINET_TCP_H
#define MOS_NETINET_TCP_CAME_FIRST
#ifndef _LINUX_TCP_H
#define _LINUX_TCP_H
#endif
#else
#include <linux/tcp.h>
#define _NETINET_TCP_H 1
#endif
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <arpa/inet.h>
#include <stddef.h>
#include <stdbool.h>

#include "mtcp_epoll.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Names of opaque types that old programs may mention. */
#ifndef __MTCP_MANAGER
#define __MTCP_MANAGER
typedef struct mtcp_manager *mtcp_manager_t;
#endif
#ifndef __SOCKET_MAP
#define __SOCKET_MAP
typedef struct socket_map *socket_map_t;
#endif

/* Where on a packet's way a callback runs. Disjoint from the events below. */
enum mtcp_hook_point {
	MOS_NULL   = 1 << 29,           /* on arrival, before any flow is known; and for
					   events that belong to no packet */
	MOS_HK_RCV = 1 << 30,           /* after the receiver's stack has taken the packet */
	MOS_HK_SND = -2147483647 - 1    /* after the sender's stack was brought up to date;
					   the top bit of an int, so a negative number */
};

/* Built-in events, and the hooks they can be registered on. */
enum mos_event_type {
	MOS_NULL_EVENT          = 0,            /* no event */
	MOS_ON_PKT_IN           = 1 << 0,       /* a packet (SND, RCV; NULL on raw sockets) */
	MOS_ON_PKT_OUT          = 1 << 1,       /* never raised */
	MOS_ON_CONN_START       = 1 << 2,       /* the first SYN of a flow (SND, RCV) */
	MOS_ON_CONN_SETUP       = 1 << 3,       /* never raised */
	MOS_ON_CONN_NEW_DATA    = 1 << 4,       /* in-order bytes to read (NULL) */
	MOS_ON_ERROR            = 1 << 5,       /* bytes were lost or refused (NULL) */
	MOS_ON_TIMEOUT          = 1 << 6,       /* never raised; see mtcp_settimer() */
	MOS_ON_TCP_STATE_CHANGE = 1 << 7,       /* a side's TCP state changed (SND, RCV) */
	MOS_ON_ORPHAN           = 1 << 8,       /* a TCP packet of no known flow (NULL) */
	MOS_ON_REXMIT           = 1 << 9,       /* payload or SYN seen before (RCV) */
	MOS_ON_CONN_END         = 1 << 10,      /* the flow is over, once per side (SND, RCV) */
	MOS_ON_DEBUG_MESSAGE    = 1 << 11       /* never raised */
};

/* Options of mtcp_setlastpkt(): one place, one action, and the checksums to renew. */
#define MOS_ETH_HDR           (1 << 0)  /* place: Ethernet header */
#define MOS_IP_HDR            (1 << 1)  /* place: IP header */
#define MOS_TCP_HDR           (1 << 2)  /* place: TCP header with options */
#define MOS_TCP_PAYLOAD       (1 << 3)  /* place: TCP payload */
#define MOS_UPDATE_IP_CHKSUM  (1 << 4)  /* compute the IP header checksum afterwards */
#define MOS_UPDATE_TCP_CHKSUM (1 << 5)  /* compute the TCP checksum afterwards */
#define MOS_DROP              (1 << 6)  /* action: do not forward the packet */
#define MOS_OVERWRITE         (1 << 7)  /* action: replace bytes */
#define MOS_CHOMP             (1 << 8)  /* action: take bytes out */
#define MOS_INSERT            (1 << 9)  /* action: put bytes in */

/*
 * A packet, as mtcp_getlastpkt() gives it. Numbers are in host byte order. The pointers
 * lead into a copy of the frame that stays until the callback returns or the next
 * mtcp_getlastpkt() on this core; writing to the copy does not change the packet.
 */
struct pkt_info {
	uint32_t cur_ts;        /* arrival, in milliseconds, modulo 2^32 */
	int8_t in_ifidx;        /* index of the device it came in by */

	uint16_t eth_len;       /* bytes of the frame, with padding */

	uint16_t ip_len;        /* total length of the IP packet */

	uint64_t offset;        /* of the payload in the receiver's stream; 0 without one */
	uint16_t payloadlen;    /* captured bytes of TCP payload */
	uint32_t seq;           /* sequence number */
	uint32_t ack_seq;       /* acknowledgement number */
	uint16_t window;        /* window as in the header, not scaled */

	struct ethhdr *ethh;
	struct iphdr *iph;      /* NULL when the frame is not IPv4 */
	struct tcphdr *tcph;    /* NULL when the packet is not TCP */
	uint8_t *payload;       /* first byte behind the TCP header */
};

/* Bytes of struct pkt_info that are plain numbers: all before the pointers. */
#define PKT_INFO_LEN offsetof(struct pkt_info, ethh)

/* A packet and what is to become of it. Not passed by any function; for old programs. */
struct pkt_ctx {
	struct pkt_info p;

	int8_t direction;
	uint8_t forward;
	int8_t out_ifidx;
	int8_t batch_index;
};

/* Value of MOS_SEQ_REMAP, which is reserved. */
typedef struct {
	int64_t seq_off;
	int side;
	uint32_t base_seq;
} seq_remap_info;

/* An argument for filters and callbacks of a user event: `len` bytes at `arg`. */
typedef struct filter_arg {
	void *arg;
	size_t len;
} filter_arg_t;

/* Levels of mtcp_getsockopt() and mtcp_setsockopt(). */
#ifndef SOL_SOCKET
#define SOL_SOCKET 0xffff
#endif
#define SOL_MONSOCKET 0xfffe

/* Options at level SOL_MONSOCKET; see mtcp_getsockopt() and mtcp_setsockopt(). */
enum mos_socket_opts {
	MOS_FRAGINFO_CLIBUF = 1,
	MOS_FRAGINFO_SVRBUF = 2,
	MOS_INFO_CLIBUF     = 3,
	MOS_INFO_SVRBUF     = 4,
	MOS_TCP_STATE_CLI   = 5,
	MOS_TCP_STATE_SVR   = 6,
	MOS_TIMESTAMP       = 7,
	MOS_CLIBUF          = 9,
	MOS_SVRBUF          = 10,
	MOS_SEQ_REMAP       = 11,       /* reserved: ENOSYS */
	MOS_STOP_MON        = 12,
	MOS_FRAG_CLIBUF     = 13,
	MOS_FRAG_SVRBUF     = 14,
	MOS_CLIOVERLAP      = 15,
	MOS_SVROVERLAP      = 16
};

/*
 * State of one side's reassembly (MOS_INFO_CLIBUF, MOS_INFO_SVRBUF). Apart from the first
 * member, offsets in the stream: 0 is the first byte after the SYN.
 */
struct tcp_buf_info {
	uint32_t tcpbi_init_seq;                /* sequence number of the first byte: SYN's + 1 */
	uint32_t tcpbi_last_byte_read;          /* eviction limit: what precedes may be overwritten */
	uint32_t tcpbi_next_byte_expected;      /* end of the in-order bytes */
	uint32_t tcpbi_last_byte_received;      /* end of all bytes, also out of order */
};

/* One piece of stored stream (MOS_FRAGINFO_CLIBUF, MOS_FRAGINFO_SVRBUF). */
struct tcp_ring_fragment {
	uint64_t offset;        /* of its first byte in the stream */
	uint32_t len;           /* bytes */
};

/* TCP states (MOS_TCP_STATE_CLI, MOS_TCP_STATE_SVR). */
#ifdef MOS_NETINET_TCP_CAME_FIRST
#define TCP_LISTEN      MOS_TCP_LISTEN
#define TCP_SYN_SENT    MOS_TCP_SYN_SENT
#define TCP_ESTABLISHED MOS_TCP_ESTABLISHED
#define TCP_CLOSE_WAIT  MOS_TCP_CLOSE_WAIT
#define TCP_CLOSING     MOS_TCP_CLOSING
#define TCP_LAST_ACK    MOS_TCP_LAST_ACK
#define TCP_TIME_WAIT   MOS_TCP_TIME_WAIT
#endif
enum tcpstate {
	TCP_CLOSED      = 0,
	TCP_LISTEN      = 1,
	TCP_SYN_SENT    = 2,
	TCP_SYN_RCVD    = 3,
	TCP_ESTABLISHED = 4,
	TCP_FIN_WAIT_1  = 5,
	TCP_FIN_WAIT_2  = 6,
	TCP_CLOSE_WAIT  = 7,
	TCP_CLOSING     = 8,
	TCP_LAST_ACK    = 9,
	TCP_TIME_WAIT   = 10
};

/* What a segment does to bytes that are already stored (MOS_CLIOVERLAP, _SVROVERLAP). */
enum {
	MOS_OVERLAP_POLICY_FIRST = 0,   /* the stored bytes stay */
	MOS_OVERLAP_POLICY_LAST = 1,    /* the segment's bytes replace them */
	MOS_OVERLAP_CNT = 2
};

/* End points of a flow: who sent the first SYN, and who got it. */
enum {
	MOS_SIDE_CLI = 0,
	MOS_SIDE_SVR = 1,
	MOS_SIDE_BOTH = 2
};

/* An event: a bit of enum mos_event_type, or a user event (from 4096 on). */
typedef uint64_t event_t;

/* What runs on an event. arg: that of the user event, else NULL. */
typedef void (*callback_t)(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg);

/* The condition of a user event: true raises it. Asked each time its parent is raised. */
typedef bool (*filter_t)(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg);

/* Packets a monitor socket wants, as pcap-filter(7) expressions. NULL: all. */
union monitor_filter {
	char *raw_pkt_filter;                   /* raw socket: every packet */
	struct {
		char *stream_syn_filter;        /* stream socket: the first SYN of a flow */
		char *stream_orphan_filter;     /* stream socket: packets of no flow */
	};
};
typedef union monitor_filter *monitor_filter_t;

/* ---- sockets and events -------------------------------------------------------------- */

/*
 * Restricts a monitor socket. ft == NULL changes nothing and succeeds. EINVAL: the
 * expression is wrong, or one for a stream socket uses more than tcp, host, src, dst, net,
 * mask, port, portrange, and, or, addresses and numbers. ENOPROTOOPT: not a monitor socket.
 */
int mtcp_bind_monitor_filter(mctx_t mctx, int sock, monitor_filter_t ft);

/*
 * Runs cb on an event at a hook, for a monitor socket (its later flows) or for one flow.
 * cb == NULL removes the registration. A second registration of the same event at the same
 * hook keeps the first and succeeds. EINVAL: the event does not occur at that hook.
 */
int mtcp_register_callback(mctx_t mctx, int sock, event_t event, int hook_point,
			   callback_t cb);

/* Removes a registration; as mtcp_register_callback() with cb == NULL. */
int mtcp_unregister_callback(mctx_t mctx, int sock, event_t event, int hook_point);

/* Makes a user event that only mtcp_raise_event() raises. Returns its id, 0 on failure. */
event_t mtcp_alloc_event(event_t event);

/*
 * Makes a user event: `event` happened and filter returned true. *arg is copied, with the
 * bytes it points to; it may be NULL. Defining the same again gives the same id. Returns
 * the id, 0 on failure: no filter, unknown parent, a length without bytes.
 */
event_t mtcp_define_event(event_t event, filter_t filter, struct filter_arg *arg);

/* Raises an event of mtcp_alloc_event() for the flow in process. Callback only. */
int mtcp_raise_event(mctx_t mctx, event_t event);

/* ---- inside callbacks: the flow ------------------------------------------------------ */

/* Keeps a pointer with a flow (NULL at its start) or with a monitor socket. Callback only. */
void mtcp_set_uctx(mctx_t mctx, int sock, void *uctx);

/* The pointer kept with a flow or monitor socket, else NULL. Callback only. */
void *mtcp_get_uctx(mctx_t mctx, int sock);

/*
 * Reads the next in-order bytes of a side's stream; each socket has its own position.
 * Returns their number, 0 when nothing is unread. -n with ENODATA: n bytes are gone (never
 * seen, or overwritten before they were read); the position has moved past them. EINVAL:
 * the side is neither CLI nor SVR, or is not reassembled. EBADF: not a flow. Callback only.
 */
ssize_t mtcp_peek(mctx_t mctx, int sock, int side, char *buf, size_t len);

/*
 * Reads at a given offset of a side's stream, also bytes beyond a gap, and leaves the
 * position alone. Returns the number of bytes, at most to the end of the piece that holds
 * `off`; -1 when that byte is not stored. EACCES: not reassembled. EPERM: no payload yet.
 * Callback only.
 */
ssize_t mtcp_ppeek(mctx_t mctx, int sock, int side, char *buf, size_t count, uint64_t off);

/*
 * Tells the addresses of a flow as its first SYN had them. side CLI or SVR: one struct
 * sockaddr_in, *addrlen exactly 16. MOS_SIDE_BOTH: an array of two, *addrlen 32 or more,
 * [MOS_SIDE_CLI] the client's and [MOS_SIDE_SVR] the server's. Else EINVAL. *addrlen stays as
 * it is. Callback only. For an end-host connection: the other end's address, whatever the side,
 * from any thread; *addrlen is room in and length out.
 */
int mtcp_getpeername(mctx_t mctx, int sock, struct sockaddr *saddr, socklen_t *addrlen,
		     int side);

/* Stops the monitoring of a side or both, as the option MOS_STOP_MON. Callback only. */
int mtcp_cb_stop(mctx_t mctx, int sock, int side);

/* Resets a monitored flow: one RST to each end, with the number that end expects. */
int mtcp_reset_conn(mctx_t mctx, int sock);

/* ---- inside callbacks: the packet ---------------------------------------------------- */

/* mtcp_getlastpkt() gives a copy of the frame, not the frame itself. */
#define MTCP_CB_GETCURPKT_CREATE_COPY

/*
 * Fills *p for the packet in process. EACCES when there is none: in MOS_ON_CONN_NEW_DATA,
 * in MOS_ON_CONN_END, in timers. `side` is not used. Callback only.
 */
int mtcp_getlastpkt(mctx_t mctx, int sock, int side, struct pkt_info *p);

/*
 * Changes the packet in process. option: one of MOS_DROP, MOS_OVERWRITE, MOS_CHOMP,
 * MOS_INSERT (else EAGAIN), one place, and the checksums to renew. The edit covers datalen
 * bytes from `offset` within the place; MOS_DROP needs neither place nor data. EINVAL: the
 * edit leaves its place. EACCES: the action is not possible there. ENODATA: no packet.
 * Edits at MOS_HK_SND are what the receiver gets to see. Callback only.
 */
int mtcp_setlastpkt(mctx_t mctx, int sock, int side, off_t offset, byte *data,
		    uint16_t datalen, int option);

/* Drops the packet in process: mtcp_setlastpkt() with MOS_DROP. Callback only. */
int mtcp_cb_dropcurpkt(mctx_t mctx);

/*
 * Sends a TCP segment made from *pkt (addresses, ports, sequence numbers, flags, window,
 * payload) on behalf of a monitored flow. EACCES: no pkt; ENODATA: no IP or TCP header in
 * it. 0 also when it is too long to send or there is no way out. Callback only.
 */
int mtcp_sendpkt(mctx_t mctx, int sock, const struct pkt_info *pkt);

/* ---- time ---------------------------------------------------------------------------- */

/*
 * Calls cb once, *timeout from now, on the core's thread: cb(mctx, id, 0, 0, NULL). May
 * be called from any thread, and again from within cb. During file replay time is that of
 * the capture.
 */
int mtcp_settimer(mctx_t mctx, int id, struct timeval *timeout, callback_t cb);

/*
 * The stack's clock in microseconds, modulo 2^32, in steps of a millisecond. 0 on
 * failure. Callback only.
 */
uint32_t mtcp_cb_get_ts(mctx_t mctx);

/*
 * Waits until the context has ended: destroyed, or at the end of its captures. Inside a
 * callback it returns at once with EDEADLK.
 */
void mtcp_app_join(mctx_t mctx);

#ifdef __cplusplus
}
#endif

#endif
