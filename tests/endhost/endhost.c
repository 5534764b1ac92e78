/* endhost -f mos.conf MODE ...: end-host applications on libmos, for the tests of tests/endhost.
 *   serve               HTTP on port 80 (GET /N: N bytes; keep-alive), echo on port 7 (closes when the peer has), discard on
 *                       port 9; one epoll object, non-blocking, until SIGINT
 *   threads             the same echo with a blocking accept and a blocking thread for each connection
 *   get IP PORT PATH    HTTP/1.0 with blocking calls; the body to standard output
 *   refused IP PORT     says which error a connection gets
 *   linger IP PORT SECONDS NONBLOCKING   writes 200,000 bytes and closes with SO_LINGER; says how many milliseconds that took
 * Says "ready" when it listens. Byte n of a body is pattern(n). */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <mos_ext.h>
#include <mtcp_epoll.h>

#define MOST 20000

static volatile sig_atomic_t done;
static mctx_t m;

struct conn {
	int kind;               /* port */
	char in[2048];          /* request so far */
	size_t have;
	uint64_t at, end;       /* of the body on its way */
	int more, eof;          /* bytes of a head or an echo that wait, the peer has closed */
	char out[65536];
	size_t from, to;
};

static struct conn *conns[MOST];

static uint8_t pattern(uint64_t n)
{
	return (uint8_t)((n * 0x9e3779b9u) >> 13);
}

static void on_sigint(int signum)
{
	done = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static int listener(int port, int backlog)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int s = mtcp_socket(m, AF_INET, SOCK_STREAM, 0);
	if (s < 0 || mtcp_bind(m, s, (struct sockaddr *)&a, sizeof a) || mtcp_listen(m, s, backlog))
		die("listen");
	return s;
}

static void drop(int ep, int s)
{
	mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_DEL, s, NULL);
	mtcp_close(m, s);
	free(conns[s]);
	conns[s] = NULL;
}

static void want(int ep, int s, uint32_t events)
{
	struct mtcp_epoll_event e = { events, { .sock = s } };
	mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_MOD, s, &e);
}

/* Sends what there is. 0: all of it; 1: the rest waits; -1: the connection is lost. */
static int flush(struct conn *c, int s)
{
	for (;;) {
		if (c->from == c->to) {
			size_t n = 0;
			if (c->at == c->end)
				return 0;
			while (n < sizeof c->out && c->at < c->end)
				c->out[n++] = pattern(c->at++);
			c->from = 0;
			c->to = n;
		}
		ssize_t w = mtcp_write(m, s, c->out + c->from, c->to - c->from);
		if (w < 0)
			return errno == EAGAIN ? 1 : -1;
		c->from += w;
	}
}

/* Takes requests from what was read. -1: nonsense. */
static int requests(struct conn *c, int s)
{
	char *end;
	while (c->from == c->to && c->at == c->end && (end = memmem(c->in, c->have, "\r\n\r\n", 4))) {
		size_t head = end + 4 - c->in;
		uint64_t n;
		c->in[c->have < sizeof c->in ? c->have : sizeof c->in - 1] = 0;
		if (strncmp(c->in, "GET /", 5))
			return -1;
		n = strtoull(c->in + 5, NULL, 10);
		c->from = 0;
		c->to = snprintf(c->out, sizeof c->out,
				 "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n", (unsigned long long)n);
		c->at = 0;
		c->end = n;
		memmove(c->in, c->in + head, c->have - head);
		c->have -= head;
		if (flush(c, s) < 0)
			return -1;
	}
	return 0;
}

static void serve_one(int ep, int s, uint32_t event)
{
	struct conn *c = conns[s];
	int left;
	if (!c)
		return;
	if (event == MOS_EPOLLERR) {
		int err = 0;
		socklen_t len = sizeof err;
		if (mtcp_getsockopt(m, s, SOL_SOCKET, SO_ERROR, &err, &len) || !err)
			fprintf(stderr, "an error without a reason\n");
		drop(ep, s);
		return;
	}
	if (event == MOS_EPOLLIN) {
		for (;;) {
			char *to = c->in + c->have;
			size_t room = sizeof c->in - 1 - c->have;
			ssize_t r;
			if (c->kind == 7) {
				if (c->from < c->to)
					break;
				to = c->out;
				room = sizeof c->out;
			} else if (c->kind == 9) {
				to = c->out;
				room = sizeof c->out;
			}
			if (!room)
				break;
			r = mtcp_read(m, s, to, room);
			if (r < 0 && errno == EAGAIN)
				break;
			if (r <= 0) {
				c->eof = 1;
				if (r < 0 || (c->from == c->to && c->at == c->end)) {
					drop(ep, s);
					return;
				}
				break;
			}
			if (c->kind == 7) {
				c->from = 0;
				c->to = r;
				if (flush(c, s) < 0) {
					drop(ep, s);
					return;
				}
			} else if (c->kind == 80) {
				c->have += r;
				if (requests(c, s)) {
					drop(ep, s);
					return;
				}
			}
		}
	}
	left = flush(c, s);
	if (left == 0 && c->kind == 80 && requests(c, s))
		left = -1;
	if (left == 0)
		left = flush(c, s);
	if (left < 0 || (left == 0 && c->eof))
		drop(ep, s);
	else
		want(ep, s, left ? MOS_EPOLLOUT : MOS_EPOLLIN);
}

static int serve(void)
{
	static const int ports[] = { 80, 7, 9 };
	static struct mtcp_epoll_event events[64];
	int listeners[3], i, ep = mtcp_epoll_create(m, 3000000);
	for (i = 0; i < 3; i++) {
		struct mtcp_epoll_event e = { MOS_EPOLLIN, { .sock = listeners[i] = listener(ports[i], 4096) } };
		mtcp_setsock_nonblock(m, listeners[i]);
		if (mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, listeners[i], &e))
			die("epoll_ctl");
	}
	printf("ready\n");
	while (!done) {
		int k, n = mtcp_epoll_wait(m, ep, events, 64, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (k = 0; k < n; k++) {
			int s = events[k].data.sock, new;
			for (i = 0; i < 3 && listeners[i] != s; i++)
				;
			if (i == 3) {
				serve_one(ep, s, events[k].events);
				continue;
			}
			while ((new = mtcp_accept(m, s, NULL, NULL)) >= 0) {
				struct mtcp_epoll_event e = { MOS_EPOLLIN, { .sock = new } };
				mtcp_setsock_nonblock(m, new);
				if (new >= MOST || !(conns[new] = calloc(1, sizeof **conns)))
					die("too many");
				conns[new]->kind = ports[i];
				if (mtcp_epoll_ctl(m, ep, MOS_EPOLL_CTL_ADD, new, &e))
					die("epoll_ctl");
			}
		}
	}
	return 0;
}

static void *echo(void *arg)
{
	int s = (int)(intptr_t)arg;
	char buf[20000];
	ssize_t r, w, n;
	while ((r = mtcp_read(m, s, buf, sizeof buf)) > 0)
		for (n = 0; n < r; n += w)
			if ((w = mtcp_write(m, s, buf + n, r - n)) < 0)
				goto out;
	if (r < 0 && errno != EINTR)
		fprintf(stderr, "read: %s\n", strerror(errno));
out:
	mtcp_close(m, s);
	return NULL;
}

static int threads(void)
{
	int l = listener(7, 100), s;
	printf("ready\n");
	while ((s = mtcp_accept(m, l, NULL, NULL)) >= 0) {
		pthread_t t;
		if (pthread_create(&t, NULL, echo, (void *)(intptr_t)s))
			die("pthread_create");
		pthread_detach(t);
	}
	return errno == EINTR ? 0 : 1;
}

static int connect_to(char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
	int s = mtcp_socket(m, AF_INET, SOCK_STREAM, 0);
	a.sin_addr.s_addr = inet_addr(argv[0]);
	return s >= 0 && !mtcp_connect(m, s, (struct sockaddr *)&a, sizeof a) ? s : -1;
}

static int get(char **argv)
{
	char buf[65536], *body = NULL;
	size_t have = 0;
	int s = connect_to(argv), n;
	ssize_t r;
	if (s < 0)
		die("connect");
	n = snprintf(buf, sizeof buf, "GET %s HTTP/1.0\r\n\r\n", argv[2]);
	if (mtcp_write(m, s, buf, n) != n)
		die("write");
	while ((r = mtcp_read(m, s, buf + have, sizeof buf - have)) > 0) {
		have += r;
		if (!body && !(body = memmem(buf, have, "\r\n\r\n", 4)))
			continue;
		if (body) {
			size_t skip = body == buf ? 0 : body + 4 - buf;
			if (fwrite(buf + skip, 1, have - skip, stdout) != have - skip)
				die("stdout");
			body = buf;
			have = 0;
		}
	}
	if (r < 0)
		die("read");
	fflush(stdout);
	return mtcp_close(m, s) != 0;
}

static int linger(char **argv)
{
	static char bytes[200000];
	struct linger l = { 1, atoi(argv[2]) };
	struct timespec from, to;
	size_t have = 0;
	int s = connect_to(argv), ret;
	ssize_t r;
	if (s < 0)
		die("connect");
	for (; have < sizeof bytes; have += r)
		if ((r = mtcp_write(m, s, bytes + have, sizeof bytes - have)) <= 0)
			die("write");
	if (mtcp_setsockopt(m, s, SOL_SOCKET, SO_LINGER, &l, sizeof l))
		die("setsockopt");
	if (atoi(argv[3]))
		mtcp_setsock_nonblock(m, s);
	clock_gettime(CLOCK_MONOTONIC, &from);
	ret = mtcp_close(m, s);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%ld\n", (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000);
	fflush(stdout);
	/* The id is free, whatever happened. */
	return ret || mtcp_close(m, s) == 0;
}

int main(int argc, char **argv)
{
	int ret = 1;
	if (argc < 4 || mtcp_init(argv[2]))
		return 1;
	setvbuf(stdout, NULL, argv[3][0] == 'g' ? _IOFBF : _IOLBF, 0);
	mtcp_register_signal(SIGINT, on_sigint);
	mtcp_core_affinitize(0);
	if (!(m = mtcp_create_context(0)))
		die("context");
	if (!strcmp(argv[3], "serve"))
		ret = serve();
	else if (!strcmp(argv[3], "threads"))
		ret = threads();
	else if (!strcmp(argv[3], "get"))
		ret = get(argv + 4);
	else if (!strcmp(argv[3], "linger"))
		ret = linger(argv + 4);
	else if (!strcmp(argv[3], "refused")) {
		ret = connect_to(argv + 4) >= 0;
		printf("%s\n", strerror(errno));
	}
	mtcp_destroy_context(m);
	mtcp_destroy();
	return ret;
}
