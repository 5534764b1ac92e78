/*
 * mtcp_api.h - life cycle, sockets and options.
 *
 * The base of the C interface of libmos: contexts (one per core), the configuration,
 * sockets of all kinds, and the byte-stream calls of end hosts. mos_api.h adds monitoring,
 * mtcp_epoll.h readiness. Unless a function says otherwise it returns 0 for success and -1
 * with errno set for failure, and fails with
 *   EACCES   the context is NULL, or the call needs one that is running and this is not
 *   EPERM    the context has ended, or the call is not allowed from this thread
 *   EBADF    the socket id is out of range, unused or of the wrong kind
 *   ENOSYS   the option or operation does not exist
 * Addresses and ports are in network byte order, as everywhere in the socket interface.
 */
#ifndef MOS_MTCP_API_H
#define MOS_MTCP_API_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/time.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <netinet/in.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Marks a parameter or variable as deliberately not used. */
#ifndef UNUSED
#define UNUSED(x) ((void)(x))
#endif

/* Port 0: let the library choose one. */
#ifndef INPORT_ANY
#define INPORT_ANY ((uint16_t)0)
#endif

typedef unsigned char byte;

/*
 * A context: everything one core owns. Made by mtcp_create_context(), handed to every
 * callback. Only `cpu` may be read; the memory belongs to the library.
 */
struct mtcp_context {
	int cpu;                /* core id, also the id of this context */
};

typedef struct mtcp_context *mctx_t;

/* What mtcp_register_signal() takes: a handler that gets the signal's number. */
typedef void (*mtcp_sighandler_t)(int);

/* Kinds of socket. The three that mtcp_socket() accepts are marked with (*). */
enum socket_type {
	MOS_SOCK_UNUSED = 0,                /* a free id */
	MOS_SOCK_STREAM_LISTEN = 1,         /* (*) as SOCK_STREAM: end-host stream */
	MOS_SOCK_PROXY_LISTEN = 2,          /* reserved */
	MOS_SOCK_MONITOR_STREAM = 3,        /* (*) monitor of TCP flows */
	MOS_SOCK_STREAM = 4,                /* end-host connection */
	MOS_SOCK_PROXY = 5,                 /* reserved */
	MOS_SOCK_MONITOR_STREAM_ACTIVE = 6, /* one monitored flow, as callbacks see it */
	MOS_SOCK_MONITOR_RAW = 7,           /* (*) monitor of single packets */
	MOS_SOCK_EPOLL = 8,                 /* made by mtcp_epoll_create() */
	MOS_SOCK_PIPE = 9                   /* made by mtcp_pipe() */
};

#define APP_NAME_LEN 40         /* longest name of an application, with its end */
#define MOS_APP      20         /* most `application` blocks in a configuration */
#define MOS_APP_ARGC 20         /* most words in an application's `run` line */

/*
 * The configuration as far as programs may see it. mtcp_getconf() fills it from what
 * mtcp_init() read; mtcp_setconf() takes it back before the first context is made.
 */
struct mtcp_conf {
	int num_cores;          /* highest configured core + 1 */
	int max_concurrency;    /* socket ids per core, and so the bound on flows */
	uint64_t cpu_mask;      /* bit i: core i serves a device (read only) */

	int max_num_buffers;    /* neither filled nor read; for old programs */
	int rcvbuf_size;        /* bytes of reassembly per side of a flow */
	int sndbuf_size;        /* bytes of send buffer per connection */

	int tcp_timewait;       /* milliseconds in TIME_WAIT */
	int tcp_timeout;        /* milliseconds of silence that end a flow; <= 0: never */

	uint64_t app_cpu_mask[MOS_APP];              /* cores of each application */
	char *app_argv[MOS_APP][MOS_APP_ARGC];       /* words of each `run` line; the library's */
	int app_argc[MOS_APP];                       /* how many words */
	int num_app;                                 /* how many applications */
};

struct conn_filter;

/* A place for an application to keep what it runs with. The library does not use it. */
struct app_context {
	mctx_t mctx;                    /* context of the core */
	int socket_id;                  /* listening socket */
	struct conn_filter *cf;         /* the application's own */
	int ep_id;                      /* epoll id */
};

/* Entry points of an embedded application. The library does not use it. */
struct app_ops {
	void (*app_init)(int argc, char **argv);                /* once per application */
	void (*thread_init)(mctx_t mctx, void **app_ctx);       /* once per core */
	void (*run)(mctx_t mctx, void **app_ctx);               /* the application's body */
	int enable;                                             /* nonzero: in use */
};

/* ---- life cycle ---------------------------------------------------------------------- */

/*
 * Reads the configuration file and opens the devices it names (or those of MOS_NETDEV).
 * Comes before every other call. A mistake in the file is reported on stderr with file,
 * line and what was expected; then -1 with EINVAL. The process is never ended.
 */
int mtcp_init(const char *config_file);

/* Releases what mtcp_init() made. Contexts are to be destroyed before. Returns 0. */
int mtcp_destroy(void);

/* Copies the configuration to *conf (times in milliseconds). NULL: EINVAL. */
int mtcp_getconf(struct mtcp_conf *conf);

/*
 * Takes num_cores, max_concurrency, rcvbuf_size, sndbuf_size, tcp_timewait and
 * tcp_timeout from *conf (times in milliseconds); the other members are not read.
 * Takes effect for contexts made later.
 */
int mtcp_setconf(const struct mtcp_conf *conf);

/* Pins the calling thread to one core of this machine. No such core: EINVAL. */
int mtcp_core_affinitize(int cpu);

/*
 * Makes the context of core `cpu` and starts its thread. The pointer is the one that the
 * callbacks of this core get. NULL when the core is not below num_cores, already has a
 * context, or its resources cannot be had.
 */
mctx_t mtcp_create_context(int cpu);

/*
 * Ends a context: open end-host connections are closed within a bounded time, monitored
 * flows get their MOS_ON_CONN_END, its thread stops, its memory is freed. Allowed from
 * a handler given to mtcp_register_signal(); inside a callback it is a request that
 * is carried out after the dispatch. The core may be given a new context later.
 */
int mtcp_destroy_context(mctx_t mctx);

/*
 * Sets the handler of a signal and returns the one set before (NULL at first). A SIGINT
 * handler runs on an ordinary thread, where every function of this library may be called;
 * any other signal is given to signal(2) as it is.
 */
mtcp_sighandler_t mtcp_register_signal(int signum, mtcp_sighandler_t handler);

/* ---- sockets ------------------------------------------------------------------------- */

/*
 * Makes a socket and returns its id (>= 0, below max_concurrency).
 * domain: AF_INET, else EAFNOSUPPORT. type: SOCK_STREAM, MOS_SOCK_MONITOR_STREAM or
 * MOS_SOCK_MONITOR_RAW, else EINVAL. protocol: not used. No id free: ENFILE.
 */
int mtcp_socket(mctx_t mctx, int domain, int type, int protocol);

/* Gives an end-host socket its own address. */
int mtcp_bind(mctx_t mctx, int sock, const struct sockaddr *addr, socklen_t addrlen);

/*
 * Makes an end-host socket accept connections, at most `backlog` waiting (1 to
 * max_concurrency, else EINVAL). A context may have several listeners. EADDRINUSE: one is
 * there already, and not both have SO_REUSEPORT.
 */
int mtcp_listen(mctx_t mctx, int sock, int backlog);

/*
 * Takes the next finished connection of a listening socket and returns its id; the
 * peer's address goes to *addr when both pointers are given. EAGAIN when the socket is
 * non-blocking and none waits; EINTR when SIGINT came while it waited.
 */
int mtcp_accept(mctx_t mctx, int sock, struct sockaddr *addr, socklen_t *addrlen);

/*
 * Prepares source addresses and ports for connections from this core to daddr:dport, so
 * that the answers are steered back to this core: num_addr addresses from saddr_base on.
 */
int mtcp_init_rss(mctx_t mctx, in_addr_t saddr_base, int num_addr, in_addr_t daddr,
		  in_addr_t dport);

/*
 * Opens a connection. Non-blocking: -1 with EINPROGRESS, then MOS_EPOLLOUT, or
 * MOS_EPOLLERR and the reason in SO_ERROR. EINVAL: no route, or bound to an address and port
 * whose answers reach another core; EAGAIN: no port is free.
 */
int mtcp_connect(mctx_t mctx, int sock, const struct sockaddr *addr, socklen_t addrlen);

/*
 * Closes a socket; its id is free afterwards, whatever the result. A connection ends in
 * order (FIN) after what was written; with SO_LINGER and a time, a blocking socket waits
 * so long at most for the peer to have acknowledged it. A monitor socket's callbacks are dropped for flows
 * that begin later. ENOTCONN: a stream socket that never had a connection.
 */
int mtcp_close(mctx_t mctx, int sock);

/* Ends a connection at once with a RST and closes the socket. */
int mtcp_abort(mctx_t mctx, int sock);

/* Tells the own address of an end-host socket. *addrlen: room in, length out. */
int mtcp_getsockname(mctx_t mctx, int sock, struct sockaddr *addr, socklen_t *addrlen);

/* Makes a socket non-blocking. */
int mtcp_setsock_nonblock(mctx_t mctx, int sock);

/* FIONREAD: bytes ready to read, to *(int *)argp. FIONBIO: non-blocking if *(int *)argp. */
int mtcp_ioctl(mctx_t mctx, int sock, int request, void *argp);

/* Makes a pipe inside the context: reads from pipeid[0] what was written to pipeid[1]. */
int mtcp_pipe(mctx_t mctx, int pipeid[2]);

/* ---- options ------------------------------------------------------------------------- */

/*
 * Reads an option. At level SOL_MONSOCKET, on a monitored flow (else ENOTSOCK) and inside
 * a callback (else EPERM):
 *   MOS_TCP_STATE_CLI, _SVR      int: the side's enum tcpstate
 *   MOS_INFO_CLIBUF, _SVRBUF     struct tcp_buf_info; *optlen must be its size
 *   MOS_FRAGINFO_CLIBUF, _SVRBUF array of struct tcp_ring_fragment; *optlen is the number
 *                                of elements, there is room for in and stored out
 *   MOS_TIMESTAMP                uint32_t: last activity of the flow in microseconds
 * A side that holds no payload yet gives ENODATA. At SOL_SOCKET, for end hosts: SO_ERROR,
 * SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_RCVBUF, SO_SNDBUF, SO_LINGER, SO_TYPE,
 * SO_ACCEPTCONN; at IPPROTO_TCP: TCP_NODELAY, TCP_MAXSEG; at IPPROTO_IP: IP_TTL, IP_TOS.
 */
int mtcp_getsockopt(mctx_t mctx, int sock, int level, int optname, void *optval,
		    socklen_t *optlen);

/*
 * Sets an option. At level SOL_MONSOCKET, on a monitor socket (for later flows) or on one
 * flow; the value is an int:
 *   MOS_CLIBUF, MOS_SVRBUF          bytes of reassembly for that side; 0 turns it off
 *   MOS_CLIOVERLAP, MOS_SVROVERLAP  MOS_OVERLAP_POLICY_FIRST or _LAST
 *   MOS_STOP_MON                    MOS_SIDE_CLI, _SVR or _BOTH: no further events there
 * From another thread than a callback's, options of one flow wait until the core is between
 * two rounds; those of listeners do not wait for callbacks.
 * At SOL_SOCKET, IPPROTO_TCP and IPPROTO_IP, for end hosts: SO_REUSEADDR, SO_REUSEPORT,
 * SO_KEEPALIVE, SO_RCVBUF, SO_SNDBUF, SO_LINGER (0 s: close resets), TCP_NODELAY,
 * TCP_MAXSEG (88 to 32767, or 0: the default), IP_TTL (1 to 255, or -1), IP_TOS (without
 * its ECN bits).
 */
int mtcp_setsockopt(mctx_t mctx, int sock, int level, int optname, const void *optval,
		    socklen_t optlen);

/* ---- the byte stream of an end-host connection --------------------------------------- */

/*
 * Reads at most `len` bytes. Returns their number, 0 at the end of the stream, or -1:
 * EAGAIN (non-blocking, nothing there), EINTR, ENOTCONN, ECONNRESET, ETIMEDOUT.
 * flags: 0 or MSG_PEEK (the bytes stay unread).
 */
ssize_t mtcp_recv(mctx_t mctx, int sock, char *buf, size_t len, int flags);

/* mtcp_recv() without flags. */
ssize_t mtcp_read(mctx_t mctx, int sock, char *buf, size_t len);

/* Reads into the buffers of iov, in order. Returns the total. */
ssize_t mtcp_readv(mctx_t mctx, int sock, const struct iovec *iov, int numIOV);

/*
 * Queues bytes to be sent and returns how many were taken: fewer than `len` when the
 * send buffer fills up. EAGAIN when non-blocking and full; EPIPE after the end.
 */
ssize_t mtcp_write(mctx_t mctx, int sock, const char *buf, size_t len);

/* Queues the buffers of iov, in order. Returns the total taken. */
ssize_t mtcp_writev(mctx_t mctx, int sock, const struct iovec *iov, int numIOV);

/* How many flows this core holds now; (uint32_t)-1 with EACCES without a context. */
uint32_t mtcp_get_connection_cnt(mctx_t mctx);

#ifdef __cplusplus
}
#endif

#endif
