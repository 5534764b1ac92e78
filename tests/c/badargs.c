/* badargs -f mos.conf: calls every exported function with NULL, stale, negative, huge and wrong-type arguments, from the
 * application's thread and from inside callbacks, and compares return value and errno with the contract (monitor.md 1,
 * decisions D1, D3, D9, K8-K10). The capture must hold two flows after one another, each with a request.
 *   ROW(ret, err, call)    must return ret with errno err
 *   COMES_BACK(call)       has no rule but to return
 * errno UNTOUCHED: the call must leave errno alone. ANY: the contract names none. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <netinet/tcp.h>
#include <mos_ext.h>
#include <mtcp_util.h>

#define UNTOUCHED 9999
#define ANY (-1)
#define UNUSED_ID 999      /* max_concurrency is 1000 and ids are dense */
#define HUGE_ID 0x40000000

static int rows, bad, at;
static const char *where = "start";

static void judge(int line, const char *call, long ret, int err, long want_ret, int want_err)
{
	rows++;
	if (ret == want_ret && (want_err == ANY || err == want_err))
		return;
	bad++;
	printf("line %d, %s: %s returned %ld errno %d, expected %ld errno %d\n", line, where, call, ret, err, want_ret, want_err);
}

#define ROW(ret, err, call) do { \
	at = __LINE__; \
	errno = UNTOUCHED; \
	long r_ = (long)(call); \
	int e_ = errno; \
	judge(__LINE__, #call, r_, e_, ret, err); \
} while (0)
#define VOID_ROW(err, call) ROW(0, err, ((call), 0))
#define COMES_BACK(call) do { at = __LINE__; rows++; (void)(call); } while (0)

static void crash(int signum)
{
	printf("line %d, %s: signal %d\n", at, where, signum);
	_exit(2);
}

/* ---- things to pass ---- */
static int mon, raw;
static char bytes[64];
static struct sockaddr_in addr[2];
static socklen_t len16, len32, len17;
static struct pkt_info pkt;
static struct mtcp_epoll_event event;
static struct iovec vec = { bytes, sizeof bytes };
static struct timeval soon = { 0, 1000 };
static struct mos_stats stats;
static union monitor_filter no_filter, syn_port80, bad_syn, bad_word, bad_raw;

static void cb(mctx_t m, int s, int side, event_t e, filter_arg_t *a) { }
static bool ft(mctx_t m, int s, int side, event_t e, filter_arg_t *a) { return true; }

static void fill(void)
{
	addr[0].sin_family = AF_INET;
	len16 = 16;
	len32 = 32;
	len17 = 17;
	syn_port80.stream_syn_filter = "tcp port 80";
	bad_syn.stream_syn_filter = "port port port";
	bad_word.stream_syn_filter = "udp port 80";
	bad_raw.raw_pkt_filter = "no such primitive";
}

/* ---- no context ---- */

/* Every function that takes a context, without a usable one: NULL, or one that has ended. */
static void without_context(mctx_t m, int err)
{
	int pair[2], n = 0, s = 0;
	socklen_t l = sizeof n;
	ROW(-1, err, mtcp_socket(m, AF_INET, MOS_SOCK_MONITOR_STREAM, 0));
	ROW(-1, err, mtcp_close(m, s));
	ROW(-1, err, (int)mtcp_get_connection_cnt(m));
	ROW(-1, err, mtcp_bind_monitor_filter(m, s, &syn_port80));
	ROW(-1, err, mtcp_bind_monitor_filter(m, s, NULL));
	ROW(-1, err, mtcp_register_callback(m, s, MOS_ON_PKT_IN, MOS_HK_SND, cb));
	ROW(-1, err, mtcp_unregister_callback(m, s, MOS_ON_PKT_IN, MOS_HK_SND));
	ROW(-1, err, mtcp_raise_event(m, 4096));
	COMES_BACK((mtcp_set_uctx(m, s, bytes), 0));
	ROW(0, err, mtcp_get_uctx(m, s));
	ROW(-1, err, mtcp_peek(m, s, MOS_SIDE_SVR, bytes, sizeof bytes));
	ROW(-1, err, mtcp_ppeek(m, s, MOS_SIDE_SVR, bytes, sizeof bytes, 0));
	ROW(-1, err, mtcp_getlastpkt(m, s, MOS_SIDE_SVR, &pkt));
	ROW(-1, err, mtcp_setlastpkt(m, s, MOS_SIDE_SVR, 0, NULL, 0, MOS_DROP));
	ROW(-1, err, mtcp_sendpkt(m, s, &pkt));
	ROW(-1, err, mtcp_getpeername(m, s, (struct sockaddr *)addr, &len32, MOS_SIDE_BOTH));
	ROW(0, err, mtcp_cb_get_ts(m));
	ROW(-1, err, mtcp_cb_stop(m, s, MOS_SIDE_CLI));
	ROW(-1, err, mtcp_cb_dropcurpkt(m));
	ROW(-1, err, mtcp_reset_conn(m, s));
	ROW(-1, err, mtcp_settimer(m, 1, &soon, cb));
	ROW(-1, err, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &n, &l));
	ROW(-1, err, mtcp_setsockopt(m, s, SOL_MONSOCKET, MOS_CLIBUF, &n, sizeof n));
	ROW(-1, err, mtcp_get_stats(m, &stats, sizeof stats));
	/* end hosts */
	ROW(-1, err, mtcp_bind(m, s, (struct sockaddr *)addr, sizeof addr[0]));
	ROW(-1, err, mtcp_listen(m, s, 5));
	ROW(-1, err, mtcp_accept(m, s, NULL, NULL));
	ROW(-1, err, mtcp_connect(m, s, (struct sockaddr *)addr, sizeof addr[0]));
	ROW(-1, err, mtcp_init_rss(m, 0, 1, 0, 0));
	ROW(-1, err, mtcp_abort(m, s));
	ROW(-1, err, mtcp_shutdown(m, s, SHUT_WR));
	ROW(-1, err, mtcp_getsockname(m, s, (struct sockaddr *)addr, &len16));
	ROW(-1, err, mtcp_setsock_nonblock(m, s));
	ROW(-1, err, mtcp_ioctl(m, s, FIONREAD, &n));
	ROW(-1, err, mtcp_pipe(m, pair));
	ROW(-1, err, mtcp_recv(m, s, bytes, sizeof bytes, 0));
	ROW(-1, err, mtcp_read(m, s, bytes, sizeof bytes));
	ROW(-1, err, mtcp_readv(m, s, &vec, 1));
	ROW(-1, err, mtcp_write(m, s, bytes, sizeof bytes));
	ROW(-1, err, mtcp_writev(m, s, &vec, 1));
	ROW(-1, err, mtcp_epoll_create(m, 8));
	ROW(-1, err, mtcp_epoll_ctl(m, s, MOS_EPOLL_CTL_ADD, s, &event));
	ROW(-1, err, mtcp_epoll_wait(m, s, &event, 1, 0));
	COMES_BACK((mtcp_app_join(m), 0));
	COMES_BACK(mtcp_destroy_context(m));
}

/* A context of no core: the look-up says EINVAL, most callers make it EACCES (monitor.md 1.0). */
static void context_of_no_core(int cpu)
{
	struct mtcp_context fake = { cpu };
	ROW(-1, EACCES, mtcp_socket(&fake, AF_INET, MOS_SOCK_MONITOR_STREAM, 0));
	ROW(-1, EACCES, mtcp_peek(&fake, 0, MOS_SIDE_SVR, bytes, sizeof bytes));
	ROW(-1, EINVAL, mtcp_register_callback(&fake, 0, MOS_ON_PKT_IN, MOS_HK_SND, cb));
	COMES_BACK(mtcp_destroy_context(&fake));
	COMES_BACK((mtcp_app_join(&fake), 0));
}

/* ---- no thread or context matters ---- */

static void helpers(void)
{
	char line[] = "a 'b c' d e f", *argv[4] = { 0 };
	int argc = 0;
	ROW(1, ANY, GetNumCPUs() >= 1);
	ROW(-1, EINVAL, mtcp_core_affinitize(-1));
	ROW(-1, EINVAL, mtcp_core_affinitize(INT_MAX));
	ROW(-1, EINVAL, mtcp_core_affinitize(INT_MIN));
	ROW(0, ANY, strcmp(EventToString(MOS_EPOLLIN), "IN"));
	ROW(1, ANY, EventToString(0) != NULL);
	ROW(1, ANY, EventToString(UINT32_MAX) != NULL);
	COMES_BACK(GetRSSCPUCore(1, 2, 3, 4, 0));
	COMES_BACK(GetRSSCPUCore(1, 2, 3, 4, -5));
	ROW(1, ANY, GetRSSCPUCore(1, 2, 3, 4, INT_MAX) >= 0);
	ROW(-1, ANY, StrToArgs(NULL, &argc, argv, 4));
	ROW(-1, ANY, StrToArgs(line, NULL, argv, 4));
	ROW(-1, ANY, StrToArgs(line, &argc, NULL, 4));
	ROW(-1, ANY, StrToArgs(line, &argc, argv, 0));
	ROW(-1, ANY, StrToArgs(line, &argc, argv, -1));
	COMES_BACK(StrToArgs(line, &argc, argv, 4));
	ROW(1, ANY, argc <= 3 && argv[3] == NULL);
	ROW(0x02cc5d05, ANY, XXH32(NULL, 0, 0));
	ROW((long)0xef46db3751d8e999, ANY, XXH64(NULL, 0, 0));
}

static void before_init(void)
{
	struct mtcp_conf conf;
	where = "before mtcp_init";
	without_context(NULL, EACCES);
	ROW(0, ANY, mtcp_create_context(0));
	ROW(0, ANY, mtcp_define_event(MOS_ON_PKT_IN, ft, NULL));
	COMES_BACK(mtcp_getconf(&conf));
	ROW(-1, ANY, mtcp_getconf(NULL));
	ROW(-1, ANY, mtcp_setconf(NULL));
	ROW(-1, EINVAL, mtcp_init(NULL));
	ROW(-1, EINVAL, mtcp_init("/nonexistent/mos.conf"));
	ROW(-1, EINVAL, mtcp_init("/"));
}

static void configuration(void)
{
	where = "configuration";
	ROW(-1, EINVAL, mtcp_getconf(NULL));
	ROW(-1, UNTOUCHED, mtcp_setconf(NULL));
	ROW(0, ANY, mtcp_create_context(-1));
	ROW(0, ANY, mtcp_create_context(INT_MAX));
	ROW(0, ANY, mtcp_create_context(INT_MIN));
	COMES_BACK(mtcp_register_signal(-1, SIG_IGN));
	COMES_BACK(mtcp_register_signal(INT_MAX, SIG_IGN));
	COMES_BACK(mtcp_register_signal(SIGINT, NULL));
	context_of_no_core(-1);
	context_of_no_core(INT_MIN);
	context_of_no_core(INT_MAX);
}

static void user_events(void)
{
	struct filter_arg nothing = { NULL, 5 }, some = { bytes, 4 };
	event_t e = mtcp_define_event(MOS_ON_PKT_IN, ft, &some);
	ROW(1, ANY, e >= 4096);
	ROW((long)e, UNTOUCHED, mtcp_define_event(MOS_ON_PKT_IN, ft, &some));
	ROW(0, UNTOUCHED, mtcp_define_event(MOS_ON_PKT_IN, NULL, NULL));
	ROW(0, UNTOUCHED, mtcp_define_event(MOS_ON_PKT_IN, ft, &nothing));
	ROW(0, UNTOUCHED, mtcp_define_event(3, ft, NULL));
	ROW(0, UNTOUCHED, mtcp_define_event(99999, ft, NULL));
	ROW(0, UNTOUCHED, mtcp_define_event(UINT64_MAX, ft, NULL));
	ROW(1, UNTOUCHED, mtcp_define_event(MOS_ON_PKT_IN, ft, NULL) > e); /* B17: not the one with an argument */
	ROW(0, UNTOUCHED, mtcp_alloc_event(3));
	ROW(0, UNTOUCHED, mtcp_alloc_event(99999));
	ROW(0, UNTOUCHED, mtcp_alloc_event(UINT64_MAX));
	ROW(1, UNTOUCHED, mtcp_alloc_event(MOS_ON_PKT_IN) >= 4096);
}

/* ---- any thread: sockets, filters, registration ---- */

static void sockets(mctx_t m)
{
	static int ids[2000];
	int n = 0, i;
	ROW(-1, EAFNOSUPPORT, mtcp_socket(m, AF_INET6, MOS_SOCK_MONITOR_STREAM, 0));
	ROW(-1, EAFNOSUPPORT, mtcp_socket(m, -1, 99, 0)); /* the domain is looked at first */
	ROW(-1, EINVAL, mtcp_socket(m, AF_INET, MOS_SOCK_UNUSED, 0));
	ROW(-1, EINVAL, mtcp_socket(m, AF_INET, MOS_SOCK_STREAM, 0)); /* 4, not SOCK_STREAM */
	ROW(-1, EINVAL, mtcp_socket(m, AF_INET, MOS_SOCK_MONITOR_STREAM_ACTIVE, 0));
	ROW(-1, EINVAL, mtcp_socket(m, AF_INET, -1, 0));
	ROW(-1, EINVAL, mtcp_socket(m, AF_INET, INT_MAX, 0));
	ROW(-1, EBADF, mtcp_close(m, -1));
	ROW(-1, EBADF, mtcp_close(m, INT_MIN));
	ROW(-1, EBADF, mtcp_close(m, HUGE_ID));
	ROW(-1, EBADF, mtcp_close(m, 1000)); /* max_concurrency itself */
	ROW(-1, EBADF, mtcp_close(m, UNUSED_ID));
	/* the table fills up, every id is in range, and what was closed can be had again */
	while (n < 2000 && (ids[n] = mtcp_socket(m, AF_INET, MOS_SOCK_MONITOR_RAW, 0)) >= 0) {
		if (ids[n] >= 1000)
			ROW(0, ANY, ids[n]);
		n++;
	}
	ROW(1, ANY, n > 0 && n < 1000);
	ROW(-1, ENFILE, mtcp_socket(m, AF_INET, MOS_SOCK_MONITOR_RAW, 0));
	for (i = 0; i < n; i++)
		if (mtcp_close(m, ids[i]))
			ROW(0, ANY, ids[i]);
	ROW(-1, EBADF, mtcp_close(m, ids[0]));
}

static void filters(mctx_t m)
{
	ROW(0, ANY, mtcp_bind_monitor_filter(m, mon, NULL));
	ROW(0, ANY, mtcp_bind_monitor_filter(m, -1, NULL)); /* before the id is looked at */
	ROW(0, ANY, mtcp_bind_monitor_filter(m, mon, &no_filter));
	ROW(0, ANY, mtcp_bind_monitor_filter(m, raw, &no_filter));
	ROW(-1, EBADF, mtcp_bind_monitor_filter(m, -1, &syn_port80));
	ROW(-1, EBADF, mtcp_bind_monitor_filter(m, HUGE_ID, &syn_port80));
	ROW(-1, ENOPROTOOPT, mtcp_bind_monitor_filter(m, UNUSED_ID, &syn_port80));
	ROW(-1, EINVAL, mtcp_bind_monitor_filter(m, mon, &bad_syn));
	ROW(-1, EINVAL, mtcp_bind_monitor_filter(m, mon, &bad_word));
	ROW(-1, EINVAL, mtcp_bind_monitor_filter(m, raw, &bad_raw));
	ROW(0, ANY, mtcp_bind_monitor_filter(m, mon, &syn_port80));
}

static void registration(mctx_t m)
{
	event_t never = 5 << 10;
	ROW(-1, UNTOUCHED, mtcp_register_callback(m, mon, 0, MOS_HK_SND, cb));
	ROW(-1, UNTOUCHED, mtcp_register_callback(m, mon, 3, MOS_HK_SND, cb));
	ROW(-1, UNTOUCHED, mtcp_register_callback(m, mon, never, MOS_HK_SND, cb));
	ROW(-1, UNTOUCHED, mtcp_register_callback(m, mon, UINT64_MAX, MOS_HK_SND, cb));
	ROW(-1, UNTOUCHED, mtcp_register_callback(NULL, mon, 0, MOS_HK_SND, cb)); /* the event is looked at first */
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_PKT_IN, 0, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_PKT_IN, -1, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_PKT_IN, MOS_HK_SND | MOS_HK_RCV, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_CONN_START, MOS_NULL, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_REXMIT, MOS_NULL, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_TCP_STATE_CHANGE, MOS_NULL, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_CONN_END, MOS_NULL, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_CONN_NEW_DATA, MOS_HK_SND, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_ORPHAN, MOS_HK_RCV, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, mon, MOS_ON_ERROR, MOS_HK_SND, cb));
	ROW(-1, EBADF, mtcp_register_callback(m, -1, MOS_ON_PKT_IN, MOS_HK_SND, cb));
	ROW(-1, EBADF, mtcp_register_callback(m, HUGE_ID, MOS_ON_PKT_IN, MOS_HK_SND, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, UNUSED_ID, MOS_ON_PKT_IN, MOS_HK_SND, cb));
	ROW(0, ANY, mtcp_register_callback(m, mon, MOS_ON_TIMEOUT, MOS_HK_SND, cb)); /* K10: accepted, never raised */
	ROW(0, ANY, mtcp_register_callback(m, mon, MOS_ON_TIMEOUT, MOS_HK_SND, cb)); /* twice: keeps the first */
	ROW(0, ANY, mtcp_register_callback(m, mon, MOS_ON_TIMEOUT, MOS_HK_SND, NULL)); /* D3: removed */
	ROW(0, ANY, mtcp_register_callback(m, mon, MOS_ON_TIMEOUT, MOS_HK_RCV, cb));
	ROW(0, ANY, mtcp_unregister_callback(m, mon, MOS_ON_TIMEOUT, MOS_HK_RCV));
	ROW(-1, UNTOUCHED, mtcp_unregister_callback(m, mon, 0, MOS_HK_SND));
	ROW(-1, EINVAL, mtcp_unregister_callback(m, mon, MOS_ON_PKT_IN, 7));
	ROW(-1, EBADF, mtcp_unregister_callback(m, -1, MOS_ON_PKT_IN, MOS_HK_SND));
	ROW(-1, EBADF, mtcp_unregister_callback(m, HUGE_ID, MOS_ON_PKT_IN, MOS_HK_SND));
}

static void timers_and_counters(mctx_t m)
{
	struct timeval odd = { -1, -5 };
	ROW(-1, ANY, mtcp_settimer(m, 1, NULL, cb));
	ROW(-1, ANY, mtcp_settimer(m, 1, &soon, NULL));
	COMES_BACK(mtcp_settimer(m, INT_MIN, &odd, cb));
	ROW(-1, EINVAL, mtcp_get_stats(m, NULL, sizeof stats));
	ROW(-1, EINVAL, mtcp_get_stats(m, &stats, 0));
	ROW(-1, EINVAL, mtcp_get_stats(m, &stats, 7));
	ROW(0, ANY, mtcp_get_stats(m, &stats, 8));
	ROW(0, ANY, mtcp_get_stats(m, &stats, sizeof stats));
}

/* Options, as far as they do not depend on the thread. */
static void options(mctx_t m)
{
	int v = 0;
	socklen_t l = sizeof v;
	ROW(-1, EBADF, mtcp_getsockopt(m, -1, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &v, &l));
	ROW(-1, EBADF, mtcp_getsockopt(m, HUGE_ID, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &v, &l));
	ROW(-1, EBADF, mtcp_getsockopt(m, UNUSED_ID, SOL_SOCKET, SO_ERROR, &v, &l));
	ROW(-1, ENOTSOCK, mtcp_getsockopt(m, mon, SOL_SOCKET, SO_ERROR, &v, &l));
	ROW(-1, ENOSYS, mtcp_getsockopt(m, mon, 77, MOS_TCP_STATE_CLI, &v, &l));
	ROW(-1, EBADF, mtcp_setsockopt(m, -1, SOL_MONSOCKET, MOS_CLIBUF, &v, sizeof v));
	ROW(-1, EBADF, mtcp_setsockopt(m, HUGE_ID, SOL_MONSOCKET, MOS_CLIBUF, &v, sizeof v));
	ROW(-1, EBADF, mtcp_setsockopt(m, UNUSED_ID, SOL_SOCKET, SO_REUSEADDR, &v, sizeof v));
	ROW(-1, ENOTSOCK, mtcp_setsockopt(m, mon, SOL_SOCKET, SO_REUSEADDR, &v, sizeof v));
	ROW(-1, ENOSYS, mtcp_setsockopt(m, mon, 77, MOS_CLIBUF, &v, sizeof v));
	ROW(-1, ENOSYS, mtcp_setsockopt(m, mon, SOL_MONSOCKET, MOS_SEQ_REMAP, &v, sizeof v));
	ROW(-1, ENOSYS, mtcp_setsockopt(m, mon, SOL_MONSOCKET, 0, &v, sizeof v));
	ROW(-1, ENOSYS, mtcp_setsockopt(m, mon, SOL_MONSOCKET, INT_MAX, &v, sizeof v));
	ROW(-1, ANY, mtcp_setsockopt(m, UNUSED_ID, SOL_MONSOCKET, MOS_CLIBUF, &v, sizeof v));
	ROW(-1, ANY, mtcp_setsockopt(m, mon, SOL_MONSOCKET, MOS_CLIBUF, NULL, sizeof v));
	COMES_BACK(mtcp_setsockopt(m, mon, SOL_MONSOCKET, MOS_CLIOVERLAP, NULL, 0));
	COMES_BACK(mtcp_setsockopt(m, raw, SOL_MONSOCKET, MOS_STOP_MON, NULL, 0));
}

/* End-host calls on ids that are no end-host socket. */
static void end_host(mctx_t m)
{
	static const int none[] = { -1, INT_MIN, HUGE_ID, UNUSED_ID };
	int n = 0;
	size_t i;
	for (i = 0; i < sizeof none / sizeof *none; i++) {
		int s = none[i];
		ROW(-1, EBADF, mtcp_bind(m, s, (struct sockaddr *)addr, sizeof addr[0]));
		ROW(-1, EBADF, mtcp_listen(m, s, 5));
		ROW(-1, EBADF, mtcp_accept(m, s, NULL, NULL));
		ROW(-1, EBADF, mtcp_connect(m, s, (struct sockaddr *)addr, sizeof addr[0]));
		ROW(-1, EBADF, mtcp_abort(m, s));
		ROW(-1, EBADF, mtcp_shutdown(m, s, SHUT_WR));
		ROW(-1, EBADF, mtcp_getsockname(m, s, (struct sockaddr *)addr, &len16));
		ROW(-1, EBADF, mtcp_setsock_nonblock(m, s));
		ROW(-1, EBADF, mtcp_ioctl(m, s, FIONREAD, &n));
		ROW(-1, EBADF, mtcp_recv(m, s, bytes, sizeof bytes, 0));
		ROW(-1, EBADF, mtcp_read(m, s, bytes, sizeof bytes));
		ROW(-1, EBADF, mtcp_readv(m, s, &vec, 1));
		ROW(-1, EBADF, mtcp_write(m, s, bytes, sizeof bytes));
		ROW(-1, EBADF, mtcp_writev(m, s, &vec, 1));
		ROW(-1, EBADF, mtcp_epoll_ctl(m, s, MOS_EPOLL_CTL_ADD, mon, &event));
		ROW(-1, EBADF, mtcp_epoll_wait(m, s, &event, 1, 0));
	}
	/* a monitor socket is none either */
	ROW(-1, ENOTSOCK, mtcp_bind(m, mon, (struct sockaddr *)addr, sizeof addr[0]));
	ROW(-1, ENOTSOCK, mtcp_bind(m, mon, NULL, 0));
	ROW(-1, ENOTSOCK, mtcp_listen(m, mon, 5));
	ROW(-1, EINVAL, mtcp_accept(m, mon, NULL, NULL));
	ROW(-1, ENOTSOCK, mtcp_connect(m, mon, NULL, 0));
	ROW(-1, ENOTSOCK, mtcp_abort(m, mon));
	ROW(-1, ENOTSOCK, mtcp_shutdown(m, mon, 99));
	ROW(-1, ENOTSOCK, mtcp_getsockname(m, mon, NULL, NULL));
	ROW(-1, EBADF, mtcp_ioctl(m, mon, FIONREAD, NULL));
	ROW(-1, ENOTSOCK, mtcp_recv(m, mon, NULL, 0, 0));
	ROW(-1, ENOTSOCK, mtcp_read(m, mon, NULL, 10));
	ROW(-1, ENOTSOCK, mtcp_readv(m, mon, NULL, -1));
	ROW(-1, ENOTSOCK, mtcp_write(m, mon, NULL, SIZE_MAX));
	ROW(-1, ENOTSOCK, mtcp_writev(m, mon, NULL, INT_MAX));
	ROW(0, ANY, mtcp_setsock_nonblock(m, mon)); /* works on any used id */
	ROW(-1, EFAULT, mtcp_pipe(m, NULL));
	ROW(-1, EINVAL, mtcp_epoll_create(m, 0));
	ROW(-1, EINVAL, mtcp_epoll_create(m, INT_MIN));
	ROW(-1, EINVAL, mtcp_epoll_ctl(m, mon, MOS_EPOLL_CTL_ADD, mon, &event));
	ROW(-1, EINVAL, mtcp_epoll_wait(m, mon, NULL, 0, 0));
	COMES_BACK(mtcp_init_rss(m, 0, INT_MIN, 0, 0));
}

/* Pipes: what is half-duplex, full, empty, closed. */
static void pipes(mctx_t m)
{
	static char much[20000];
	int p[2], i;
	ROW(0, ANY, mtcp_pipe(m, p));
	ROW(1, ANY, p[0] >= 0 && p[0] < 1000 && p[1] >= 0 && p[1] < 1000 && p[0] != p[1] && p[0] != mon && p[1] != mon);
	ROW(-1, ENOTSOCK, mtcp_bind(m, p[0], (struct sockaddr *)addr, sizeof addr[0]));
	ROW(-1, ENOTSOCK, mtcp_listen(m, p[0], 5));
	ROW(-1, EINVAL, mtcp_accept(m, p[0], NULL, NULL));
	ROW(-1, ENOTSOCK, mtcp_connect(m, p[0], (struct sockaddr *)addr, sizeof addr[0]));
	ROW(-1, ENOTSOCK, mtcp_abort(m, p[0]));
	ROW(-1, ENOTSOCK, mtcp_shutdown(m, p[0], SHUT_WR));
	ROW(-1, ENOTSOCK, mtcp_readv(m, p[0], &vec, 1));
	ROW(-1, ENOTSOCK, mtcp_writev(m, p[1], &vec, 1));
	ROW(-1, EBADF, mtcp_ioctl(m, p[0], FIONREAD, &i));
	ROW(-1, ENOTSOCK, mtcp_getsockopt(m, p[0], SOL_SOCKET, SO_ERROR, &i, &len16));
	ROW(-1, ENOPROTOOPT, mtcp_bind_monitor_filter(m, p[0], &syn_port80));
	ROW(-1, EINVAL, mtcp_register_callback(m, p[0], MOS_ON_PKT_IN, MOS_HK_SND, cb));
	for (i = 0; i < 2; i++)
		ROW(0, ANY, mtcp_setsock_nonblock(m, p[i]));
	ROW(-1, EAGAIN, mtcp_read(m, p[0], bytes, sizeof bytes));
	ROW(-1, EAGAIN, mtcp_read(m, p[0], NULL, 0));
	ROW(-1, EFAULT, mtcp_read(m, p[0], NULL, 1));
	ROW(-1, EFAULT, mtcp_write(m, p[1], NULL, 1));
	ROW(-1, EINVAL, mtcp_recv(m, p[0], bytes, 1, MSG_OOB));
	ROW(-1, EBADF, mtcp_read(m, p[1], bytes, 1));
	ROW(-1, EBADF, mtcp_write(m, p[0], bytes, 1));
	ROW(3, ANY, mtcp_write(m, p[1], "abc", 3));
	ROW(2, ANY, mtcp_recv(m, p[0], bytes, 2, MSG_PEEK));
	ROW(3, ANY, mtcp_read(m, p[0], bytes, sizeof bytes));
	ROW(0, ANY, memcmp(bytes, "abc", 3));
	ROW(10240, ANY, mtcp_write(m, p[1], much, sizeof much));
	ROW(-1, EAGAIN, mtcp_write(m, p[1], much, 1));
	ROW(0, ANY, mtcp_close(m, p[1]));
	ROW(10240, ANY, mtcp_read(m, p[0], much, sizeof much));
	ROW(0, ANY, mtcp_read(m, p[0], much, sizeof much));
	ROW(0, ANY, mtcp_close(m, p[0]));
	ROW(-1, EBADF, mtcp_close(m, p[0]));
	ROW(-1, EBADF, mtcp_read(m, p[0], bytes, 1));
	ROW(0, ANY, mtcp_pipe(m, p));
	ROW(0, ANY, mtcp_close(m, p[0]));
	ROW(-1, EPIPE, mtcp_write(m, p[1], bytes, 1));
	ROW(0, ANY, mtcp_close(m, p[1]));
}

/* Stream sockets: what a new one, a bound one and a listener refuse. No packet flows yet. */
static void streams(mctx_t m)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(80) }, got;
	struct linger lin = { 1, 0 };
	struct mtcp_epoll_event e = { MOS_EPOLLIN, { .u64 = 1 } };
	struct iovec none = { NULL, 0 }, wrong = { NULL, 10 };
	int s = mtcp_socket(m, AF_INET, SOCK_STREAM, 0), two, v = 1, ep = mtcp_epoll_create(m, 1);
	socklen_t l = sizeof v;
	ROW(1, ANY, s >= 0 && s < 1000 && s != mon && s != raw);
	/* new */
	ROW(-1, EAFNOSUPPORT, mtcp_socket(m, AF_INET6, SOCK_STREAM, 0));
	ROW(-1, ENOTCONN, mtcp_read(m, s, bytes, sizeof bytes));
	ROW(-1, ENOTCONN, mtcp_recv(m, s, bytes, sizeof bytes, MSG_PEEK));
	ROW(-1, EINVAL, mtcp_recv(m, s, bytes, sizeof bytes, MSG_OOB));
	ROW(-1, ENOTCONN, mtcp_write(m, s, bytes, sizeof bytes));
	ROW(-1, EFAULT, mtcp_read(m, s, NULL, 1));
	ROW(-1, EFAULT, mtcp_write(m, s, NULL, SIZE_MAX));
	ROW(-1, ENOTCONN, mtcp_readv(m, s, &vec, 1));
	ROW(-1, ENOTCONN, mtcp_writev(m, s, &vec, 1));
	ROW(0, ANY, mtcp_readv(m, s, &none, 1));
	ROW(-1, EINVAL, mtcp_readv(m, s, &vec, -1));
	ROW(-1, EINVAL, mtcp_writev(m, s, &vec, INT_MAX));
	ROW(-1, EFAULT, mtcp_readv(m, s, NULL, 1));
	ROW(-1, EFAULT, mtcp_writev(m, s, &wrong, 1));
	ROW(-1, ENOTCONN, mtcp_shutdown(m, s, SHUT_WR));
	ROW(-1, EINVAL, mtcp_shutdown(m, s, 99));
	ROW(-1, EINVAL, mtcp_accept(m, s, NULL, NULL));
	ROW(-1, ENOTCONN, mtcp_getpeername(m, s, (struct sockaddr *)&got, &len16, 0));
	ROW(-1, EFAULT, mtcp_getsockname(m, s, NULL, &len16));
	ROW(-1, EFAULT, mtcp_getsockname(m, s, (struct sockaddr *)&got, NULL));
	l = 0;
	ROW(-1, EINVAL, mtcp_getsockname(m, s, (struct sockaddr *)&got, &l));
	ROW(-1, EFAULT, mtcp_ioctl(m, s, FIONREAD, NULL));
	ROW(-1, EBADF, mtcp_ioctl(m, s, FIONREAD, &v));
	ROW(-1, EINVAL, mtcp_ioctl(m, s, 0x7777, &v));
	v = 1;
	ROW(0, ANY, mtcp_ioctl(m, s, FIONBIO, &v));
	v = 0;
	ROW(0, ANY, mtcp_ioctl(m, s, FIONBIO, &v));
	/* options */
	l = sizeof v;
	ROW(-1, EBADF, mtcp_getsockopt(m, s, SOL_SOCKET, SO_ERROR, &v, &l));
	ROW(-1, ENOSYS, mtcp_getsockopt(m, s, SOL_SOCKET, 9999, &v, &l));
	ROW(-1, ENOSYS, mtcp_getsockopt(m, s, 77, SO_ERROR, &v, &l));
	ROW(-1, EFAULT, mtcp_getsockopt(m, s, SOL_SOCKET, SO_KEEPALIVE, NULL, &l));
	ROW(-1, ENOSYS, mtcp_setsockopt(m, s, SOL_SOCKET, 9999, &v, sizeof v));
	ROW(-1, EFAULT, mtcp_setsockopt(m, s, SOL_SOCKET, SO_REUSEADDR, NULL, sizeof v));
	ROW(-1, EINVAL, mtcp_setsockopt(m, s, SOL_SOCKET, SO_REUSEADDR, &v, 1));
	ROW(-1, EINVAL, mtcp_setsockopt(m, s, SOL_SOCKET, SO_LINGER, &lin, 4));
	v = 1;
	ROW(0, ANY, mtcp_setsockopt(m, s, SOL_SOCKET, SO_REUSEADDR, &v, sizeof v));
	ROW(0, ANY, mtcp_setsockopt(m, s, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof v));
	ROW(0, ANY, mtcp_setsockopt(m, s, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v));
	ROW(-1, EINVAL, (v = 87, mtcp_setsockopt(m, s, IPPROTO_TCP, TCP_MAXSEG, &v, sizeof v)));
	ROW(-1, EINVAL, (v = 32768, mtcp_setsockopt(m, s, IPPROTO_TCP, TCP_MAXSEG, &v, sizeof v)));
	ROW(0, ANY, (v = 1000, mtcp_setsockopt(m, s, IPPROTO_TCP, TCP_MAXSEG, &v, sizeof v)));
	ROW(-1, EINVAL, (v = 0, mtcp_setsockopt(m, s, IPPROTO_IP, IP_TTL, &v, sizeof v)));
	ROW(-1, EINVAL, (v = 256, mtcp_setsockopt(m, s, IPPROTO_IP, IP_TTL, &v, sizeof v)));
	ROW(0, ANY, (v = 7, mtcp_setsockopt(m, s, IPPROTO_IP, IP_TTL, &v, sizeof v)));
	ROW(-1, ENOSYS, mtcp_setsockopt(m, s, IPPROTO_IP, IP_HDRINCL, &v, sizeof v));
	ROW(-1, EINVAL, mtcp_setsockopt(m, s, IPPROTO_IP, IP_TOS, &v, 1));
	ROW(0, ANY, (v = 0xff, mtcp_setsockopt(m, s, IPPROTO_IP, IP_TOS, &v, sizeof v)));
	ROW(0, ANY, mtcp_getsockopt(m, s, IPPROTO_IP, IP_TOS, &v, &l));
	ROW(0xfc, ANY, v);
	ROW(0, ANY, mtcp_getsockopt(m, s, IPPROTO_IP, IP_TTL, &v, &l));
	ROW(7, ANY, v);
	ROW(0, ANY, (v = -1, mtcp_setsockopt(m, s, IPPROTO_IP, IP_TTL, &v, sizeof v)));
	ROW(0, ANY, mtcp_getsockopt(m, s, IPPROTO_IP, IP_TTL, &v, &l));
	ROW(64, ANY, v);
	v = 1;
	ROW(0, ANY, mtcp_setsockopt(m, s, SOL_SOCKET, SO_LINGER, &lin, sizeof lin));
	v = 20000;
	ROW(0, ANY, mtcp_setsockopt(m, s, SOL_SOCKET, SO_RCVBUF, &v, sizeof v));
	ROW(0, ANY, mtcp_setsockopt(m, s, SOL_SOCKET, SO_SNDBUF, &v, sizeof v));
	v = 0;
	ROW(0, ANY, mtcp_getsockopt(m, s, SOL_SOCKET, SO_RCVBUF, &v, &l));
	ROW(20000, ANY, v);
	ROW(0, ANY, mtcp_getsockopt(m, s, IPPROTO_TCP, TCP_NODELAY, &v, &l));
	ROW(1, ANY, v);
	/* binding */
	ROW(-1, EINVAL, mtcp_bind(m, s, NULL, sizeof a));
	ROW(-1, EINVAL, mtcp_bind(m, s, (struct sockaddr *)&a, sizeof a - 1));
	a.sin_family = AF_INET6;
	ROW(-1, EINVAL, mtcp_bind(m, s, (struct sockaddr *)&a, sizeof a));
	ROW(-1, EAFNOSUPPORT, mtcp_connect(m, s, (struct sockaddr *)&a, sizeof a));
	a.sin_family = AF_INET;
	ROW(0, ANY, mtcp_bind(m, s, (struct sockaddr *)&a, sizeof a));
	ROW(-1, EINVAL, mtcp_bind(m, s, (struct sockaddr *)&a, sizeof a));
	l = sizeof got;
	ROW(0, ANY, mtcp_getsockname(m, s, (struct sockaddr *)&got, &l));
	ROW(1, ANY, l == 16 && got.sin_port == htons(80));
	/* connecting: there is no route */
	ROW(-1, EFAULT, mtcp_connect(m, s, NULL, sizeof a));
	ROW(-1, EAFNOSUPPORT, mtcp_connect(m, s, (struct sockaddr *)&a, 4));
	a.sin_addr.s_addr = htonl(0x0a090807);
	ROW(-1, EINVAL, mtcp_connect(m, s, (struct sockaddr *)&a, sizeof a));
	a.sin_addr.s_addr = 0;
	/* listening */
	ROW(-1, EINVAL, mtcp_listen(m, s, 0));
	ROW(-1, EINVAL, mtcp_listen(m, s, -5));
	ROW(-1, EINVAL, mtcp_listen(m, s, 1001)); /* above max_concurrency; and the socket is what it was */
	ROW(0, ANY, mtcp_listen(m, s, 1000));
	ROW(0, ANY, mtcp_listen(m, s, 5));
	ROW(-1, ENOTSOCK, mtcp_connect(m, s, (struct sockaddr *)&a, sizeof a));
	ROW(-1, ENOTSOCK, mtcp_read(m, s, bytes, 1));
	ROW(-1, ENOTSOCK, mtcp_write(m, s, bytes, 1));
	ROW(-1, ENOTSOCK, mtcp_abort(m, s));
	ROW(-1, ENOTCONN, mtcp_shutdown(m, s, SHUT_WR));
	ROW(-1, EINVAL, mtcp_bind(m, s, (struct sockaddr *)&a, sizeof a));
	ROW(-1, EINVAL, mtcp_ioctl(m, s, FIONREAD, &v));
	ROW(0, ANY, mtcp_getsockopt(m, s, SOL_SOCKET, SO_ERROR, &v, &l));
	ROW(0, ANY, mtcp_getsockopt(m, s, SOL_SOCKET, SO_ACCEPTCONN, &v, &l));
	ROW(1, ANY, v);
	ROW(0, ANY, mtcp_setsock_nonblock(m, s));
	ROW(-1, EAGAIN, mtcp_accept(m, s, NULL, NULL));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, s, &e));
	two = mtcp_socket(m, AF_INET, SOCK_STREAM, 0);
	ROW(-1, EADDRINUSE, mtcp_bind(m, two, (struct sockaddr *)&a, sizeof a));
	a.sin_port = htons(81);
	ROW(0, ANY, mtcp_bind(m, two, (struct sockaddr *)&a, sizeof a));
	ROW(0, ANY, mtcp_listen(m, two, 5)); /* several listeners */
	ROW(0, ANY, mtcp_close(m, two));
	ROW(0, ANY, mtcp_close(m, s));
	ROW(-1, EBADF, mtcp_accept(m, s, NULL, NULL));
	ROW(0, ANY, mtcp_close(m, ep));
	s = mtcp_socket(m, AF_INET, SOCK_STREAM, 0);
	ROW(-1, ENOTCONN, mtcp_abort(m, s)); /* frees the id all the same */
	ROW(-1, EBADF, mtcp_close(m, s));
	s = mtcp_socket(m, AF_INET, SOCK_STREAM, 0);
	ROW(-1, ENOTCONN, mtcp_close(m, s));
	ROW(-1, EBADF, mtcp_close(m, s));
	ROW(-1, EINVAL, mtcp_init_rss(m, 0, 1, htonl(0x0a090807), htons(80))); /* no route */
	ROW(-1, EINVAL, mtcp_init_rss(m, htonl(0x0a090801), 0, htonl(0x0a090807), htons(80)));
	ROW(-1, EINVAL, mtcp_init_rss(m, htonl(0x0a090801), -1, htonl(0x0a090807), htons(80)));
	ROW(0, ANY, mtcp_init_rss(m, htonl(0x0a090801), 3, htonl(0x0a090807), htons(80)));
}

/* Epoll objects: control, masks, triggers. A wait would start the replay, so what is reported is seen elsewhere. */
static void epolls(mctx_t m)
{
	struct mtcp_epoll_event e = { MOS_EPOLLIN | MOS_EPOLLET, { .u64 = 0x1234567890 } };
	int p[2], ep, other;
	ep = mtcp_epoll_create(m, 1);
	other = mtcp_epoll_create(m, 3000000); /* a hint */
	ROW(1, ANY, ep >= 0 && ep < 1000 && other >= 0 && other < 1000 && ep != other);
	ROW(0, ANY, mtcp_pipe(m, p));
	ROW(-1, EINVAL, mtcp_epoll_ctl(m, p[0], MOS_EPOLL_CTL_ADD, p[0], &e));
	ROW(-1, EBADF, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, -1, &e));
	ROW(-1, EBADF, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, HUGE_ID, &e));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, UNUSED_ID, &e)); /* K10: taken, and nothing comes of it */
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_MOD, UNUSED_ID, &e));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_DEL, UNUSED_ID, NULL));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, mon, &e));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_MOD, mon, &e));
	ROW(-1, EINVAL, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, UNUSED_ID, NULL));
	ROW(-1, EINVAL, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, other, &e));
	ROW(-1, EINVAL, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, p[0], NULL));
	ROW(-1, ENOENT, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_MOD, p[0], &e));
	ROW(-1, ENOENT, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_DEL, p[0], &e));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, p[0], &e));
	ROW(-1, EEXIST, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, p[0], &e));
	ROW(0, ANY, mtcp_epoll_ctl(m, other, MOS_EPOLL_CTL_ADD, p[0], &e));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_MOD, p[0], &e));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, 77, p[0], &e)); /* K10 */
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_DEL, p[0], NULL));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_DEL, p[0], NULL)); /* K9 */
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, p[0], &e));
	ROW(0, ANY, mtcp_close(m, p[0]));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_DEL, p[0], NULL)); /* watched no more */
	ROW(-1, EINVAL, mtcp_epoll_wait(m, ep, NULL, 1, 0));
	ROW(-1, EINVAL, mtcp_epoll_wait(m, ep, &event, 0, 0));
	ROW(-1, EINVAL, mtcp_epoll_wait(m, ep, &event, INT_MIN, 0));
	ROW(-1, EINVAL, mtcp_epoll_wait(m, p[1], &event, 1, 0));
	ROW(0, ANY, mtcp_close(m, ep));
	ROW(0, ANY, mtcp_close(m, other));
	ROW(0, ANY, mtcp_close(m, p[1]));
	ROW(-1, EBADF, mtcp_epoll_wait(m, ep, &event, 1, 0));
}

/* ---- the application's thread ---- */

static void from_app_thread(mctx_t m)
{
	int v = 0;
	socklen_t l = sizeof v;
	where = "application thread";
	without_context(NULL, EACCES);
	sockets(m);
	filters(m);
	registration(m);
	timers_and_counters(m);
	options(m);
	end_host(m);
	pipes(m);
	streams(m);
	epolls(m);
	ROW(0, ANY, mtcp_create_context(0)); /* it exists */
	ROW(-1, ANY, mtcp_raise_event(m, 4096));
	ROW(-1, ANY, mtcp_raise_event(m, MOS_ON_PKT_IN));
	VOID_ROW(UNTOUCHED, mtcp_set_uctx(m, mon, bytes)); /* silently ignored */
	ROW(0, EPERM, mtcp_get_uctx(m, mon));
	ROW(0, EPERM, mtcp_get_uctx(m, -1)); /* the thread is looked at first */
	ROW(-1, EPERM, mtcp_peek(m, mon, MOS_SIDE_SVR, bytes, sizeof bytes));
	ROW(-1, EPERM, mtcp_peek(m, -1, 7, NULL, SIZE_MAX));
	ROW(-1, EPERM, mtcp_ppeek(m, mon, MOS_SIDE_SVR, bytes, sizeof bytes, 0));
	ROW(-1, EPERM, mtcp_ppeek(m, HUGE_ID, -1, NULL, SIZE_MAX, UINT64_MAX));
	ROW(-1, EPERM, mtcp_getlastpkt(m, mon, MOS_SIDE_CLI, &pkt));
	ROW(-1, EPERM, mtcp_setlastpkt(m, mon, MOS_SIDE_CLI, 0, NULL, 0, MOS_DROP));
	ROW(-1, EACCES, mtcp_sendpkt(m, mon, NULL)); /* before the thread */
	ROW(-1, EPERM, mtcp_sendpkt(m, mon, &pkt));
	ROW(-1, EBADF, mtcp_getpeername(m, -1, (struct sockaddr *)addr, &len32, MOS_SIDE_BOTH)); /* before the thread */
	ROW(-1, EBADF, mtcp_getpeername(m, HUGE_ID, (struct sockaddr *)addr, &len32, MOS_SIDE_BOTH));
	ROW(-1, EPERM, mtcp_getpeername(m, mon, (struct sockaddr *)addr, &len32, MOS_SIDE_BOTH));
	ROW(0, EPERM, mtcp_cb_get_ts(m));
	ROW(-1, EPERM, mtcp_cb_dropcurpkt(m));
	ROW(-1, EINVAL, mtcp_reset_conn(m, mon));
	ROW(-1, EBADF, mtcp_reset_conn(m, -1));
	ROW(-1, EBADF, mtcp_reset_conn(m, HUGE_ID));
	ROW(-1, ANY, mtcp_cb_stop(m, -1, MOS_SIDE_CLI));
	ROW(-1, ANY, mtcp_cb_stop(m, HUGE_ID, MOS_SIDE_CLI));
	ROW(-1, ANY, mtcp_cb_stop(m, UNUSED_ID, MOS_SIDE_CLI));
	ROW(-1, EPERM, mtcp_getsockopt(m, mon, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &v, &l));
}

/* ---- inside callbacks ---- */

/* What holds in every callback, with or without a packet. flow: the id of a live flow. */
static void from_any_callback(mctx_t m, int flow)
{
	static const int none[] = { -1, INT_MIN, HUGE_ID, 1000 };
	int v = 0;
	socklen_t l = sizeof v;
	size_t i;
	without_context(NULL, EACCES);
	filters(m);
	options(m);
	end_host(m);
	VOID_ROW(EDEADLK, mtcp_app_join(m));
	ROW(0, ANY, mtcp_create_context(0));
	for (i = 0; i < sizeof none / sizeof *none; i++) {
		int s = none[i];
		ROW(-1, EBADF, mtcp_peek(m, s, MOS_SIDE_SVR, bytes, sizeof bytes));
		ROW(-1, EBADF, mtcp_ppeek(m, s, MOS_SIDE_SVR, bytes, sizeof bytes, 0));
		ROW(-1, EBADF, mtcp_getpeername(m, s, (struct sockaddr *)addr, &len32, MOS_SIDE_BOTH));
		ROW(0, EBADF, mtcp_get_uctx(m, s));
		VOID_ROW(EBADF, mtcp_set_uctx(m, s, bytes));
		ROW(-1, EBADF, mtcp_reset_conn(m, s));
		ROW(-1, EBADF, mtcp_cb_stop(m, s, MOS_SIDE_CLI));
		ROW(-1, EBADF, mtcp_register_callback(m, s, MOS_ON_PKT_IN, MOS_HK_SND, cb));
		ROW(-1, EBADF, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &v, &l));
		ROW(-1, EBADF, mtcp_close(m, s));
	}
	/* an unused id, a listener, a raw socket */
	ROW(-1, EBADF, mtcp_peek(m, UNUSED_ID, MOS_SIDE_SVR, bytes, sizeof bytes));
	ROW(-1, EBADF, mtcp_peek(m, mon, MOS_SIDE_SVR, bytes, sizeof bytes));
	ROW(-1, EBADF, mtcp_peek(m, raw, MOS_SIDE_SVR, bytes, sizeof bytes));
	ROW(-1, ESOCKTNOSUPPORT, mtcp_ppeek(m, UNUSED_ID, MOS_SIDE_SVR, bytes, sizeof bytes, 0));
	ROW(-1, ESOCKTNOSUPPORT, mtcp_ppeek(m, mon, MOS_SIDE_SVR, bytes, sizeof bytes, 0));
	ROW(-1, ENOTCONN, mtcp_getpeername(m, UNUSED_ID, (struct sockaddr *)addr, &len32, MOS_SIDE_BOTH));
	ROW(-1, ENOTCONN, mtcp_getpeername(m, mon, (struct sockaddr *)addr, &len32, MOS_SIDE_BOTH));
	ROW(0, UNTOUCHED, mtcp_get_uctx(m, UNUSED_ID));
	VOID_ROW(UNTOUCHED, mtcp_set_uctx(m, UNUSED_ID, bytes));
	ROW(-1, EINVAL, mtcp_reset_conn(m, mon));
	ROW(-1, ENOTSOCK, mtcp_getsockopt(m, mon, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &v, &l));
	ROW(-1, ENOTSOCK, mtcp_getsockopt(m, UNUSED_ID, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &v, &l));
	/* the flow itself */
	ROW(-1, ENOPROTOOPT, mtcp_bind_monitor_filter(m, flow, &syn_port80));
	ROW(-1, EINVAL, mtcp_peek(m, flow, MOS_SIDE_BOTH, bytes, sizeof bytes));
	ROW(-1, EINVAL, mtcp_peek(m, flow, -1, bytes, sizeof bytes));
	ROW(-1, EINVAL, mtcp_peek(m, flow, INT_MAX, bytes, sizeof bytes));
	ROW(0, ANY, mtcp_peek(m, flow, MOS_SIDE_CLI, bytes, 0));
	ROW(0, ANY, mtcp_peek(m, flow, MOS_SIDE_CLI, NULL, 0));
	COMES_BACK(mtcp_peek(m, flow, MOS_SIDE_CLI, NULL, SIZE_MAX));
	ROW(-1, EINVAL, mtcp_ppeek(m, flow, MOS_SIDE_BOTH, bytes, sizeof bytes, 0));
	ROW(-1, EINVAL, mtcp_ppeek(m, flow, INT_MIN, bytes, sizeof bytes, 0));
	COMES_BACK(mtcp_ppeek(m, flow, MOS_SIDE_CLI, NULL, SIZE_MAX, UINT64_MAX));
	ROW(0, ANY, mtcp_getpeername(m, flow, (struct sockaddr *)addr, &len32, MOS_SIDE_BOTH));
	ROW(0, ANY, mtcp_getpeername(m, flow, (struct sockaddr *)addr, &len16, MOS_SIDE_CLI));
	ROW(0, ANY, mtcp_getpeername(m, flow, (struct sockaddr *)addr, &len16, MOS_SIDE_SVR));
	ROW(-1, EINVAL, mtcp_getpeername(m, flow, (struct sockaddr *)addr, &len16, MOS_SIDE_BOTH));
	ROW(-1, EINVAL, mtcp_getpeername(m, flow, (struct sockaddr *)addr, &len32, MOS_SIDE_CLI));
	ROW(-1, EINVAL, mtcp_getpeername(m, flow, (struct sockaddr *)addr, &len17, MOS_SIDE_SVR));
	ROW(-1, EINVAL, mtcp_getpeername(m, flow, (struct sockaddr *)addr, &len16, -1));
	ROW(-1, EINVAL, mtcp_getpeername(m, flow, (struct sockaddr *)addr, &len16, 3));
	ROW(-1, ANY, mtcp_getpeername(m, flow, NULL, &len32, MOS_SIDE_BOTH));
	ROW(-1, ANY, mtcp_getpeername(m, flow, (struct sockaddr *)addr, NULL, MOS_SIDE_BOTH));
	ROW(-1, ENOSYS, mtcp_getsockopt(m, flow, SOL_MONSOCKET, 99, &v, &l));
	ROW(-1, ENOSYS, mtcp_getsockopt(m, flow, SOL_MONSOCKET, MOS_CLIBUF, &v, &l));
	ROW(-1, ANY, mtcp_getsockopt(m, flow, SOL_MONSOCKET, MOS_TCP_STATE_CLI, NULL, NULL));
	ROW(-1, ENOSYS, mtcp_setsockopt(m, flow, SOL_MONSOCKET, 99, &v, sizeof v));
	ROW(-1, ENOSYS, mtcp_setsockopt(m, flow, SOL_MONSOCKET, MOS_SEQ_REMAP, &v, sizeof v));
	ROW(-1, EACCES, mtcp_sendpkt(m, flow, NULL));
	memset(&pkt, 0, sizeof pkt);
	ROW(-1, ENODATA, mtcp_sendpkt(m, flow, &pkt));
	ROW(-1, ANY, mtcp_raise_event(m, MOS_ON_PKT_IN));
	ROW(-1, ANY, mtcp_raise_event(m, 99999));
	ROW(-1, UNTOUCHED, mtcp_register_callback(m, flow, 0, MOS_HK_SND, cb));
	ROW(-1, EINVAL, mtcp_register_callback(m, flow, MOS_ON_CONN_END, MOS_NULL, cb));
	ROW(1, ANY, mtcp_cb_get_ts(m) == mtcp_cb_get_ts(m)); /* constant within an iteration */
}

static void with_packet(mctx_t m, int flow)
{
	static const int none[] = { -1, INT_MIN, HUGE_ID, UNUSED_ID };
	struct pkt_info p;
	size_t i;
	byte b[64] = { 0 };
	for (i = 0; i < sizeof none / sizeof *none; i++)
		ROW(-1, EBADF, mtcp_getlastpkt(m, none[i], MOS_SIDE_CLI, &p));
	ROW(0, ANY, mtcp_getlastpkt(m, mon, MOS_SIDE_CLI, &p)); /* any monitor socket, any side */
	ROW(0, ANY, mtcp_getlastpkt(m, flow, 99, &p));
	ROW(-1, ANY, mtcp_getlastpkt(m, flow, MOS_SIDE_CLI, NULL));
	ROW(-1, EINVAL, mtcp_setlastpkt(m, flow, 0, -1, b, 1, MOS_TCP_HDR | MOS_OVERWRITE));
	ROW(-1, EAGAIN, mtcp_setlastpkt(m, flow, 0, 0, b, 1, 0));
	ROW(-1, EAGAIN, mtcp_setlastpkt(m, flow, 0, 0, b, 1, MOS_TCP_HDR));
	ROW(-1, EAGAIN, mtcp_setlastpkt(m, flow, 0, 0, b, 1, MOS_DROP | MOS_OVERWRITE));
	ROW(-1, EAGAIN, mtcp_setlastpkt(m, flow, 0, 0, b, 1, MOS_TCP_HDR | MOS_CHOMP | MOS_INSERT));
	ROW(-1, EAGAIN, mtcp_setlastpkt(m, flow, 0, 0, b, 1, -1));
	ROW(-1, EINVAL, mtcp_setlastpkt(m, flow, 0, 0, b, 1, MOS_OVERWRITE));
	ROW(-1, EINVAL, mtcp_setlastpkt(m, flow, 0, 10, b, 5, MOS_ETH_HDR | MOS_OVERWRITE));
	ROW(-1, EACCES, mtcp_setlastpkt(m, flow, 0, 0, b, 1, MOS_ETH_HDR | MOS_CHOMP));
	ROW(-1, EACCES, mtcp_setlastpkt(m, flow, 0, 0, b, 1, MOS_ETH_HDR | MOS_INSERT));
	ROW(-1, EINVAL, mtcp_setlastpkt(m, flow, 0, 16, b, 5, MOS_IP_HDR | MOS_OVERWRITE));
	ROW(-1, EINVAL, mtcp_setlastpkt(m, flow, 0, 16, b, 5, MOS_TCP_HDR | MOS_OVERWRITE));
	ROW(-1, EINVAL, mtcp_setlastpkt(m, flow, 0, 18, b, 1, MOS_TCP_PAYLOAD | MOS_OVERWRITE));
	ROW(-1, EINVAL, mtcp_setlastpkt(m, flow, 0, (off_t)1 << 62, b, 1, MOS_TCP_PAYLOAD | MOS_OVERWRITE));
	COMES_BACK(mtcp_setlastpkt(m, flow, 0, 0, NULL, 4, MOS_TCP_PAYLOAD | MOS_OVERWRITE));
	COMES_BACK(mtcp_setlastpkt(m, flow, 0, 0, NULL, UINT16_MAX, MOS_TCP_PAYLOAD | MOS_CHOMP));
	ROW(0, ANY, mtcp_setlastpkt(m, -1, 7, 0, NULL, 0, MOS_DROP)); /* K10: id and side are not looked at */
	ROW(0, ANY, mtcp_setlastpkt(m, flow, 0, 0, NULL, 0, MOS_DROP | MOS_IP_HDR));
	ROW(0, ANY, mtcp_cb_dropcurpkt(m));
}

static void without_packet(mctx_t m, int flow)
{
	struct pkt_info p;
	byte b = 0;
	ROW(-1, EACCES, mtcp_getlastpkt(m, flow, MOS_SIDE_CLI, &p));
	ROW(-1, EBADF, mtcp_getlastpkt(m, -1, MOS_SIDE_CLI, &p));
	ROW(-1, ENODATA, mtcp_setlastpkt(m, flow, 0, 0, NULL, 0, MOS_DROP));
	ROW(-1, ENODATA, mtcp_setlastpkt(m, flow, 0, -1, &b, 1, 0)); /* before the arguments */
	ROW(-1, ENODATA, mtcp_cb_dropcurpkt(m));
}

/* Inside a callback nothing blocks. */
static void epoll_in_callback(mctx_t m)
{
	struct mtcp_epoll_event e = { MOS_EPOLLIN, { .u64 = 7 } };
	int p[2], ep = mtcp_epoll_create(m, 1);
	ROW(0, ANY, mtcp_pipe(m, p));
	ROW(-1, EAGAIN, mtcp_read(m, p[0], bytes, sizeof bytes));
	ROW(0, ANY, mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, p[0], &e));
	ROW(0, ANY, mtcp_epoll_wait(m, ep, &event, 1, -1));
	ROW(1, ANY, mtcp_write(m, p[1], "x", 1));
	ROW(1, ANY, mtcp_epoll_wait(m, ep, &event, 1, -1));
	ROW(1, ANY, event.events == MOS_EPOLLIN && event.data.u64 == 7);
	ROW(0, ANY, mtcp_close(m, p[0]));
	ROW(0, ANY, mtcp_close(m, p[1]));
	ROW(0, ANY, mtcp_close(m, ep));
}

static int starts, requests, news, ends, first_flow = -1;

static void on_start(mctx_t m, int s, int side, event_t e, filter_arg_t *a)
{
	int v = 0;
	socklen_t l = sizeof v;
	starts++;
	where = starts == 1 ? "first SYN" : "second SYN";
	if (starts == 1)
		first_flow = s;
	ROW(0, ANY, mtcp_get_uctx(m, s));
	/* there is no server side yet */
	ROW(-1, UNTOUCHED, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_TCP_STATE_SVR, &v, &l));
	ROW(-1, EINVAL, mtcp_peek(m, s, MOS_SIDE_SVR, bytes, sizeof bytes));
	ROW(-1, EACCES, mtcp_ppeek(m, s, MOS_SIDE_SVR, bytes, sizeof bytes, 0));
	COMES_BACK(mtcp_setsockopt(m, s, SOL_MONSOCKET, MOS_SVROVERLAP, &v, sizeof v));
	COMES_BACK(mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_TIMESTAMP, &v, &l));
	from_any_callback(m, s);
	if (starts == 2 && s != first_flow) { /* the id of a flow that has ended */
		ROW(-1, EBADF, mtcp_peek(m, first_flow, MOS_SIDE_CLI, bytes, sizeof bytes));
		ROW(-1, ESOCKTNOSUPPORT, mtcp_ppeek(m, first_flow, MOS_SIDE_CLI, bytes, sizeof bytes, 0));
		ROW(-1, ENOTCONN, mtcp_getpeername(m, first_flow, (struct sockaddr *)addr, &len32, MOS_SIDE_BOTH));
		ROW(0, UNTOUCHED, mtcp_get_uctx(m, first_flow));
		ROW(-1, EINVAL, mtcp_register_callback(m, first_flow, MOS_ON_PKT_IN, MOS_HK_SND, cb));
		ROW(-1, ENOTSOCK, mtcp_getsockopt(m, first_flow, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &v, &l));
		ROW(-1, EBADF, mtcp_close(m, first_flow));
	}
}

/* The request, as the client sends it: nothing has reached the server side's buffer yet. */
static void on_packet(mctx_t m, int s, int side, event_t e, filter_arg_t *a)
{
	struct tcp_buf_info info;
	struct tcp_ring_fragment frag[4];
	socklen_t l;
	struct pkt_info p;
	int v = 7;
	if (mtcp_getlastpkt(m, s, side, &p) || !p.payloadlen)
		return;
	requests++;
	where = "packet";
	ROW(0, ANY, mtcp_peek(m, s, MOS_SIDE_SVR, bytes, sizeof bytes));
	ROW(-1, EPERM, mtcp_ppeek(m, s, MOS_SIDE_SVR, bytes, sizeof bytes, 0));
	l = sizeof info;
	ROW(-1, ENODATA, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_INFO_SVRBUF, &info, &l));
	ROW(0, ANY, l);
	l = sizeof info - 1;
	ROW(-1, EINVAL, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_INFO_SVRBUF, &info, &l));
	l = 4;
	ROW(-1, ANY, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_FRAGINFO_SVRBUF, frag, &l));
	ROW(-1, EFAULT, mtcp_setsockopt(m, s, SOL_MONSOCKET, MOS_SVROVERLAP, &v, sizeof v));
	from_any_callback(m, s);
	with_packet(m, s);
}

static void on_data(mctx_t m, int s, int side, event_t e, filter_arg_t *a)
{
	struct tcp_buf_info info;
	struct tcp_ring_fragment frag[2];
	socklen_t l;
	int v;
	news++;
	where = "new data";
	epoll_in_callback(m);
	ROW(0, ANY, mtcp_ppeek(m, s, side, bytes, 0, 0));
	ROW(18, ANY, mtcp_ppeek(m, s, side, bytes, sizeof bytes, 0));
	ROW(-1, UNTOUCHED, mtcp_ppeek(m, s, side, bytes, sizeof bytes, 18));
	ROW(-1, UNTOUCHED, mtcp_ppeek(m, s, side, bytes, sizeof bytes, UINT64_MAX));
	ROW(18, ANY, mtcp_peek(m, s, side, bytes, sizeof bytes));
	ROW(0, ANY, mtcp_peek(m, s, side, bytes, sizeof bytes)); /* D1 */
	l = sizeof info;
	ROW(0, ANY, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_INFO_SVRBUF, &info, &l));
	l = INT_MAX;
	ROW(-1, EINVAL, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_INFO_SVRBUF, &info, &l));
	ROW(-1, ANY, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_INFO_SVRBUF, NULL, &l));
	ROW(-1, ANY, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_INFO_SVRBUF, &info, NULL));
	/* D9: the length is a number of elements, and no more are written */
	memset(frag, 0x55, sizeof frag);
	l = 1;
	ROW(0, ANY, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_FRAGINFO_SVRBUF, frag, &l));
	ROW(1, ANY, l == 1 && frag[0].offset == 0 && frag[0].len == 18 && frag[1].offset == 0x5555555555555555);
	l = 0;
	ROW(-1, ANY, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_FRAGINFO_SVRBUF, frag, &l));
	v = 7;
	ROW(-1, EINVAL, mtcp_setsockopt(m, s, SOL_MONSOCKET, MOS_SVROVERLAP, &v, sizeof v));
	v = 0;
	ROW(0, ANY, mtcp_setsockopt(m, s, SOL_MONSOCKET, MOS_SVROVERLAP, &v, sizeof v));
	from_any_callback(m, s);
	without_packet(m, s);
}

static void on_end(mctx_t m, int s, int side, event_t e, filter_arg_t *a)
{
	int v = 0;
	socklen_t l = sizeof v;
	ends++;
	where = "end";
	ROW(0, ANY, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &v, &l)); /* D7 */
	ROW(0, ANY, mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_TCP_STATE_SVR, &v, &l));
	ROW(18, ANY, mtcp_ppeek(m, s, MOS_SIDE_SVR, bytes, sizeof bytes, 0));
	from_any_callback(m, s);
	without_packet(m, s);
}

int main(int argc, char **argv)
{
	const char *conf = "mos.conf";
	int o, stopped;
	mctx_t m;
	while ((o = getopt(argc, argv, "f:")) != -1)
		if (o == 'f')
			conf = optarg;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGSEGV, crash);
	signal(SIGBUS, crash);
	signal(SIGFPE, crash);
	signal(SIGABRT, crash);
	fill();
	helpers();
	before_init();
	if (mtcp_init(conf)) {
		printf("mtcp_init failed\n");
		return 1;
	}
	configuration();
	user_events();
	if (!(m = mtcp_create_context(0)) || (mon = mtcp_socket(m, AF_INET, MOS_SOCK_MONITOR_STREAM, 0)) < 0 ||
	    (raw = mtcp_socket(m, AF_INET, MOS_SOCK_MONITOR_RAW, 0)) < 0) {
		printf("no context or sockets\n");
		return 1;
	}
	from_app_thread(m);
	/* on a listener STOP_MON works for later flows and still says EPERM (C117); not on the one that is used below */
	stopped = mtcp_socket(m, AF_INET, MOS_SOCK_MONITOR_STREAM, 0);
	o = MOS_SIDE_CLI;
	ROW(-1, EPERM, mtcp_setsockopt(m, stopped, SOL_MONSOCKET, MOS_STOP_MON, &o, sizeof o));
	ROW(0, ANY, mtcp_close(m, stopped));
	if (mtcp_register_callback(m, mon, MOS_ON_CONN_START, MOS_HK_SND, on_start) ||
	    mtcp_register_callback(m, mon, MOS_ON_PKT_IN, MOS_HK_SND, on_packet) ||
	    mtcp_register_callback(m, mon, MOS_ON_CONN_NEW_DATA, MOS_NULL, on_data) ||
	    mtcp_register_callback(m, mon, MOS_ON_CONN_END, MOS_HK_RCV, on_end)) {
		printf("registration failed\n");
		return 1;
	}
	mtcp_app_join(m);
	where = "after the join";
	ROW(1, ANY, starts == 2 && requests == 2 && news == 2 && ends == 4);
	COMES_BACK(mtcp_destroy_context(m));
	where = "stale context";
	without_context(m, EPERM);
	COMES_BACK(mtcp_destroy());
	COMES_BACK(mtcp_destroy());
	printf("badargs: %d rows, %d wrong\n", rows, bad);
	return bad != 0;
}
