/*
 * mtcp_epoll.h - waiting for many end-host sockets at once.
 *
 * Works like Linux's epoll, with masks of its own: the values differ from <sys/epoll.h>,
 * and MOS_EPOLLNONE is a bit, not zero.
 */
#ifndef MOS_MTCP_EPOLL_H
#define MOS_MTCP_EPOLL_H

#include "mtcp_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What mtcp_epoll_ctl() is to do. */
enum mtcp_epoll_op {
	MOS_EPOLL_CTL_ADD = 1,  /* watch a socket */
	MOS_EPOLL_CTL_DEL = 2,  /* stop watching it */
	MOS_EPOLL_CTL_MOD = 3   /* change what is watched */
};

/* Bits of mtcp_epoll_event.events. */
enum epoll_event_type {
	MOS_EPOLLNONE    = 1 << 0,
	MOS_EPOLLIN      = 1 << 1,      /* readable, or a connection to accept */
	MOS_EPOLLPRI     = 1 << 2,
	MOS_EPOLLOUT     = 1 << 3,      /* writable, or a connection is established */
	MOS_EPOLLRDNORM  = 1 << 4,
	MOS_EPOLLRDBAND  = 1 << 5,
	MOS_EPOLLWRNORM  = 1 << 6,
	MOS_EPOLLWRBAND  = 1 << 7,
	MOS_EPOLLMSG     = 1 << 8,
	MOS_EPOLLERR     = 1 << 9,      /* the connection failed; SO_ERROR says why */
	MOS_EPOLLHUP     = 1 << 10,
	MOS_EPOLLRDHUP   = 1 << 11,     /* the peer has closed its direction */

	MOS_EPOLLONESHOT = 1 << 30,     /* report once, then wait for MOS_EPOLL_CTL_MOD */
	/* report changes only; the top bit of an int, so a negative number */
	MOS_EPOLLET      = -2147483647 - 1
};

/* Reserved; kept because programs may name these. */
enum mtcp_action {
	MOS_ACT_SEND_DATA    = 1 << 1,
	MOS_ACT_SEND_ACK_NOW = 1 << 2,
	MOS_ACT_SEND_ACK_AGG = 1 << 3,
	MOS_ACT_SEND_CONTROL = 1 << 4,
	MOS_ACT_SEND_RST     = 1 << 5,
	MOS_ACT_DESTROY      = 1 << 6,
	MOS_ACT_READ_DATA    = 1 << 7,
	MOS_ACT_CNT
};

/* Given with a socket and handed back with its events. */
typedef union mtcp_epoll_data {
	void *ptr;
	int sock;
	int sockid;             /* the same, as mTCP calls it */
	uint32_t u32;
	uint64_t u64;
} mtcp_epoll_data_t;

/* One socket's interest (in) or readiness (out). Only the low 32 bits of events count. */
struct mtcp_epoll_event {
	uint64_t events;
	mtcp_epoll_data_t data;
};

/* Makes an epoll object and returns its id. size: a hint, greater than 0, else EINVAL. */
int mtcp_epoll_create(mctx_t mctx, int size);

/*
 * Adds, changes or removes a socket. event may be NULL with MOS_EPOLL_CTL_DEL; removing a
 * socket that is not watched (any more) succeeds. Adding twice: EEXIST. Changing one that
 * is not watched: ENOENT. An id that names no end-host socket is taken, and nothing comes
 * of it.
 */
int mtcp_epoll_ctl(mctx_t mctx, int epid, int op, int sock, struct mtcp_epoll_event *event);

/*
 * Waits until a watched socket is ready or `timeout` milliseconds have passed (-1: no
 * limit, 0: only looks) and returns how many entries were stored, at most maxevents.
 * -1 with EINTR when SIGINT came.
 */
int mtcp_epoll_wait(mctx_t mctx, int epid, struct mtcp_epoll_event *events, int maxevents,
		    int timeout);

/*
 * The name of a single epoll bit ("IN", "OUT", "ERR" ...), never NULL. A constant: not to
 * be changed or freed.
 */
char *EventToString(uint32_t event);

#ifdef __cplusplus
}
#endif

#ifdef MTCP_COMPAT
#include "mtcp_compat.h"
#endif

#endif
