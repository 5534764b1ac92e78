/*
 * epwget - a parallel HTTP load client on end-host sockets, with statistics.
 *
 * Each configured core has a thread and a context of its own, and its share of the requests and
 * of the connections. A connection asks for the URL, reads the response to its end, and asks
 * again (-k) or makes way for a new connection. See README.md.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>

#include <mtcp_api.h>
#include <mtcp_epoll.h>

#define MAX_CORES  64
#define MAX_HEAD   8192         /* longest response head */
#define MAX_EVENTS 1024         /* taken from the epoll object at a time */
#define READ_SIZE  (64 * 1024)

/* ---- times ---------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/*
 * Durations, counted in buckets: 32 to each doubling, so a percentile is off by 3 % at most.
 */
#define SUB_BITS 5
#define BUCKETS  ((64 - SUB_BITS + 1) << SUB_BITS)

struct histogram {
	uint64_t count, sum, max;
	uint64_t bucket[BUCKETS];
};

static unsigned bucket_of(uint64_t ns)
{
	unsigned shift;

	if (ns < 1 << SUB_BITS)
		return ns;
	shift = 63 - __builtin_clzll(ns) - SUB_BITS;
	return ((shift + 1) << SUB_BITS) + (ns >> shift) - (1 << SUB_BITS);
}

/* The middle of a bucket. */
static uint64_t middle(unsigned bucket)
{
	unsigned shift = (bucket >> SUB_BITS) - 1;
	uint64_t from;

	if (bucket < 1 << SUB_BITS)
		return bucket;
	from = (uint64_t)((bucket & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS)) << shift;
	return from + (((uint64_t)1 << shift) >> 1);
}

static void note(struct histogram *h, uint64_t ns)
{
	h->count++;
	h->sum += ns;
	h->max = ns > h->max ? ns : h->max;
	h->bucket[bucket_of(ns)]++;
}

static void add(struct histogram *to, const struct histogram *from)
{
	to->count += from->count;
	to->sum += from->sum;
	to->max = from->max > to->max ? from->max : to->max;
	for (unsigned n = 0; n < BUCKETS; n++)
		to->bucket[n] += from->bucket[n];
}

static double percentile_us(const struct histogram *h, double share)
{
	uint64_t wanted = h->count * share, seen = 0;

	for (unsigned n = 0; n < BUCKETS; n++) {
		seen += h->bucket[n];
		if (seen > wanted)
			return (middle(n) < h->max ? middle(n) : h->max) / 1e3;
	}
	return h->max / 1e3;
}

/* ---- what is asked for ---------------------------------------------------------------- */

static const char *conf_file = "mos.conf";
static struct mtcp_conf conf;
static struct sockaddr_in server = {.sin_family = AF_INET};
static char request[2048];
static size_t request_len;
static uint64_t total_requests;         /* -n; 0: no limit */
static double seconds;                  /* -t; 0: no limit */
static int concurrency = 1;             /* -c */
static bool keep_alive;                 /* -k */
static const char *body_file;           /* -o */
static uint64_t start_ns, stop_ns;

/* ---- connections ---------------------------------------------------------------------- */

enum stage { FREE, CONNECTING, SENDING, HEAD, BODY };

/* By socket id: ids are small and dense. */
struct connection {
	enum stage stage;
	uint32_t watched;               /* events asked for */
	uint64_t since;                 /* when it began to connect, then when it began to ask */
	size_t sent;                    /* of the request */
	char *head;                     /* of the response, as far as it is there */
	size_t head_len;
	bool sized, keep;               /* the length of the body is known; another request may follow */
	uint64_t body_left;
	FILE *body;                     /* where the body goes */
};

struct counters {
	uint64_t connections, done, bytes;
	uint64_t status[6];             /* responses by first digit; [0]: no HTTP response */
	uint64_t refused, reset, timed_out, cut_short, other;
	struct histogram connect, response;
};

struct core {
	int id;
	pthread_t thread;
	mctx_t mctx;
	int epoll;
	uint64_t quota;                 /* requests that are still to be begun here */
	int wanted, open;               /* connections */
	struct connection *connections;
	int num_connections;
	struct counters counters;       /* written by this core only */
	char buffer[READ_SIZE];
};

static struct core *cores[MAX_CORES];
static volatile bool interrupted;

static void die(const char *what)
{
	fprintf(stderr, "epwget: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static void watch(struct core *core, int sock, uint32_t events)
{
	struct mtcp_epoll_event ev = {.events = events, .data.sock = sock};
	struct connection *c = &core->connections[sock];
	int op = c->watched ? MOS_EPOLL_CTL_MOD : MOS_EPOLL_CTL_ADD;

	if (c->watched == events)
		return;
	c->watched = events;
	if (mtcp_epoll_ctl(core->mctx, core->epoll, op, sock, &ev) < 0)
		fprintf(stderr, "epwget: epoll, socket %d: %s\n", sock, strerror(errno));
}

static void hang_up(struct core *core, int sock)
{
	struct connection *c = &core->connections[sock];

	free(c->head);
	if (c->body)
		fclose(c->body);
	*c = (struct connection){0};
	mtcp_epoll_ctl(core->mctx, core->epoll, MOS_EPOLL_CTL_DEL, sock, NULL);
	mtcp_close(core->mctx, sock);
	core->open--;
}

/* A request that came to nothing. */
static void failed(struct core *core, int sock, int error)
{
	struct counters *n = &core->counters;

	switch (error) {
	case ECONNREFUSED: n->refused++; break;
	case ECONNRESET:   n->reset++; break;
	case ETIMEDOUT:    n->timed_out++; break;
	case 0:            n->cut_short++; break;
	default:           n->other++;
	}
	hang_up(core, sock);
}

static int error_of(struct core *core, int sock)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (mtcp_getsockopt(core->mctx, sock, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return errno;
	return error;
}

static bool time_is_up(void)
{
	return interrupted || (stop_ns > 0 && now_ns() >= stop_ns);
}

/* Takes one request from the core's share. False: there is none. */
static bool take(struct core *core)
{
	if (core->quota == 0 || time_is_up())
		return false;
	if (total_requests > 0)
		core->quota--;
	return true;
}

static bool begin(struct core *core)
{
	struct connection *c;
	int sock = mtcp_socket(core->mctx, AF_INET, SOCK_STREAM, 0);

	if (sock < 0)
		return false;
	if (sock >= core->num_connections) {
		mtcp_close(core->mctx, sock);
		return false;
	}
	c = &core->connections[sock];
	*c = (struct connection){.stage = CONNECTING, .since = now_ns()};
	core->open++;
	mtcp_setsock_nonblock(core->mctx, sock);
	if (mtcp_connect(core->mctx, sock, (struct sockaddr *)&server, sizeof(server)) < 0 &&
	    errno != EINPROGRESS) {
		/* Out of ports: as many connections as there are will have to do. */
		bool later = errno == EAGAIN && core->open > 1;

		if (later)
			hang_up(core, sock);
		else
			failed(core, sock, errno);
		return !later;
	}
	watch(core, sock, MOS_EPOLLOUT);
	core->counters.connections++;
	return true;
}

/* Opens connections up to the core's share. */
static void fill(struct core *core)
{
	for (int n = core->open; n < core->wanted && take(core); n++) {
		if (!begin(core)) {
			core->quota += total_requests > 0;
			break;
		}
	}
}

static void send_request(struct core *core, int sock)
{
	struct connection *c = &core->connections[sock];
	ssize_t n;

	if (c->stage == CONNECTING) {
		uint64_t now = now_ns();

		note(&core->counters.connect, now - c->since);
		c->since = now;
		c->stage = SENDING;
	}
	n = mtcp_write(core->mctx, sock, request + c->sent, request_len - c->sent);
	if (n < 0) {
		if (errno != EAGAIN)
			failed(core, sock, errno);
		return;
	}
	c->sent += n;
	if (c->sent == request_len) {
		c->stage = HEAD;
		watch(core, sock, MOS_EPOLLIN);
	}
}

static void completed(struct core *core, int sock)
{
	struct connection *c = &core->connections[sock];

	note(&core->counters.response, now_ns() - c->since);
	core->counters.done++;
	if (c->body) {
		fclose(c->body);
		c->body = NULL;
	}
	if (!c->keep || !take(core)) {
		hang_up(core, sock);
		return;
	}
	c->stage = SENDING;
	c->since = now_ns();
	c->sent = 0;
	c->head_len = 0;
	send_request(core, sock);
	if (c->stage == SENDING)
		watch(core, sock, MOS_EPOLLOUT);
}

/* The value of a header field; NULL: it is not there. The head ends in a NUL. */
static const char *field(const char *head, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (!strncasecmp(line, name, len) && line[len] == ':')
			return line + len + 1 + strspn(line + len + 1, " \t");
	}
	return NULL;
}

/* Reads a response head. False: it is none that can be followed. */
static bool parse(struct core *core, struct connection *c)
{
	const char *value;
	int minor, status;

	if (sscanf(c->head, "HTTP/1.%d %3d", &minor, &status) != 2 || status < 100 || status > 599) {
		core->counters.status[0]++;
		return false;
	}
	core->counters.status[status / 100]++;
	value = field(c->head, "Connection");
	c->keep = keep_alive && (minor > 0 ? !value || strncasecmp(value, "close", 5) :
				 value && !strncasecmp(value, "keep-alive", 10));
	value = field(c->head, "Content-Length");
	c->sized = value || status == 204 || status == 304;
	c->body_left = value ? strtoull(value, NULL, 10) : 0;
	/* Without a length the body ends with the connection. */
	c->keep &= c->sized;
	if (field(c->head, "Transfer-Encoding")) {
		fprintf(stderr, "epwget: the server sends chunks, which this client does not read\n");
		return false;
	}
	return true;
}

/* Where the first body goes, if somebody wants it. */
static FILE *take_body_file(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	const char *name;
	FILE *file = NULL;

	if (!body_file)
		return NULL;
	pthread_mutex_lock(&lock);
	name = body_file;
	body_file = NULL;
	pthread_mutex_unlock(&lock);
	if (name && !(file = fopen(name, "wb")))
		die(name);
	return file;
}

/* Takes received bytes in. False: the response is over, in whatever way, and so is `sock`'s turn. */
static bool take_bytes(struct core *core, int sock, const char *bytes, size_t len)
{
	struct connection *c = &core->connections[sock];

	core->counters.bytes += len;
	if (c->stage == HEAD) {
		size_t before = c->head_len, room = MAX_HEAD - before, take = len < room ? len : room;
		char *end;

		if (!c->head && !(c->head = malloc(MAX_HEAD + 1)))
			die("memory");
		memcpy(c->head + before, bytes, take);
		c->head_len += take;
		if (!(end = memmem(c->head, c->head_len, "\r\n\r\n", 4))) {
			if (c->head_len < MAX_HEAD)
				return true;
			failed(core, sock, EPROTO);
			return false;
		}
		end[2] = '\0';
		bytes += end + 4 - c->head - before;
		len -= end + 4 - c->head - before;
		if (!parse(core, c)) {
			failed(core, sock, EPROTO);
			return false;
		}
		c->body = take_body_file();
		c->stage = BODY;
	}
	if (c->sized && len > c->body_left)
		len = c->body_left;
	if (c->body)
		fwrite(bytes, 1, len, c->body);
	c->body_left -= c->sized ? len : 0;
	if (c->sized && c->body_left == 0) {
		completed(core, sock);
		return false;
	}
	return true;
}

static void readable(struct core *core, int sock)
{
	struct connection *c = &core->connections[sock];

	while (c->stage == HEAD || c->stage == BODY) {
		ssize_t n = mtcp_read(core->mctx, sock, core->buffer, sizeof(core->buffer));

		if (n < 0) {
			if (errno != EAGAIN)
				failed(core, sock, errno);
			return;
		}
		if (n == 0) {
			if (c->stage == BODY && !c->sized)
				completed(core, sock);
			else
				failed(core, sock, 0);
			return;
		}
		if (!take_bytes(core, sock, core->buffer, n))
			return;
	}
}

/* ---- cores ---------------------------------------------------------------------------- */

/* Time is up: a request that has not been asked is not asked any more. */
static void give_up_connecting(struct core *core)
{
	for (int sock = 0; sock < core->num_connections && core->open > 0; sock++)
		if (core->connections[sock].stage == CONNECTING)
			hang_up(core, sock);
}

static void *run(void *arg)
{
	struct core *core = arg;
	struct mtcp_epoll_event events[MAX_EVENTS];

	mtcp_core_affinitize(core->id);
	if (!(core->mctx = mtcp_create_context(core->id)))
		die("context");
	core->num_connections = conf.max_concurrency;
	if (!(core->connections = calloc(core->num_connections, sizeof(*core->connections))))
		die("connections");
	if ((core->epoll = mtcp_epoll_create(core->mctx, MAX_EVENTS)) < 0)
		die("epoll");
	/* Ports whose answers come back to this core. */
	if (mtcp_init_rss(core->mctx, INADDR_ANY, 1, server.sin_addr.s_addr, server.sin_port) < 0)
		die("source addresses");

	for (;;) {
		int n;

		fill(core);
		if (core->open == 0 && (core->quota == 0 || time_is_up()))
			break;
		/* Often enough to notice that time is up. */
		n = mtcp_epoll_wait(core->mctx, core->epoll, events, MAX_EVENTS, 20);
		if (n < 0)
			break;
		if (stop_ns > 0 && now_ns() > stop_ns) {
			give_up_connecting(core);
			if (now_ns() > stop_ns + 2000000000ull)
				break;  /* requests on their way have had two more seconds */
		}
		for (int i = 0; i < n; i++) {
			int sock = events[i].data.sock;
			struct connection *c = &core->connections[sock];

			if (c->stage == FREE)
				continue;       /* closed for an earlier event of this batch */
			if (events[i].events & (MOS_EPOLLERR | MOS_EPOLLHUP))
				failed(core, sock, error_of(core, sock));
			else if (c->stage == CONNECTING || c->stage == SENDING)
				send_request(core, sock);
			else
				readable(core, sock);
		}
	}
	mtcp_destroy_context(core->mctx);
	return NULL;
}

static void sum_up(struct counters *sum, int *open)
{
	*sum = (struct counters){0};
	*open = 0;
	for (int i = 0; i < MAX_CORES; i++) {
		struct counters *n = cores[i] ? &cores[i]->counters : NULL;

		if (!n)
			continue;
		*open += cores[i]->open;
		sum->connections += n->connections;
		sum->done += n->done;
		sum->bytes += n->bytes;
		for (int d = 0; d < 6; d++)
			sum->status[d] += n->status[d];
		sum->refused += n->refused;
		sum->reset += n->reset;
		sum->timed_out += n->timed_out;
		sum->cut_short += n->cut_short;
		sum->other += n->other;
		add(&sum->connect, &n->connect);
		add(&sum->response, &n->response);
	}
}

static uint64_t failures(const struct counters *n)
{
	return n->refused + n->reset + n->timed_out + n->cut_short + n->other;
}

static void *report(void *arg)
{
	static struct counters now, before;
	int open;

	(void)arg;
	for (int n = 1;; n++) {
		sleep(1);
		sum_up(&now, &open);
		fprintf(stderr, "%4d s %9" PRIu64 " requests/s %9.1f Mb/s %7d open %7" PRIu64 " failed\n", n,
			now.done - before.done, (now.bytes - before.bytes) * 8 / 1e6, open, failures(&now));
		before = now;
	}
	return NULL;
}

static void print_times(const char *name, const struct histogram *h)
{
	if (h->count == 0)
		return;
	printf("%-10s mean %.1f  50%% %.1f  90%% %.1f  99%% %.1f  99.9%% %.1f  max %.1f us\n", name,
	       h->sum / 1e3 / h->count, percentile_us(h, 0.5), percentile_us(h, 0.9),
	       percentile_us(h, 0.99), percentile_us(h, 0.999), h->max / 1e3);
}

static int print_summary(double took)
{
	static struct counters sum;
	int open;

	sum_up(&sum, &open);
	if (seconds > 0 && took > seconds)
		took = seconds;         /* the rest was for what was on its way */
	printf("%" PRIu64 " requests done, %" PRIu64 " failed, over %" PRIu64 " connections in %.3f s\n",
	       sum.done, failures(&sum), sum.connections, took);
	if (failures(&sum) > 0)
		printf("failed     refused %" PRIu64 "  reset %" PRIu64 "  timed out %" PRIu64
		       "  cut short %" PRIu64 "  other %" PRIu64 "\n",
		       sum.refused, sum.reset, sum.timed_out, sum.cut_short, sum.other);
	printf("status     2xx %" PRIu64 "  3xx %" PRIu64 "  4xx %" PRIu64 "  5xx %" PRIu64 "\n",
	       sum.status[2], sum.status[3], sum.status[4], sum.status[5]);
	printf("rate       %.1f requests/s  %.1f Mb/s received\n", sum.done / took, sum.bytes * 8 / 1e6 / took);
	print_times("connect", &sum.connect);
	print_times("response", &sum.response);
	return failures(&sum) == 0 && sum.done > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- start ---------------------------------------------------------------------------- */

static void on_interrupt(int signal)
{
	(void)signal;
	interrupted = true;
}

static void usage(void)
{
	fprintf(stderr, "usage: epwget [-f CONF] [-n REQUESTS] [-t SECONDS] [-c CONNECTIONS] [-k] [-q] [-o FILE]"
		" [http://]ADDRESS[:PORT][/PATH]\n");
	exit(EXIT_FAILURE);
}

/* Reads the URL and makes the request. */
static void prepare(const char *url)
{
	char host[64];
	const char *path, *colon;
	size_t len;

	if (!strncasecmp(url, "http://", 7))
		url += 7;
	len = strcspn(url, "/");
	path = url[len] ? url + len : "/";
	colon = memchr(url, ':', len);
	snprintf(host, sizeof(host), "%.*s", (int)(colon ? colon - url : (long)len), url);
	server.sin_port = htons(colon ? atoi(colon + 1) : 80);
	if (inet_pton(AF_INET, host, &server.sin_addr) != 1 || server.sin_port == 0) {
		fprintf(stderr, "epwget: '%s': expected an IPv4 address and maybe a port\n", host);
		exit(EXIT_FAILURE);
	}
	request_len = snprintf(request, sizeof(request),
			       "GET %s HTTP/1.1\r\nHost: %.*s\r\nUser-Agent: epwget\r\nAccept: */*\r\n"
			       "Connection: %s\r\n\r\n",
			       path, (int)len, url, keep_alive ? "keep-alive" : "close");
	if (request_len >= sizeof(request)) {
		fprintf(stderr, "epwget: the URL is too long\n");
		exit(EXIT_FAILURE);
	}
}

/* The part of `all` that the n-th of `of` cores gets. */
static uint64_t share(uint64_t all, int n, int of)
{
	return all / of + ((uint64_t)n < all % of);
}

int main(int argc, char **argv)
{
	int opt, used = 0, n = 0, status;
	bool quiet = false;
	pthread_t reporter;
	double took;

	while ((opt = getopt(argc, argv, "f:n:t:c:o:kq")) != -1) {
		switch (opt) {
		case 'f': conf_file = optarg; break;
		case 'n': total_requests = strtoull(optarg, NULL, 10); break;
		case 't': seconds = atof(optarg); break;
		case 'c': concurrency = atoi(optarg); break;
		case 'o': body_file = optarg; break;
		case 'k': keep_alive = true; break;
		case 'q': quiet = true; break;
		default: usage();
		}
	}
	if (optind != argc - 1 || concurrency < 1 || seconds < 0)
		usage();
	if (total_requests == 0 && seconds == 0)
		total_requests = 1;
	prepare(argv[optind]);

	if (mtcp_init(conf_file) != 0 || mtcp_getconf(&conf) != 0)
		return EXIT_FAILURE;
	mtcp_register_signal(SIGINT, on_interrupt);
	for (int i = 0; i < conf.num_cores && i < MAX_CORES; i++)
		used += conf.cpu_mask >> i & 1;
	/* No more cores than there is work for. */
	if (used > concurrency)
		used = concurrency;
	if (total_requests > 0 && (uint64_t)used > total_requests)
		used = total_requests;
	start_ns = now_ns();
	stop_ns = seconds > 0 ? start_ns + (uint64_t)(seconds * 1e9) : 0;
	for (int i = 0; i < conf.num_cores && i < MAX_CORES && n < used; i++) {
		if (!(conf.cpu_mask >> i & 1))
			continue;
		if (!(cores[i] = calloc(1, sizeof(*cores[i]))))
			die("core");
		cores[i]->id = i;
		cores[i]->quota = total_requests > 0 ? share(total_requests, n, used) : UINT64_MAX;
		cores[i]->wanted = share(concurrency, n, used);
		n++;
	}
	for (int i = 0; i < MAX_CORES; i++)
		if (cores[i] && (errno = pthread_create(&cores[i]->thread, NULL, run, cores[i])) != 0)
			die("thread");
	if (!quiet)
		pthread_create(&reporter, NULL, report, NULL);
	for (int i = 0; i < MAX_CORES; i++)
		if (cores[i])
			pthread_join(cores[i]->thread, NULL);
	took = (now_ns() - start_ns) / 1e9;
	status = print_summary(took);
	mtcp_destroy();
	return status;
}
