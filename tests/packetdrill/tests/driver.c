/* Loads the adapter as packetdrill does, and drives it through its table: from this thread, and blocking calls from another.
 *
 *   driver LIBRARY CASE       runs one case; 0 when all is right
 *   driver LIBRARY            names the cases
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

/* The table, in its order. */
struct table {
	void *u;
	void (*free)(void *);
	int (*socket)(void *, int, int, int);
	int (*bind)(void *, int, const struct sockaddr *, socklen_t);
	int (*listen)(void *, int, int);
	int (*accept)(void *, int, struct sockaddr *, socklen_t *);
	int (*connect)(void *, int, const struct sockaddr *, socklen_t);
	ssize_t (*read)(void *, int, void *, size_t);
	ssize_t (*readv)(void *, int, const struct iovec *, int);
	ssize_t (*recv)(void *, int, void *, size_t, int);
	ssize_t (*recvfrom)(void *, int, void *, size_t, int, struct sockaddr *, socklen_t *);
	ssize_t (*recvmsg)(void *, int, struct msghdr *, int);
	ssize_t (*write)(void *, int, const void *, size_t);
	ssize_t (*writev)(void *, int, const struct iovec *, int);
	ssize_t (*send)(void *, int, const void *, size_t, int);
	ssize_t (*sendto)(void *, int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	ssize_t (*sendmsg)(void *, int, const struct msghdr *, int);
	int (*fcntl)(void *, int, int, ...);
	int (*ioctl)(void *, int, unsigned long, ...);
	int (*close)(void *, int);
	int (*shutdown)(void *, int, int);
	int (*getsockopt)(void *, int, int, int, void *, socklen_t *);
	int (*setsockopt)(void *, int, int, int, const void *, socklen_t);
	int (*poll)(void *, struct pollfd *, nfds_t, int);
	int (*netdev_send)(void *, const void *, size_t);
	int (*netdev_receive)(void *, void *, size_t *, long long *);
	int (*usleep)(void *, useconds_t);
	int (*gettimeofday)(void *, struct timeval *, struct timezone *);
	int (*epoll_create)(void *, int);
	int (*epoll_ctl)(void *, int, int, int, struct epoll_event *);
	int (*epoll_wait)(void *, int, struct epoll_event *, int, int);
	int (*pipe)(void *, int[2]);
	ssize_t (*splice)(void *, int, loff_t *, int, loff_t *, size_t, unsigned int);
};

static struct table t;
static void (*init)(const char *, struct table *);

#define CHECK(what)                                                                                        \
	do {                                                                                               \
		errno = 0;                                                                                 \
		if (!(what)) {                                                                             \
			fprintf(stderr, "line %d: not so: %s (errno %d)\n", __LINE__, #what, errno);       \
			exit(1);                                                                           \
		}                                                                                          \
	} while (0)
#define FAILS(what, number) CHECK((what) == -1 && errno == (number))

static const char *LOCAL = "192.168.0.1", *REMOTE = "192.0.2.1";

static struct sockaddr_in at(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static long long now(void)
{
	struct timeval tv;
	CHECK(t.gettimeofday(t.u, &tv, NULL) == 0);
	return tv.tv_sec * 1000000LL + tv.tv_usec;
}

/* ---- Packets ---- */

struct packet {
	unsigned char bytes[65536];
	size_t len;
	long long time;
	int flags, data, window;
	unsigned seq, ack, sport;
};

static unsigned sum(unsigned from, const unsigned char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		from += i % 2 ? p[i] : p[i] << 8;
	while (from >> 16)
		from = (from & 0xffff) + (from >> 16);
	return from;
}

static unsigned word(const unsigned char *p) { return (unsigned)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }

static void put(unsigned char *p, unsigned value, int bytes)
{
	while (bytes--) {
		p[bytes] = value;
		value >>= 8;
	}
}

enum { F = 1, S = 2, R = 4, P = 8, A = 16 };

static unsigned lport = 8080, rport = 40000;

/* What is behind the fixed header counts as data here: options, when the header is said to be longer. */
static int header = 20;

static void in(int flags, unsigned seq, unsigned ack, const void *data, size_t len)
{
	unsigned char p[2048] = {0x45};
	put(p + 2, 40 + len, 2);
	p[8] = 64;
	p[9] = 6;
	inet_pton(AF_INET, REMOTE, p + 12);
	inet_pton(AF_INET, LOCAL, p + 16);
	put(p + 10, ~sum(0, p, 20), 2);
	put(p + 20, rport, 2);
	put(p + 22, lport, 2);
	put(p + 24, seq, 4);
	put(p + 28, ack, 4);
	p[32] = header / 4 << 4;
	p[33] = flags;
	put(p + 34, 60000, 2);
	memcpy(p + 40, data ? data : "", len);
	put(p + 36, ~sum(sum(6 + 20 + len, p + 12, 8), p + 20, 20 + len), 2);
	CHECK(t.netdev_send(t.u, p, 40 + len) == 0);
}

/* The next packet that leaves; 0: none ever does. */
static int out(struct packet *p)
{
	p->len = sizeof p->bytes;
	CHECK(t.netdev_receive(t.u, p->bytes, &p->len, &p->time) == 0);
	if (p->len == 0)
		return 0;
	unsigned char *tcp = p->bytes + 20;
	CHECK(p->len >= 40 && p->bytes[0] == 0x45 && p->bytes[9] == 6);
	CHECK(p->len == (size_t)(p->bytes[2] << 8 | p->bytes[3]));
	CHECK(sum(0, p->bytes, 20) == 0xffff);
	CHECK(sum(sum(6 + p->len - 20, p->bytes + 12, 8), tcp, p->len - 20) == 0xffff);
	p->sport = tcp[0] << 8 | tcp[1];
	p->seq = word(tcp + 4);
	p->ack = word(tcp + 8);
	p->flags = tcp[13];
	p->window = tcp[14] << 8 | tcp[15];
	p->data = p->len - 20 - (tcp[12] >> 4) * 4;
	return 1;
}

#define OUT(f, s, a, n)                                                                                    \
	do {                                                                                               \
		CHECK(out(&p));                                                                            \
		CHECK(p.flags == (f));                                                                     \
		CHECK(p.seq == (unsigned)(s));                                                             \
		CHECK(p.ack == (unsigned)(a));                                                             \
		CHECK(p.data == (n));                                                                      \
	} while (0)

/* ---- A call that blocks, from another thread ---- */

struct blocked {
	pthread_t thread;
	enum { ACCEPT, CONNECT, READ, WRITE, POLL } what;
	int fd, result, error;
	size_t len;
	long long end;
	char buf[10000];
};

static void *blocks(void *arg)
{
	struct blocked *b = arg;
	struct sockaddr_in to = at(REMOTE, 80);
	struct pollfd fd = {.fd = b->fd, .events = POLLIN};
	switch (b->what) {
	case ACCEPT: b->result = t.accept(t.u, b->fd, NULL, NULL); break;
	case CONNECT: b->result = t.connect(t.u, b->fd, (void *)&to, sizeof to); break;
	case READ: b->result = t.read(t.u, b->fd, b->buf, b->len); break;
	case WRITE: b->result = t.write(t.u, b->fd, b->buf, b->len); break;
	case POLL: b->result = t.poll(t.u, &fd, 1, b->len); break;
	}
	b->error = errno;
	b->end = now();
	return NULL;
}

static struct blocked *begin(int what, int fd, size_t len)
{
	struct blocked *b = calloc(1, sizeof *b);
	b->what = what;
	b->fd = fd;
	b->len = len;
	CHECK(pthread_create(&b->thread, NULL, blocks, b) == 0);
	usleep(20000); /* real time: it is asleep in the call by now, or the adapter has to bear it */
	return b;
}

static void end(struct blocked *b, int result, long long time)
{
	CHECK(pthread_join(b->thread, NULL) == 0);
	if (b->result != result)
		fprintf(stderr, "the call gave %d (errno %d), not %d\n", b->result, b->error, result);
	CHECK(b->result == result);
	if (llabs(b->end - time) > 1000)
		fprintf(stderr, "the call ended %lld us late\n", b->end - time);
	CHECK(llabs(b->end - time) <= 1000);
	free(b);
}

/* ---- Beginnings ---- */

static struct packet p;

static int listener(const char *flags)
{
	struct sockaddr_in a = at(LOCAL, 8080);
	init(flags, &t);
	int fd = t.socket(t.u, AF_INET, SOCK_STREAM, IPPROTO_TCP);
	CHECK(fd >= 0);
	CHECK(t.bind(t.u, fd, (void *)&a, sizeof a) == 0);
	CHECK(t.listen(t.u, fd, 5) == 0);
	return fd;
}

/* A connection from outside: our numbers from 1001 on, the peer's from 501. */
static int accepted(int fd)
{
	struct sockaddr_in from;
	socklen_t len = sizeof from;
	in(S, 500, 0, NULL, 0);
	OUT(S | A, 1000, 501, 0);
	CHECK(t.usleep(t.u, 10000) == 0);
	in(A, 501, 1001, NULL, 0);
	int c = t.accept(t.u, fd, (void *)&from, &len);
	CHECK(c >= 0 && c != fd);
	CHECK(len == sizeof from && ntohs(from.sin_port) == rport);
	return c;
}

#define FLAGS "iss=1000,timestamps=off,sack=off,wscale=off,quickack=0"

/* ---- Cases ---- */

static void data(void)
{
	char buf[4000], half[2][600];
	int fd = listener(FLAGS), c = accepted(fd);
	CHECK(t.write(t.u, c, "hello", 5) == 5);
	OUT(P | A, 1001, 501, 5);
	CHECK(memcmp(p.bytes + p.len - 5, "hello", 5) == 0);
	in(P | A, 501, 1006, "world", 5);
	CHECK(t.recv(t.u, c, buf, sizeof buf, MSG_PEEK) == 5 && memcmp(buf, "world", 5) == 0);
	int unread = 0;
	CHECK(t.ioctl(t.u, c, FIONREAD, &unread) == 0 && unread == 5);
	struct iovec iov[2] = {{half[0], 2}, {half[1], 600}};
	CHECK(t.readv(t.u, c, iov, 2) == 5 && memcmp(half[0], "wo", 2) == 0 && memcmp(half[1], "rld", 3) == 0);
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	iov[1].iov_len = 3;
	CHECK(t.sendmsg(t.u, c, &msg, 0) == 5);
	in(A, 506, 1006, NULL, 0);
	OUT(P | A, 1006, 506, 5);
	CHECK(memcmp(p.bytes + p.len - 5, "world", 5) == 0);
	FAILS(t.recv(t.u, c, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
	CHECK(t.fcntl(t.u, c, F_SETFL, O_RDWR | O_NONBLOCK) == 0);
	CHECK(t.fcntl(t.u, c, F_GETFL) == (O_RDWR | O_NONBLOCK));
	FAILS(t.recvmsg(t.u, c, &msg, 0), EAGAIN);
	CHECK(t.read(t.u, c, buf, 0) == 0);
	FAILS(t.recv(t.u, c, buf, 10, MSG_OOB), EINVAL);
}

static void close_and_shutdown(void)
{
	char buf[100];
	int fd = listener(FLAGS), c = accepted(fd);
	CHECK(t.shutdown(t.u, c, SHUT_WR) == 0);
	OUT(F | A, 1001, 501, 0);
	FAILS(t.write(t.u, c, "x", 1), EPIPE);
	in(F | A, 501, 1002, NULL, 0);
	OUT(A, 1002, 502, 0);
	CHECK(t.read(t.u, c, buf, sizeof buf) == 0);
	CHECK(t.close(t.u, c) == 0);
	FAILS(t.close(t.u, c), EBADF);
	rport++;
	c = accepted(fd);
	CHECK(t.close(t.u, c) == 0);
	OUT(F | A, 1001, 501, 0);
	in(A, 501, 1002, NULL, 0);
	in(F | A, 501, 1002, NULL, 0);
	OUT(A, 1002, 502, 0);
	CHECK(t.close(t.u, fd) == 0);
	in(S, 700, 0, NULL, 0); /* nobody listens any more, but TIME_WAIT answers */
	CHECK(out(&p));
	rport++;
	in(S, 700, 0, NULL, 0);
	OUT(R | A, 0, 701, 0);
}

static void reset(void)
{
	char buf[100];
	int error = 0, fd = listener(FLAGS), c = accepted(fd);
	socklen_t len = sizeof error;
	in(R | A, 501, 1001, NULL, 0);
	CHECK(t.getsockopt(t.u, c, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == ECONNRESET && len == 4);
	CHECK(t.getsockopt(t.u, c, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0);
	CHECK(t.read(t.u, c, buf, sizeof buf) == 0);
	FAILS(t.write(t.u, c, "x", 1), EPIPE);
	struct linger linger = {1, 0};
	rport++;
	c = accepted(fd);
	CHECK(t.setsockopt(t.u, c, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
	CHECK(t.close(t.u, c) == 0);
	OUT(R | A, 1001, 501, 0);
}

/* TCP_INFO: what both ends have offered, and nothing before they have. */
static void agreed(void)
{
	struct tcp_info info;
	socklen_t len = sizeof info;
	int fd = listener("iss=1000"), c = accepted(fd);
	CHECK(t.getsockopt(t.u, c, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
	CHECK(info.tcpi_state == TCP_ESTABLISHED && info.tcpi_options == 0);
	fd = listener("iss=1000,timestamps=off");
	header = 32;
	in(S, 500, 0, "\4\2\3\3\7\1\1\1\1\1\1\0", 12);
	header = 20;
	CHECK(out(&p) && p.flags == (S | A));
	in(A, 501, 1001, NULL, 0);
	c = t.accept(t.u, fd, NULL, NULL);
	CHECK(c >= 0 && t.getsockopt(t.u, c, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
	CHECK(info.tcpi_options == (TCPI_OPT_SACK | TCPI_OPT_WSCALE));
}

static void nonblocking_connect(void)
{
	struct sockaddr_in to = at(REMOTE, 80);
	struct pollfd pfd;
	int error = 0;
	socklen_t len = sizeof error;
	init(FLAGS, &t);
	int fd = t.socket(t.u, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	rport = 80;
	FAILS(t.connect(t.u, fd, (void *)&to, sizeof to), EINPROGRESS);
	OUT(S, 1000, 0, 0);
	lport = p.sport;
	pfd = (struct pollfd){.fd = fd, .events = POLLOUT};
	CHECK(t.poll(t.u, &pfd, 1, 0) == 0);
	in(S | A, 500, 1001, NULL, 0);
	OUT(A, 1001, 501, 0);
	CHECK(t.poll(t.u, &pfd, 1, 0) == 1 && pfd.revents == POLLOUT);
	CHECK(t.getsockopt(t.u, fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0);
	CHECK(t.connect(t.u, fd, (void *)&to, sizeof to) == 0);
	FAILS(t.connect(t.u, fd, (void *)&to, sizeof to), EISCONN);
	int other = t.socket(t.u, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	FAILS(t.connect(t.u, other, (void *)&to, sizeof to), EINPROGRESS);
	OUT(S, 1000, 0, 0);
	lport = p.sport;
	in(R | A, 0, 1001, NULL, 0);
	FAILS(t.connect(t.u, other, (void *)&to, sizeof to), ECONNREFUSED);
}

static void retransmission(void)
{
	int fd = listener(FLAGS ",rto_min=250ms,tlp=off,retries=3"), c = accepted(fd);
	CHECK(t.write(t.u, c, "lost", 4) == 4);
	OUT(P | A, 1001, 501, 4);
	long long first = p.time;
	for (int gap = 250, sum = 250; gap <= 1000; gap *= 2, sum += gap) {
		OUT(P | A, 1001, 501, 4);
		CHECK(llabs(p.time - first - 1000LL * sum) <= 2000);
	}
	/* Then the connection is given up, and nothing ever leaves. */
	CHECK(!out(&p));
	struct tcp_info info;
	int error = 0;
	socklen_t len = sizeof error, info_len = sizeof info;
	CHECK(t.getsockopt(t.u, c, IPPROTO_TCP, TCP_INFO, &info, &info_len) == 0 && info.tcpi_state == TCP_CLOSE);
	CHECK(t.getsockopt(t.u, c, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == ETIMEDOUT);
}

static void epoll(void)
{
	char buf[100];
	int fd = listener(FLAGS);
	int ep = t.epoll_create(t.u, 1);
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 7}, got[4];
	CHECK(t.epoll_ctl(t.u, ep, EPOLL_CTL_ADD, fd, &ev) == 0);
	FAILS(t.epoll_ctl(t.u, ep, EPOLL_CTL_ADD, fd, &ev), EEXIST);
	CHECK(t.epoll_wait(t.u, ep, got, 4, 0) == 0);
	in(S, 500, 0, NULL, 0);
	OUT(S | A, 1000, 501, 0);
	in(A, 501, 1001, NULL, 0);
	CHECK(t.epoll_wait(t.u, ep, got, 4, 0) == 1 && got[0].events == EPOLLIN && got[0].data.u64 == 7);
	int c = t.accept(t.u, fd, NULL, NULL);
	CHECK(t.epoll_wait(t.u, ep, got, 4, 0) == 0);
	ev = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = c};
	CHECK(t.epoll_ctl(t.u, ep, EPOLL_CTL_ADD, c, &ev) == 0);
	CHECK(t.epoll_wait(t.u, ep, got, 4, 0) == 1 && got[0].events == EPOLLOUT && got[0].data.fd == c);
	in(P | A, 501, 1001, "x", 1);
	CHECK(t.epoll_wait(t.u, ep, got, 1, 0) == 1 && got[0].events == (EPOLLIN | EPOLLOUT));
	CHECK(t.epoll_wait(t.u, ep, got, 4, 0) == 0);
	CHECK(t.read(t.u, c, buf, sizeof buf) == 1);
	in(R | A, 502, 1001, NULL, 0);
	CHECK(t.epoll_wait(t.u, ep, got, 4, 0) == 1);
	CHECK(got[0].events == (EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP));
	CHECK(t.epoll_ctl(t.u, ep, EPOLL_CTL_DEL, c, NULL) == 0);
	FAILS(t.epoll_ctl(t.u, ep, EPOLL_CTL_MOD, c, &ev), ENOENT);
	FAILS(t.epoll_wait(t.u, c, got, 4, 0), EINVAL);
	FAILS(t.epoll_wait(t.u, ep, got, 0, 0), EINVAL);
	/* More are ready than there is room for. */
	int ends[2];
	CHECK(t.pipe(t.u, ends) == 0);
	for (int i = 0; i < 2; i++) {
		ev = (struct epoll_event){.events = (i ? EPOLLOUT : EPOLLIN) | EPOLLET, .data.fd = ends[i]};
		CHECK(t.epoll_ctl(t.u, ep, EPOLL_CTL_ADD, ends[i], &ev) == 0);
	}
	CHECK(t.write(t.u, ends[1], "y", 1) == 1);
	CHECK(t.epoll_wait(t.u, ep, got, 1, 0) == 1);
	int first = got[0].data.fd;
	CHECK(t.epoll_wait(t.u, ep, got, 1, 0) == 1 && got[0].data.fd != first);
	CHECK(t.epoll_wait(t.u, ep, got, 1, 0) == 0);
}

static void blocking(void)
{
	static char big[10000];
	int fd = listener(FLAGS ",sndbuf=4096");
	struct blocked *b = begin(ACCEPT, fd, 0);
	in(S, 500, 0, NULL, 0);
	OUT(S | A, 1000, 501, 0);
	CHECK(t.usleep(t.u, 300000) == 0);
	in(A, 501, 1001, NULL, 0);
	long long time = now();
	CHECK(t.usleep(t.u, 500000) == 0);
	CHECK(pthread_join(b->thread, NULL) == 0);
	int c = b->result;
	CHECK(c >= 0 && llabs(b->end - time) < 1000);
	/* A read ends when the data is there, however long the driver sleeps then. */
	b = begin(READ, c, 100);
	CHECK(t.usleep(t.u, 250000) == 0);
	in(P | A, 501, 1001, "data", 4);
	time = now();
	CHECK(t.usleep(t.u, 2000000) == 0);
	end(b, 4, time);
	OUT(A, 1001, 505, 0);
	/* A wait with a time-out ends in the middle of a sleep. */
	b = begin(POLL, c, 150);
	time = now();
	CHECK(t.usleep(t.u, 1000000) == 0);
	end(b, 0, time + 150000);
	CHECK(llabs(now() - time - 1000000) < 1000);
	/* A write goes on as there is room: every byte of it. */
	b = begin(WRITE, c, sizeof big);
	unsigned got = 0;
	while (got < sizeof big) {
		CHECK(out(&p));
		CHECK(p.seq == 1001 + got && p.data > 0);
		got += p.data;
		in(A, 505, 1001 + got, NULL, 0);
	}
	end(b, sizeof big, now());
	/* The end of a connection ends a read. */
	b = begin(READ, c, 100);
	in(R | A, 505, 1001 + got, NULL, 0);
	CHECK(t.usleep(t.u, 100000) == 0);
	CHECK(pthread_join(b->thread, NULL) == 0);
	CHECK(b->result == -1 && b->error == ECONNRESET);
	/* A connect that nobody answers. */
	rport = 80;
	b = begin(CONNECT, t.socket(t.u, AF_INET, SOCK_STREAM, 0), 0);
	OUT(S, 1000, 0, 0);
	lport = p.sport;
	in(R | A, 0, 1001, NULL, 0);
	CHECK(t.usleep(t.u, 1000) == 0);
	CHECK(pthread_join(b->thread, NULL) == 0);
	CHECK(b->result == -1 && b->error == ECONNREFUSED);
}

static void alone(void)
{
	char buf[10];
	/* Blocking calls on this very thread: time goes on by itself, or there is an error. */
	int fd = listener(FLAGS), c = accepted(fd);
	struct pollfd pfd = {.fd = c, .events = POLLIN};
	long long time = now();
	CHECK(t.poll(t.u, &pfd, 1, 700) == 0);
	CHECK(llabs(now() - time - 700000) < 1000);
	FAILS(t.read(t.u, c, buf, sizeof buf), EDEADLK);
}

static void errors(void)
{
	struct sockaddr_in a = at(LOCAL, 8080);
	int fd = listener(FLAGS), value = 1;
	socklen_t len = sizeof value;
	FAILS(t.socket(t.u, AF_INET6, SOCK_STREAM, 0), EAFNOSUPPORT);
	FAILS(t.socket(t.u, AF_INET, SOCK_DGRAM, 0), ESOCKTNOSUPPORT);
	FAILS(t.socket(t.u, AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
	int other = t.socket(t.u, AF_INET, SOCK_STREAM, 0);
	FAILS(t.bind(t.u, other, (void *)&a, sizeof a), EADDRINUSE);
	FAILS(t.bind(t.u, other, (void *)&a, 3), EINVAL);
	FAILS(t.bind(t.u, other, NULL, sizeof a), EFAULT);
	FAILS(t.accept(t.u, other, NULL, NULL), EINVAL);
	FAILS(t.read(t.u, other, &value, 4), ENOTCONN);
	FAILS(t.shutdown(t.u, other, SHUT_RD), ENOTCONN);
	FAILS(t.listen(t.u, 9999, 1), EBADF);
	FAILS(t.write(t.u, -1, "x", 1), EBADF);
	FAILS(t.write(t.u, other, NULL, 1), EFAULT);
	FAILS(t.setsockopt(t.u, other, SOL_SOCKET, SO_REUSEADDR, &value, 2), EINVAL);
	FAILS(t.setsockopt(t.u, other, IPPROTO_TCP, 12345, &value, 4), ENOPROTOOPT);
	FAILS(t.getsockopt(t.u, other, SOL_SOCKET, 12345, &value, &len), ENOPROTOOPT);
	FAILS(t.getsockopt(t.u, other, SOL_SOCKET, SO_ERROR, NULL, &len), EFAULT);
	FAILS(t.ioctl(t.u, other, 12345, &value), ENOTTY);
	FAILS(t.ioctl(t.u, other, FIONREAD, NULL), EFAULT);
	FAILS(t.fcntl(t.u, other, 12345, 0), EINVAL);
	FAILS(t.splice(t.u, fd, NULL, other, NULL, 10, 0), EINVAL);
	struct pollfd pfd = {.fd = 9999, .events = POLLIN};
	CHECK(t.poll(t.u, &pfd, 1, 0) == 1 && pfd.revents == POLLNVAL);
	/* What arrives may be anything. */
	unsigned char junk[100];
	for (int n = 0; n < 100; n++) {
		memset(junk, n * 37, sizeof junk);
		CHECK(t.netdev_send(t.u, junk, n) == 0);
		junk[0] = 0x45;
		CHECK(t.netdev_send(t.u, junk, n) == 0);
	}
	FAILS(t.netdev_send(t.u, NULL, 40), EFAULT);
	/* Numbers are really open: packetdrill closes what a script leaves. */
	CHECK(close(other) == 0 && close(fd) == 0);
}

static void bad_flags(void)
{
	struct timeval tv;
	init("sack=perhaps", &t);
	FAILS(t.socket(t.u, AF_INET, SOCK_STREAM, 0), EINVAL);
	FAILS(t.gettimeofday(t.u, &tv, NULL), EINVAL);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"data", data}, {"close_and_shutdown", close_and_shutdown}, {"reset", reset},
	{"agreed", agreed}, {"nonblocking_connect", nonblocking_connect}, {"retransmission", retransmission},
	{"epoll", epoll}, {"blocking", blocking}, {"alone", alone}, {"errors", errors}, {"bad_flags", bad_flags},
};

int main(int argc, char **argv)
{
	void *library = argc < 2 ? NULL : dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE | RTLD_DEEPBIND);
	if (!library) {
		fprintf(stderr, "%s\n", argc < 2 ? "driver LIBRARY CASE" : dlerror());
		return 2;
	}
	*(void **)&init = dlsym(library, "packetdrill_interface_init");
	CHECK(init);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (argc < 3) {
			printf("%s\n", cases[i].name);
		} else if (strcmp(argv[2], cases[i].name) == 0) {
			cases[i].run();
			t.free(t.u);
			return 0;
		}
	}
	return argc < 3 ? 0 : 2;
}
