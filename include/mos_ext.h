/*
 * mos_ext.h - what libmos offers beyond the mOS interface: counters and half-close.
 */
#ifndef MOS_MOS_EXT_H
#define MOS_MOS_EXT_H

#include "mos_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Number of built-in events: bits 0 (MOS_ON_PKT_IN) to 11 (MOS_ON_DEBUG_MESSAGE). */
#define MOS_NUM_EVENTS 12

/*
 * Counters of one context since its creation. Every received packet is counted in exactly
 * one member of "inspection" and in exactly one member of "fate": each group adds up to
 * rx_packets. New members are only ever added at the end.
 */
struct mos_stats {
	uint64_t rx_packets;            /* frames received */
	uint64_t rx_bytes;              /* their bytes, as captured */

	/* Inspection: what a received packet was taken for. One more at the end: in_fault. */
	uint64_t in_flow;               /* belongs to a monitored flow */
	uint64_t in_orphan;             /* TCP of no known flow */
	uint64_t in_non_tcp;            /* IPv4, but not TCP */
	uint64_t in_non_ip;             /* not IPv4 */
	uint64_t in_fragment;           /* fragment of an IP packet: not looked into */
	uint64_t in_local;              /* for an end-host socket or address of our own */
	uint64_t in_malformed_eth;      /* frame shorter than its header */
	uint64_t in_malformed_ip_len;   /* an IP length contradicts the frame */
	uint64_t in_malformed_ip_version;  /* EtherType IPv4 with another version inside */
	uint64_t in_malformed_ip_checksum; /* wrong IP header checksum */
	uint64_t in_malformed_tcp_len;  /* the TCP header does not fit */
	uint64_t in_malformed_tcp_checksum; /* wrong TCP checksum */
	uint64_t in_unmonitored;        /* nobody monitors, or its monitors have stopped */

	/* Fate: what became of a received packet. More at the end: drop_fault,
	   drop_unresolved, drop_too_long, waiting. */
	uint64_t fwd_packets;           /* forwarded */
	uint64_t consumed;              /* taken by the stack itself (own address, ARP) */
	uint64_t drop_config;           /* forwarding is off in the configuration */
	uint64_t drop_callback;         /* MOS_DROP by a callback */
	uint64_t drop_no_route;         /* no output device or next hop */
	uint64_t drop_malformed;        /* malformed */
	uint64_t drop_tx_full;          /* the output device did not take it */
	uint64_t drop_no_memory;        /* no memory to process or queue it */

	/* Output. */
	uint64_t fwd_bytes;             /* bytes of the packets forwarded, after edits */
	uint64_t sent_packets;          /* packets the stack made itself: segments of end
					   hosts, resets, mtcp_sendpkt(), ARP */
	uint64_t sent_bytes;            /* their bytes */

	/* Flows. */
	uint64_t flows_created;         /* begun */
	uint64_t flows_ended;           /* over, for whatever reason */
	uint64_t flows_now;             /* held at present: created - ended */
	uint64_t flows_peak;            /* most ever held at a time */
	uint64_t flows_evicted;         /* of flows_ended: ended early to make room */
	uint64_t flows_timed_out;       /* of flows_ended: silent for tcp_timeout */
	uint64_t flows_refused;         /* first SYNs that found no room: no flow begun */

	/* Streams, both sides of all flows. */
	uint64_t bytes_reassembled;     /* payload accepted, in order or out of order */
	uint64_t bytes_missing;         /* acknowledged by the receiver but never seen */
	uint64_t bytes_out_of_window;   /* payload beyond the receiver's window: not kept */

	/* Events delivered, by built-in event: [i] counts how often event 1 << i reached a
	   socket that has a callback for it or for a user event below it, at each hook. Filters
	   of user events may then have let none or several of the callbacks run. */
	uint64_t events[MOS_NUM_EVENTS];

	uint64_t truncated_packets;     /* captured shorter than on the wire */
	uint64_t capture_skipped;       /* records of a capture file that were no packets */
	uint64_t no_memory;             /* allocations refused (system or memory_limit) */
	uint64_t callback_panics;       /* faults inside the library that were contained */

	uint64_t sent_lost;             /* packets the stack made that could not be sent; not in sent_packets */

	/* Live devices, what they say of themselves; not in rx_packets. Brought up to date once a second. */
	uint64_t rx_missed;             /* frames that found the receive ring full */
	uint64_t rx_no_buffer;          /* frames for which there was no buffer */
	uint64_t rx_errors;             /* frames received damaged */
	uint64_t resteered;             /* frames handed over to their flow's own core, which counts them */
	uint64_t resteer_lost;          /* frames that found that core's queue full */

	/* More of inspection. */
	uint64_t in_fault;              /* not finished: no memory, or a fault was contained */

	/* More of fate. */
	uint64_t drop_fault;            /* a fault was contained */
	uint64_t drop_unresolved;       /* the next hop does not answer ARP, or too much waits for it */
	uint64_t drop_too_long;         /* longer than the output device takes */
	uint64_t waiting;               /* held at present, until the next hop answers ARP */

	uint64_t echo_unanswered;       /* of consumed: echo requests beyond the rate limit */
};

/*
 * Copies the counters of a context to *stats, from any thread; also those of a context that
 * has ended, until its core gets a new one. size: sizeof *stats as the
 * program knows it; a longer struct than the library's is filled up with zeros, a shorter
 * one gets its members only. EINVAL: no struct, or size not a multiple of 8, or 0.
 */
int mtcp_get_stats(mctx_t mctx, struct mos_stats *stats, size_t size);

/*
 * Ends one or both directions of an end-host connection. how: SHUT_RD, SHUT_WR (FIN after
 * what was written; reading goes on) or SHUT_RDWR, else EINVAL. ENOTCONN: not connected.
 */
int mtcp_shutdown(mctx_t mctx, int sock, int how);

/* Number of cores of this machine that are online. */
int GetNumCPUs(void);

#ifdef __cplusplus
}
#endif

#endif
