/*
 * epserver - a static HTTP/1.1 server on end-host sockets.
 *
 * One thread and one context per configured core, each with a listener of its own on the same
 * port and an epoll object; nothing is shared between them but the files, which are mapped at
 * the start and never change. See README.md.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <mtcp_api.h>
#include <mtcp_epoll.h>
#include <mos_ext.h>

#define MAX_CORES   64
#define MAX_REQUEST 8192        /* longest request head, in bytes */
#define MAX_HEAD    512         /* longest response head */
#define MAX_EVENTS  1024        /* taken from the epoll object at a time */

/* ---- files ---------------------------------------------------------------------------- */

struct file {
	char *path;             /* as in a request: from the document root, with its slash */
	const char *type;
	const char *data;
	size_t size;
};

static struct file *files;
static size_t num_files;
static size_t root_len;

static void die(const char *what)
{
	fprintf(stderr, "epserver: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static const char *type_of(const char *path)
{
	static const struct { const char *suffix, *type; } types[] = {
		{".html", "text/html; charset=utf-8"}, {".txt", "text/plain; charset=utf-8"},
		{".css", "text/css"}, {".js", "text/javascript"}, {".json", "application/json"},
		{".svg", "image/svg+xml"}, {".png", "image/png"}, {".jpg", "image/jpeg"},
		{".gif", "image/gif"}, {".pdf", "application/pdf"},
	};
	const char *dot = strrchr(path, '.');

	for (size_t n = 0; dot && n < sizeof(types) / sizeof(types[0]); n++)
		if (!strcasecmp(dot, types[n].suffix))
			return types[n].type;
	return "application/octet-stream";
}

static int map_file(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	struct file *f;
	int fd;

	(void)at;
	if (kind != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	if (!(files = realloc(files, (num_files + 1) * sizeof(*files))))
		die("files");
	f = &files[num_files];
	f->size = st->st_size;
	f->data = "";
	if ((fd = open(path, O_RDONLY)) < 0) {
		fprintf(stderr, "epserver: %s: %s, left out\n", path, strerror(errno));
		return 0;
	}
	if (f->size > 0)
		f->data = mmap(NULL, f->size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	if (f->data == MAP_FAILED || !(f->path = strdup(path + root_len)))
		die(path);
	f->type = type_of(path);
	num_files++;
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

/* Maps every regular file below the root; links are not followed, so none leads out of it. */
static void map_files(char *root)
{
	root_len = strlen(root);
	while (root_len > 1 && root[root_len - 1] == '/')
		root[--root_len] = '\0';
	if (nftw(root, map_file, 32, FTW_PHYS) != 0)
		die(root);
	qsort(files, num_files, sizeof(*files), by_path);
}

/* The file for a path; for a directory's, its index.html. */
static const struct file *find_file(char *path, size_t room)
{
	struct file key = {.path = path};
	size_t len = strlen(path);

	if (len > 0 && path[len - 1] == '/' && len + sizeof("index.html") <= room)
		strcpy(path + len, "index.html");
	return bsearch(&key, files, num_files, sizeof(*files), by_path);
}

/* ---- requests ------------------------------------------------------------------------- */

/* What a request asks for. */
struct request {
	char path[1024];
	bool head;              /* HEAD: the head alone */
	bool keep;              /* the connection stays open afterwards */
	int status;             /* 200, or what is wrong with it */
};

/* The value of a header field, and its length; NULL: it is not there. */
static const char *field(const char *head, size_t len, const char *name, size_t *value_len)
{
	size_t name_len = strlen(name);
	const char *line = head, *end = head + len, *eol;

	while (line < end && (eol = memmem(line, end - line, "\r\n", 2))) {
		if ((size_t)(eol - line) > name_len && line[name_len] == ':' &&
		    !strncasecmp(line, name, name_len)) {
			line += name_len + 1;
			while (line < eol && (*line == ' ' || *line == '\t'))
				line++;
			*value_len = eol - line;
			return line;
		}
		line = eol + 2;
	}
	return NULL;
}

/* Whether a comma-separated list holds a word. */
static bool lists(const char *list, size_t len, const char *word)
{
	size_t word_len = strlen(word);

	while (len > 0) {
		size_t item = strcspn(list, ",\r");

		if (item > len)
			item = len;
		while (item > 0 && (*list == ' ' || *list == '\t'))
			list++, item--, len--;
		if (item >= word_len && !strncasecmp(list, word, word_len) &&
		    strspn(list + word_len, " \t") >= item - word_len)
			return true;
		list += item;
		len -= item;
		if (len > 0)
			list++, len--;
	}
	return false;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The path of a request target, without query, %XX decoded. False: it is none. */
static bool decode(const char *target, size_t len, char *path, size_t room)
{
	size_t n = 0;

	if (len == 0 || *target != '/')
		return false;
	for (size_t i = 0; i < len && target[i] != '?' && target[i] != '#'; i++) {
		char c = target[i];

		if (c == '%') {
			if (i + 2 >= len || hex(target[i + 1]) < 0 || hex(target[i + 2]) < 0)
				return false;
			c = hex(target[i + 1]) << 4 | hex(target[i + 2]);
			i += 2;
		}
		if (c == '\0' || n + 1 >= room)
			return false;
		path[n++] = c;
	}
	path[n] = '\0';
	return true;
}

/* Reads a whole request head, RFC 9112 3. Nothing is served that has a body. */
static void parse(const char *head, size_t len, struct request *r)
{
	const char *eol = memmem(head, len, "\r\n", 2), *target, *version, *value;
	size_t value_len;

	*r = (struct request){.status = 400};
	if (!(target = memchr(head, ' ', eol - head)) ||
	    !(version = memchr(target + 1, ' ', eol - target - 1)) || eol - version != 9 ||
	    memcmp(version, " HTTP/1.", 8))
		return;
	if (!decode(target + 1, version - target - 1, r->path, sizeof(r->path)))
		return;
	r->keep = version[8] != '0';
	if ((value = field(eol + 2, head + len - eol - 2, "Connection", &value_len)))
		r->keep = !lists(value, value_len, "close") &&
			  (r->keep || lists(value, value_len, "keep-alive"));
	r->head = target - head == 4 && !memcmp(head, "HEAD", 4);
	value = field(eol + 2, head + len - eol - 2, "Content-Length", &value_len);
	if ((value && !(value_len == 1 && *value == '0')) ||
	    field(eol + 2, head + len - eol - 2, "Transfer-Encoding", &value_len)) {
		r->status = 413;
		r->keep = false;
		return;
	}
	r->status = r->head || (target - head == 3 && !memcmp(head, "GET", 3)) ? 200 : 501;
}

/* ---- connections ---------------------------------------------------------------------- */

/* A response that could not be written at once. */
struct reply {
	char head[MAX_HEAD];
	size_t head_len;
	const char *body;
	size_t body_len;
	size_t written;         /* of both */
	int status;
	bool keep;
};

/* By socket id: ids are small and dense. Memory only for what a connection leaves undone. */
struct connection {
	bool open;
	bool draining;          /* answered for good; what still comes is not looked at */
	char *held;             /* what was read and not answered yet, at most MAX_REQUEST */
	size_t held_len;
	struct reply *reply;
};

struct counters {
	uint64_t connections, requests, bytes, refused, errors;
};

struct core {
	int id;
	pthread_t thread;
	mctx_t mctx;
	int epoll, listener;
	struct connection *connections;
	int num_connections;
	time_t date_second;
	char date[64];
	char request[MAX_REQUEST];
	struct counters counters;       /* written by this core only */
};

static struct core *cores[MAX_CORES];
static struct mtcp_conf conf;
static uint16_t port = 80;

static void watch(struct core *core, int op, int sock, uint32_t events)
{
	struct mtcp_epoll_event ev = {.events = events, .data.sock = sock};

	if (mtcp_epoll_ctl(core->mctx, core->epoll, op, sock, &ev) < 0)
		fprintf(stderr, "epserver: epoll, socket %d: %s\n", sock, strerror(errno));
}

static void hang_up(struct core *core, int sock)
{
	struct connection *c = &core->connections[sock];

	free(c->held);
	free(c->reply);
	*c = (struct connection){0};
	mtcp_epoll_ctl(core->mctx, core->epoll, MOS_EPOLL_CTL_DEL, sock, NULL);
	mtcp_close(core->mctx, sock);
}

static const char *reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 400: return "Bad Request";
	case 404: return "Not Found";
	case 413: return "Content Too Large";
	case 431: return "Request Header Fields Too Large";
	default:  return "Not Implemented";
	}
}

/* The date line, made once a second (RFC 9110 5.6.7). */
static const char *date(struct core *core)
{
	time_t now = time(NULL);
	struct tm tm;

	if (now != core->date_second) {
		core->date_second = now;
		strftime(core->date, sizeof(core->date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
	}
	return core->date;
}

static void answer(struct core *core, struct request *r, struct reply *reply)
{
	static const char sorry[] = "The server has nothing for this request.\n";
	const struct file *f = NULL;
	const char *type = "text/plain";
	size_t length;

	if (r->status == 200 && !(f = find_file(r->path, sizeof(r->path))))
		r->status = 404;
	reply->body = f ? f->data : sorry;
	length = f ? f->size : sizeof(sorry) - 1;
	if (f)
		type = f->type;
	reply->body_len = r->head ? 0 : length;
	reply->written = 0;
	reply->keep = r->keep;
	reply->status = r->status;
	reply->head_len = snprintf(reply->head, sizeof(reply->head),
		"HTTP/1.1 %d %s\r\nDate: %s\r\nServer: epserver\r\nContent-Type: %s\r\n"
		"Content-Length: %zu\r\nConnection: %s\r\n\r\n",
		r->status, reason(r->status), date(core), type, length, r->keep ? "keep-alive" : "close");
	core->counters.requests++;
	core->counters.refused += r->status != 200;
}

/* Writes on. 1: all is written; 0: the send buffer is full; -1: the connection is lost. */
static int write_reply(struct core *core, int sock, struct reply *reply)
{
	while (reply->written < reply->head_len + reply->body_len) {
		struct iovec part[2];
		size_t head = reply->written < reply->head_len ? reply->head_len - reply->written : 0;
		size_t body = reply->written - (reply->head_len - head);
		int parts = 0;
		ssize_t n;

		if (head > 0)
			part[parts++] = (struct iovec){reply->head + reply->head_len - head, head};
		if (body < reply->body_len)
			part[parts++] = (struct iovec){(char *)reply->body + body, reply->body_len - body};
		n = mtcp_writev(core->mctx, sock, part, parts);
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		if (n == 0)
			return 0;
		reply->written += n;
		core->counters.bytes += n;
	}
	return 1;
}

/* Keeps the unread rest of a connection's bytes. */
static bool hold(struct connection *c, const char *rest, size_t len)
{
	if (len == 0) {
		free(c->held);
		c->held = NULL;
	} else if (!c->held && !(c->held = malloc(MAX_REQUEST))) {
		return false;
	} else {
		memmove(c->held, rest, len);
	}
	c->held_len = len;
	return true;
}

/*
 * Closes our direction and reads on: a connection closed with bytes unread is reset, and the reset
 * may overtake the answer that says why (RFC 9112 9.6).
 */
static bool drain(struct core *core, int sock)
{
	struct connection *c = &core->connections[sock];

	c->draining = true;
	hold(c, NULL, 0);
	watch(core, MOS_EPOLL_CTL_MOD, sock, MOS_EPOLLIN);
	return mtcp_shutdown(core->mctx, sock, SHUT_WR) == 0;
}

/* Answers the whole requests in `bytes`, and keeps the rest. False: the connection is to be closed. */
static bool serve(struct core *core, int sock, char *bytes, size_t len)
{
	struct connection *c = &core->connections[sock];

	while (!c->reply) {
		char *end = memmem(bytes, len, "\r\n\r\n", 4);
		struct request request = {.status = 431};
		struct reply reply;
		int done;

		/* Empty lines before a request are none (RFC 9112 2.2). */
		if (len >= 2 && bytes[0] == '\r' && bytes[1] == '\n') {
			bytes += 2, len -= 2;
			continue;
		}
		if (end && end + 4 - bytes <= MAX_REQUEST)
			parse(bytes, end + 2 - bytes, &request);
		else if (!end && len < MAX_REQUEST)
			break;
		answer(core, &request, &reply);
		if (end) {
			len -= end + 4 - bytes;
			bytes = end + 4;
		}
		if ((done = write_reply(core, sock, &reply)) < 0)
			return false;
		if (done && !reply.keep)
			return request.status >= 400 && drain(core, sock);
		if (!done) {
			if (!(c->reply = malloc(sizeof(reply))))
				return false;
			*c->reply = reply;
			/* No more requests until this one is answered. */
			watch(core, MOS_EPOLL_CTL_MOD, sock, MOS_EPOLLOUT);
		}
	}
	return hold(c, bytes, len);
}

static void readable(struct core *core, int sock)
{
	struct connection *c = &core->connections[sock];
	size_t held = c->held_len;
	ssize_t n;

	if (c->draining) {
		n = mtcp_read(core->mctx, sock, core->request, MAX_REQUEST);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			hang_up(core, sock);
		return;
	}
	memcpy(core->request, c->held ? c->held : "", held);
	/* There is room: a full buffer without a request in it was answered with 431. */
	n = mtcp_read(core->mctx, sock, core->request + held, MAX_REQUEST - held);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		core->counters.errors++;
	if (n <= 0 || !serve(core, sock, core->request, held + n))
		hang_up(core, sock);
}

static void writable(struct core *core, int sock)
{
	struct connection *c = &core->connections[sock];
	bool keep, refused;
	int done;

	if (!c->reply)
		return;
	done = write_reply(core, sock, c->reply);
	if (done == 0)
		return;
	keep = done > 0 && c->reply->keep;
	refused = done > 0 && !keep && c->reply->status >= 400;
	free(c->reply);
	c->reply = NULL;
	if (refused) {
		keep = drain(core, sock);
	} else if (keep) {
		size_t held = c->held_len;

		watch(core, MOS_EPOLL_CTL_MOD, sock, MOS_EPOLLIN);
		memcpy(core->request, c->held ? c->held : "", held);
		keep = serve(core, sock, core->request, held);
	}
	core->counters.errors += done < 0;
	if (!keep)
		hang_up(core, sock);
}

static void accept_all(struct core *core)
{
	int sock;

	while ((sock = mtcp_accept(core->mctx, core->listener, NULL, NULL)) >= 0) {
		if (sock >= core->num_connections) {
			mtcp_close(core->mctx, sock);
			continue;
		}
		core->connections[sock].open = true;
		core->counters.connections++;
		mtcp_setsock_nonblock(core->mctx, sock);
		watch(core, MOS_EPOLL_CTL_ADD, sock, MOS_EPOLLIN);
	}
	if (errno != EAGAIN)
		core->counters.errors++;
}

/* ---- cores ---------------------------------------------------------------------------- */

static void listen_on_port(struct core *core)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	int backlog = conf.max_concurrency < 4096 ? conf.max_concurrency : 4096;

	if ((core->epoll = mtcp_epoll_create(core->mctx, MAX_EVENTS)) < 0)
		die("epoll");
	if ((core->listener = mtcp_socket(core->mctx, AF_INET, SOCK_STREAM, 0)) < 0)
		die("socket");
	if (mtcp_setsock_nonblock(core->mctx, core->listener) < 0 ||
	    mtcp_bind(core->mctx, core->listener, (struct sockaddr *)&any, sizeof(any)) < 0)
		die("bind");
	if (mtcp_listen(core->mctx, core->listener, backlog) < 0)
		die("listen");
	watch(core, MOS_EPOLL_CTL_ADD, core->listener, MOS_EPOLLIN);
}

static void *run(void *arg)
{
	struct core *core = arg;
	struct mtcp_epoll_event events[MAX_EVENTS];
	int n;

	mtcp_core_affinitize(core->id);
	if (!(core->mctx = mtcp_create_context(core->id)))
		die("context");
	core->num_connections = conf.max_concurrency;
	if (!(core->connections = calloc(core->num_connections, sizeof(*core->connections))))
		die("connections");
	listen_on_port(core);
	/* Ctrl-C ends the context, and the wait with it. */
	while ((n = mtcp_epoll_wait(core->mctx, core->epoll, events, MAX_EVENTS, -1)) >= 0) {
		bool knocked = false;

		for (int i = 0; i < n; i++) {
			int sock = events[i].data.sock;

			if (sock == core->listener)
				knocked = true;
			else if (!core->connections[sock].open)
				continue;       /* closed for an earlier event of this batch */
			else if (events[i].events & (MOS_EPOLLERR | MOS_EPOLLHUP))
				core->counters.errors++, hang_up(core, sock);
			else if (events[i].events & MOS_EPOLLOUT)
				writable(core, sock);
			else
				readable(core, sock);
		}
		/* Last, so that no event of this batch is taken for one of a new connection. */
		if (knocked)
			accept_all(core);
	}
	mtcp_destroy_context(core->mctx);
	return NULL;
}

static struct counters total(void)
{
	struct counters sum = {0};

	for (int i = 0; i < MAX_CORES; i++) {
		if (!cores[i])
			continue;
		sum.connections += cores[i]->counters.connections;
		sum.requests += cores[i]->counters.requests;
		sum.bytes += cores[i]->counters.bytes;
		sum.refused += cores[i]->counters.refused;
		sum.errors += cores[i]->counters.errors;
	}
	return sum;
}

static void *report(void *arg)
{
	struct counters before = {0};

	(void)arg;
	for (;;) {
		struct counters now;

		sleep(1);
		now = total();
		printf("%8" PRIu64 " requests/s %8.1f Mb/s %8" PRIu64 " connections\n",
		       now.requests - before.requests, (now.bytes - before.bytes) * 8 / 1e6,
		       now.connections - before.connections);
		fflush(stdout);
		before = now;
	}
	return NULL;
}

static void usage(void)
{
	fprintf(stderr, "usage: epserver [-f CONF] [-d DIR] [-p PORT] [-s]\n");
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	const char *file = "mos.conf";
	char *root = "www";
	bool every_second = false;
	pthread_t reporter;
	struct counters sum;
	int opt;

	while ((opt = getopt(argc, argv, "f:d:p:s")) != -1) {
		switch (opt) {
		case 'f': file = optarg; break;
		case 'd': root = optarg; break;
		case 'p': port = atoi(optarg); break;
		case 's': every_second = true; break;
		default: usage();
		}
	}
	if (optind != argc || port == 0)
		usage();
	if (!(root = strdup(root)))
		die("memory");
	map_files(root);
	if (mtcp_init(file) != 0 || mtcp_getconf(&conf) != 0)
		exit(EXIT_FAILURE);
	for (int i = 0; i < conf.num_cores && i < MAX_CORES; i++) {
		if (!(conf.cpu_mask >> i & 1))
			continue;
		if (!(cores[i] = calloc(1, sizeof(*cores[i]))))
			die("core");
		cores[i]->id = i;
		if ((errno = pthread_create(&cores[i]->thread, NULL, run, cores[i])) != 0)
			die("thread");
	}
	printf("%zu files from %s, port %d\n", num_files, root, port);
	fflush(stdout);
	if (every_second)
		pthread_create(&reporter, NULL, report, NULL);
	for (int i = 0; i < MAX_CORES; i++)
		if (cores[i])
			pthread_join(cores[i]->thread, NULL);
	mtcp_destroy();
	sum = total();
	printf("%" PRIu64 " connections, %" PRIu64 " requests (%" PRIu64 " without a file), %" PRIu64
	       " bytes written, %" PRIu64 " errors\n",
	       sum.connections, sum.requests, sum.refused, sum.bytes, sum.errors);
	return 0;
}
