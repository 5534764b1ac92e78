/*
 * mtcp_compat.h - the names of mTCP, for applications written for it.
 *
 * mTCP is what the end-host half of this interface grew out of; it spelled some things
 * differently. With this header its spelling compiles too:
 *   MTCP_EPOLL*                the masks and operations of mtcp_epoll.h
 *   data.sockid                the member `sock` of mtcp_epoll_data (always there)
 *   MTCP_SOCK_*                the kinds of socket
 *   mtcp_socket_ioctl()        mtcp_ioctl()
 *   mtcp_epoll_create1()       mtcp_epoll_create(), with flags 0 or O_CLOEXEC
 *   mtcp_getpeername()         with four arguments: the peer of an end-host connection
 * To be asked for: compile with -DMTCP_COMPAT, and mtcp_epoll.h includes it, or include it.
 *
 * It is the spelling only. The masks have the values of this library and not Linux's, events
 * have 64 bits, and the configuration file is that of mtcp_init().
 */
#ifndef MOS_MTCP_COMPAT_H
#define MOS_MTCP_COMPAT_H

#include <errno.h>
#include <fcntl.h>

#include "mtcp_api.h"
#include "mtcp_epoll.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MTCP_EPOLL_CTL_ADD MOS_EPOLL_CTL_ADD
#define MTCP_EPOLL_CTL_DEL MOS_EPOLL_CTL_DEL
#define MTCP_EPOLL_CTL_MOD MOS_EPOLL_CTL_MOD

#define MTCP_EPOLLNONE     0    /* as in mTCP: nothing but errors */
#define MTCP_EPOLLIN       MOS_EPOLLIN
#define MTCP_EPOLLPRI      MOS_EPOLLPRI
#define MTCP_EPOLLOUT      MOS_EPOLLOUT
#define MTCP_EPOLLRDNORM   MOS_EPOLLRDNORM
#define MTCP_EPOLLRDBAND   MOS_EPOLLRDBAND
#define MTCP_EPOLLWRNORM   MOS_EPOLLWRNORM
#define MTCP_EPOLLWRBAND   MOS_EPOLLWRBAND
#define MTCP_EPOLLMSG      MOS_EPOLLMSG
#define MTCP_EPOLLERR      MOS_EPOLLERR
#define MTCP_EPOLLHUP      MOS_EPOLLHUP
#define MTCP_EPOLLRDHUP    MOS_EPOLLRDHUP
#define MTCP_EPOLLONESHOT  MOS_EPOLLONESHOT
#define MTCP_EPOLLET       ((uint32_t)1 << 31)  /* MOS_EPOLLET without its sign */

#define MTCP_SOCK_UNUSED   MOS_SOCK_UNUSED
#define MTCP_SOCK_STREAM   MOS_SOCK_STREAM_LISTEN       /* what mtcp_socket() takes */
#define MTCP_SOCK_LISTENER MOS_SOCK_STREAM_LISTEN
#define MTCP_SOCK_EPOLL    MOS_SOCK_EPOLL
#define MTCP_SOCK_PIPE     MOS_SOCK_PIPE

static __inline__ int mtcp_socket_ioctl(mctx_t mctx, int sock, int request, void *argp)
{
	return mtcp_ioctl(mctx, sock, request, argp);
}

static __inline__ int mtcp_epoll_create1(mctx_t mctx, int flags)
{
	if (flags != 0 && flags != O_CLOEXEC) {
		errno = EINVAL;
		return -1;
	}
	return mtcp_epoll_create(mctx, 1);
}

/* As in mos_api.h, where it has five arguments; the fifth says nothing about an end host. */
int mtcp_getpeername(mctx_t mctx, int sock, struct sockaddr *saddr, socklen_t *addrlen,
		     int side);

#define mtcp_getpeername(...) \
	MTCP_COMPAT_SIXTH(__VA_ARGS__, MTCP_COMPAT_FIVE, MTCP_COMPAT_FOUR, 0)(__VA_ARGS__)
#define MTCP_COMPAT_SIXTH(a, b, c, d, e, f, ...) f
#define MTCP_COMPAT_FIVE(mctx, sock, addr, len, side) mtcp_getpeername(mctx, sock, addr, len, side)
#define MTCP_COMPAT_FOUR(mctx, sock, addr, len) mtcp_getpeername(mctx, sock, addr, len, 0)

#ifdef __cplusplus
}
#endif

#endif
