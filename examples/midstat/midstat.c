/*
 * midstat - a live table of the TCP connections that pass.
 *
 * Shows each connection's end points, the TCP state both ends are in, how much payload each
 * end has sent, and its age; at the end, what was seen in total and what became of it. One
 * context per configured core. See README.md.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <mos_api.h>
#include <mos_ext.h>

#define MAX_CORES 64
#define MAX_ROWS  500

/* What is shown of a connection. bytes[side] is the payload that side has sent. */
struct row {
	struct sockaddr_in addr[2];
	int state[2];
	const char *ended;              /* how; NULL: it has not */
	uint64_t age_us;
	uint64_t bytes[2];
};

/* A connection, kept as the user context of its socket and in its core's list. */
struct flow {
	struct flow *prev, *next;
	uint64_t since_us;
	bool answered;                  /* the client's SYN was, with another */
	bool fin[2], rst;               /* seen from that side; from either */
	struct row row;
};

/* What belongs to one core. The first part is touched on the core's thread only; the rest,
   what other threads read, only under `shared`. */
struct core {
	mctx_t mctx;
	struct flow *flows;
	uint32_t last_ts;
	uint64_t now_us;
	struct row over[MAX_ROWS];      /* busiest connections that have ended */
	int num_over;
	double silence;                 /* seconds without a packet, with -x */

	struct row top[MAX_ROWS];       /* the rows of this core, at the last tick */
	int num_top;
	struct mos_stats stats;         /* counters, at the last tick */
};

static struct core *cores[MAX_CORES];   /* by core id; NULL: not used */
static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER;
static int rows = 20;                   /* -c */
static double speed;                    /* -x; 0: as fast as it goes */
static bool live;                       /* redraw in place */
static struct timeval tick = {1, 0};    /* between two looks, in the library's time */

static const char *const state_names[] = {
	"CLOSED", "LISTEN", "SYN_SENT", "SYN_RCVD", "ESTABLISHED", "FIN_WAIT_1",
	"FIN_WAIT_2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT",
};

static void die(const char *what)
{
	fprintf(stderr, "midstat: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

/* ---- rows ----------------------------------------------------------------------------- */

static uint64_t total_bytes(const struct row *row)
{
	return row->bytes[MOS_SIDE_CLI] + row->bytes[MOS_SIDE_SVR];
}

/* Open connections first, then the busier ones. */
static bool goes_before(const struct row *a, const struct row *b)
{
	if (!a->ended != !b->ended)
		return !a->ended;
	return total_bytes(a) > total_bytes(b);
}

/* Puts a row in its place among `n` sorted ones, of which at most `rows` are kept. Returns how
   many there are. */
static int insert_row(struct row *top, int n, const struct row *row)
{
	int i;

	if (n == rows && !goes_before(row, &top[n - 1]))
		return n;
	if (n < rows)
		n++;
	for (i = n - 1; i > 0 && goes_before(row, &top[i - 1]); i--)
		top[i] = top[i - 1];
	top[i] = *row;
	return n;
}

/* ---- connections ---------------------------------------------------------------------- */

/* The core's clock: the library's 32-bit microseconds, carried on over their wrap. */
static uint64_t core_now(struct core *core)
{
	uint32_t ts = mtcp_cb_get_ts(core->mctx);

	core->now_us += (uint32_t)(ts - core->last_ts);
	core->last_ts = ts;
	return core->now_us;
}

static void read_state(mctx_t mctx, int sock, int side, struct flow *flow)
{
	int option = side == MOS_SIDE_CLI ? MOS_TCP_STATE_CLI : MOS_TCP_STATE_SVR;
	int state;
	socklen_t len = sizeof(state);

	if (mtcp_getsockopt(mctx, sock, SOL_MONSOCKET, option, &state, &len) < 0)
		return;
	flow->row.state[side] = state;
	flow->answered |= side == MOS_SIDE_CLI && state == TCP_ESTABLISHED;
}

static void on_start(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	struct core *core = cores[mctx->cpu];
	struct flow *flow = calloc(1, sizeof(*flow));
	socklen_t len = sizeof(flow->row.addr);

	UNUSED(side);
	UNUSED(event);
	UNUSED(arg);
	if (!flow)
		return; /* counted by the library all the same, only not shown */
	if (mtcp_getpeername(mctx, sock, (struct sockaddr *)flow->row.addr, &len,
			     MOS_SIDE_BOTH) < 0) {
		free(flow);
		return;
	}
	flow->since_us = core_now(core);
	read_state(mctx, sock, MOS_SIDE_CLI, flow);
	read_state(mctx, sock, MOS_SIDE_SVR, flow);
	flow->next = core->flows;
	if (core->flows)
		core->flows->prev = flow;
	core->flows = flow;
	mtcp_set_uctx(mctx, sock, flow);
}

static void on_state_change(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	struct flow *flow = mtcp_get_uctx(mctx, sock);

	UNUSED(event);
	UNUSED(arg);
	if (flow)
		read_state(mctx, sock, side, flow);
}

/* At MOS_HK_SND `side` is the end that sent the packet. */
static void on_packet(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	struct flow *flow = mtcp_get_uctx(mctx, sock);
	struct pkt_info p;

	UNUSED(event);
	UNUSED(arg);
	if (!flow || mtcp_getlastpkt(mctx, sock, side, &p) < 0)
		return;
	flow->row.bytes[side] += p.payloadlen;
	flow->fin[side] |= p.tcph->fin;
	flow->rst |= p.tcph->rst;
}

static const char *how_it_ended(const struct flow *flow)
{
	if (flow->fin[MOS_SIDE_CLI] && flow->fin[MOS_SIDE_SVR])
		return "closed";
	if (flow->rst)
		return flow->answered ? "reset" : "refused";
	return "silent";
}

/* Comes once for each side: the first ends the connection, the second finds no context. */
static void on_end(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	struct core *core = cores[mctx->cpu];
	struct flow *flow = mtcp_get_uctx(mctx, sock);

	UNUSED(side);
	UNUSED(event);
	UNUSED(arg);
	if (!flow)
		return;
	if (flow->prev)
		flow->prev->next = flow->next;
	else
		core->flows = flow->next;
	if (flow->next)
		flow->next->prev = flow->prev;
	flow->row.ended = how_it_ended(flow);
	flow->row.age_us = core_now(core) - flow->since_us;
	core->num_over = insert_row(core->over, core->num_over, &flow->row);
	mtcp_set_uctx(mctx, sock, NULL);
	free(flow);
}

/* Registered so that the summary counts them; there is nothing else to do. */
static void on_counted(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	UNUSED(mctx);
	UNUSED(sock);
	UNUSED(side);
	UNUSED(event);
	UNUSED(arg);
}

/* ---- the table ------------------------------------------------------------------------ */

static const char *endpoint(const struct sockaddr_in *addr, char *text, size_t size)
{
	char ip[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &addr->sin_addr, ip, sizeof(ip));
	snprintf(text, size, "%s:%u", ip, ntohs(addr->sin_port));
	return text;
}

static const char *state_name(int state)
{
	return state >= 0 && state <= TCP_TIME_WAIT ? state_names[state] : "?";
}

/* Adds the counters of all cores. They are 64-bit numbers throughout. */
static void sum_stats(struct mos_stats *sum)
{
	uint64_t total[sizeof(*sum) / sizeof(uint64_t)] = {0};
	uint64_t one[sizeof(*sum) / sizeof(uint64_t)];
	size_t i, core;

	for (core = 0; core < MAX_CORES; core++) {
		if (!cores[core])
			continue;
		memcpy(one, &cores[core]->stats, sizeof(one));
		for (i = 0; i < sizeof(one) / sizeof(one[0]); i++)
			total[i] += one[i];
	}
	memcpy(sum, total, sizeof(*sum));
}

/* A number of bytes in at most five places. */
static const char *short_bytes(uint64_t n, char text[8])
{
	static const char units[] = " kMGTPE";
	double scaled = n;
	int unit = 0;

	while (scaled >= 999.5 && unit < 6) {
		scaled /= 1000;
		unit++;
	}
	if (!unit)
		snprintf(text, 8, "%d", (int)n);
	else
		snprintf(text, 8, scaled < 99.95 ? "%.1f%c" : "%.0f%c", scaled, units[unit]);
	return text;
}

/* A time in at most five places. */
static const char *short_time(uint64_t us, char text[8])
{
	double s = us / 1e6;

	if (s < 1000)
		snprintf(text, 8, "%.*fs", s < 99.95, s);
	else if (s < 100 * 60)
		snprintf(text, 8, "%.0fm", s / 60);
	else if (s < 100 * 3600)
		snprintf(text, 8, "%.0fh", s / 3600);
	else
		snprintf(text, 8, "%ud", (unsigned)(s / 86400) % 10000);
	return text;
}

static void print_row(const struct row *row, bool age)
{
	const struct sockaddr_in *addr = row->addr;
	char client[32], server[32], sent[8], received[8], time[8];

	printf("%-21s %-21s ", endpoint(&addr[MOS_SIDE_CLI], client, sizeof(client)),
	       endpoint(&addr[MOS_SIDE_SVR], server, sizeof(server)));
	if (row->ended)
		printf("%-23s", row->ended);
	else
		printf("%-11s %-11s", state_name(row->state[MOS_SIDE_CLI]),
		       state_name(row->state[MOS_SIDE_SVR]));
	printf(" %5s %5s", short_bytes(row->bytes[MOS_SIDE_CLI], sent),
	       short_bytes(row->bytes[MOS_SIDE_SVR], received));
	if (age)
		printf(" %5s", short_time(row->age_us, time));
	putchar('\n');
}

static void print_table(const struct mos_stats *sum)
{
	static struct row top[MAX_ROWS];
	struct winsize size;
	bool age = true;
	int core, i, n = 0;

	for (core = 0; core < MAX_CORES; core++)
		for (i = 0; cores[core] && i < cores[core]->num_top; i++)
			n = insert_row(top, n, &cores[core]->top[i]);
	if (live) {
		printf("\033[H\033[J"); /* from the top left corner on, an empty screen */
		if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
			age = !size.ws_col || size.ws_col >= 85;
			if (size.ws_row > 4 && n > size.ws_row - 4)
				n = size.ws_row - 4;
		}
	}
	printf("%" PRIu64 " connections open, %" PRIu64 " ended; %" PRIu64 " packets, %" PRIu64
	       " bytes\n\n", sum->flows_now, sum->flows_ended, sum->rx_packets, sum->rx_bytes);
	printf("%s%-21s %-21s %-11s %-11s %5s %5s%s%s\n", live ? "\033[1m" : "", "CLIENT",
	       "SERVER", "CLIENT IS", "SERVER IS", "C->S", "S->C", age ? "   AGE" : "",
	       live ? "\033[0m" : "");
	for (i = 0; i < n; i++) {
		if (live && top[i].ended)
			printf("\033[2m"); /* dim */
		print_row(&top[i], age);
		if (live && top[i].ended)
			printf("\033[0m");
	}
}

/* For output that is no terminal: a line when something has changed. */
static void print_line(const struct mos_stats *sum)
{
	static struct mos_stats last;
	static bool titled;

	if (titled && last.rx_packets == sum->rx_packets && last.flows_now == sum->flows_now)
		return;
	if (!titled)
		printf("%10s %10s %10s %12s %14s\n", "open", "begun", "ended", "packets", "bytes");
	titled = true;
	printf("%10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %12" PRIu64 " %14" PRIu64 "\n",
	       sum->flows_now, sum->flows_created, sum->flows_ended, sum->rx_packets,
	       sum->rx_bytes);
	last = *sum;
}

static void take_stats(struct core *core)
{
	struct mos_stats stats;

	if (mtcp_get_stats(core->mctx, &stats, sizeof(stats)) < 0)
		return;
	pthread_mutex_lock(&shared);
	core->stats = stats;
	pthread_mutex_unlock(&shared);
}

/* Leaves what is to be shown of a core. Under `shared`. */
static void take_rows(struct core *core)
{
	struct flow *flow;
	int i;

	core->num_top = 0;
	for (flow = core->flows; flow; flow = flow->next) {
		flow->row.age_us = core->now_us - flow->since_us;
		core->num_top = insert_row(core->top, core->num_top, &flow->row);
	}
	for (i = 0; i < core->num_over; i++)
		core->num_top = insert_row(core->top, core->num_top, &core->over[i]);
}

static const struct core *first_core(void)
{
	int i = 0;

	while (i < MAX_CORES - 1 && !cores[i])
		i++;
	return cores[i];
}

/* Lets time pass as fast as asked for; not in the silence that ends the last connections. */
static void keep_pace(struct core *core, uint64_t packets_before)
{
	double period = tick.tv_sec + tick.tv_usec / 1e6;
	double pause = period / speed;
	struct timespec ts = {pause, (pause - (long)pause) * 1e9};

	core->silence = packets_before == core->stats.rx_packets ? core->silence + period : 0;
	if (core->silence < 1)
		nanosleep(&ts, NULL);
}

/* At every tick of each core: leave what is to be shown; the first core shows it. */
static void on_tick(mctx_t mctx, int id, int side, event_t event, filter_arg_t *arg)
{
	struct core *core = cores[mctx->cpu];
	struct mos_stats sum;
	uint64_t packets_before = core->stats.rx_packets;

	UNUSED(side);
	UNUSED(event);
	UNUSED(arg);
	core_now(core);
	take_stats(core);
	pthread_mutex_lock(&shared);
	if (live)
		take_rows(core);
	if (core == first_core()) {
		sum_stats(&sum);
		if (live)
			print_table(&sum);
		else
			print_line(&sum);
		fflush(stdout);
	}
	pthread_mutex_unlock(&shared);
	if (speed > 0)
		keep_pace(core, packets_before);
	mtcp_settimer(mctx, id, &tick, on_tick);
}

/* ---- the summary ---------------------------------------------------------------------- */

struct count {
	const char *name;
	uint64_t n;
};

/* Prints a titled table of the counts that are not zero. */
static void print_counts(const char *title, const struct count *counts, size_t n)
{
	size_t i, printed = 0;

	printf("\n%s\n", title);
	for (i = 0; i < n; i++)
		if (counts[i].n) {
			printf("  %-34s %16" PRIu64 "\n", counts[i].name, counts[i].n);
			printed++;
		}
	if (!printed)
		printf("  %-34s %16s\n", "none", "-");
}

#define PRINT_COUNTS(title, counts) \
	print_counts(title, counts, sizeof(counts) / sizeof((counts)[0]))

static void print_summary(const struct mos_stats *s)
{
	const struct count traffic[] = {
		{"packets received", s->rx_packets},
		{"bytes received", s->rx_bytes},
		{"packets forwarded", s->fwd_packets},
		{"bytes forwarded", s->fwd_bytes},
		{"packets made here", s->sent_packets},
		{"packets captured incompletely", s->truncated_packets},
		{"capture records skipped", s->capture_skipped},
	};
	const struct count flows[] = {
		{"begun", s->flows_created},
		{"ended", s->flows_ended},
		{"  of these, by silence", s->flows_timed_out},
		{"  of these, to make room", s->flows_evicted},
		{"still open", s->flows_now},
		{"most at a time", s->flows_peak},
		{"refused for lack of room", s->flows_refused},
	};
	const struct count kinds[] = {
		{"of a monitored connection", s->in_flow},
		{"TCP of no known connection", s->in_orphan},
		{"IP, but not TCP", s->in_non_tcp},
		{"not IP", s->in_non_ip},
		{"IP fragments", s->in_fragment},
		{"for this host", s->in_local},
		{"not monitored", s->in_unmonitored},
		{"malformed: Ethernet", s->in_malformed_eth},
		{"malformed: IP length", s->in_malformed_ip_len},
		{"malformed: IP version", s->in_malformed_ip_version},
		{"malformed: IP checksum", s->in_malformed_ip_checksum},
		{"malformed: TCP length", s->in_malformed_tcp_len},
		{"malformed: TCP checksum", s->in_malformed_tcp_checksum},
		{"not inspected: no memory, fault", s->in_fault},
	};
	const struct count events[] = {
		{"packet", s->events[0]},
		{"connection begun", s->events[2]},
		{"new data", s->events[4]},
		{"error", s->events[5]},
		{"TCP state change", s->events[7]},
		{"orphan", s->events[8]},
		{"retransmission", s->events[9]},
		{"connection ended", s->events[10]},
	};
	const struct count drops[] = {
		{"consumed by this host", s->consumed},
		{"forwarding is off", s->drop_config},
		{"dropped by a callback", s->drop_callback},
		{"no route", s->drop_no_route},
		{"malformed", s->drop_malformed},
		{"output device full", s->drop_tx_full},
		{"out of memory", s->drop_no_memory},
		{"next hop does not answer", s->drop_unresolved},
		{"still waiting for the next hop", s->waiting},
		{"too long for the output device", s->drop_too_long},
		{"fault inside the library", s->drop_fault},
	};

	PRINT_COUNTS("Traffic", traffic);
	PRINT_COUNTS("Connections", flows);
	PRINT_COUNTS("Packets received, by kind", kinds);
	PRINT_COUNTS("Callbacks, by event", events);
	PRINT_COUNTS("Packets not forwarded, by reason", drops);
}

/* ---- set-up --------------------------------------------------------------------------- */

static void listen_to(mctx_t mctx, int sock, event_t event, int hook, callback_t callback)
{
	if (mtcp_register_callback(mctx, sock, event, hook, callback) < 0)
		die("cannot register a callback");
}

static void start_core(int cpu)
{
	struct core *core = cores[cpu];
	int sock, off = 0;

	if (!(core->mctx = mtcp_create_context(cpu)))
		die("cannot create a context");
	sock = mtcp_socket(core->mctx, AF_INET, MOS_SOCK_MONITOR_STREAM, 0);
	if (sock < 0)
		die("cannot make a monitor socket");
	/* The streams' content is not looked at. */
	if (mtcp_setsockopt(core->mctx, sock, SOL_MONSOCKET, MOS_CLIBUF, &off, sizeof(off)) < 0 ||
	    mtcp_setsockopt(core->mctx, sock, SOL_MONSOCKET, MOS_SVRBUF, &off, sizeof(off)) < 0)
		die("cannot switch reassembly off");

	listen_to(core->mctx, sock, MOS_ON_CONN_START, MOS_HK_SND, on_start);
	listen_to(core->mctx, sock, MOS_ON_PKT_IN, MOS_HK_SND, on_packet);
	listen_to(core->mctx, sock, MOS_ON_TCP_STATE_CHANGE, MOS_HK_SND, on_state_change);
	listen_to(core->mctx, sock, MOS_ON_TCP_STATE_CHANGE, MOS_HK_RCV, on_state_change);
	listen_to(core->mctx, sock, MOS_ON_CONN_END, MOS_HK_SND, on_end);
	listen_to(core->mctx, sock, MOS_ON_REXMIT, MOS_HK_RCV, on_counted);
	listen_to(core->mctx, sock, MOS_ON_ERROR, MOS_NULL, on_counted);
	listen_to(core->mctx, sock, MOS_ON_ORPHAN, MOS_NULL, on_counted);
	if (mtcp_settimer(core->mctx, cpu, &tick, on_tick) < 0)
		die("cannot set a timer");
}

/* The core's last callback has run: its counters are final, and nobody else uses its rows. */
static void stop_core(int cpu)
{
	struct core *core = cores[cpu];
	struct flow *flow;

	take_stats(core);
	take_rows(core);
	mtcp_destroy_context(core->mctx);
	while ((flow = core->flows)) {
		core->flows = flow->next;
		free(flow);
	}
}

static void usage(void)
{
	fprintf(stderr, "usage: midstat [-f CONF] [-n] [-c ROWS] [-x SPEED]\n"
			"  -f CONF   configuration file (mos.conf)\n"
			"  -n        no live table, a line a second instead\n"
			"  -c ROWS   rows of the table, 1 to %d (20)\n"
			"  -x SPEED  live table of a capture: times as fast as it was taken\n"
			"            (as fast as it goes)\n", MAX_ROWS);
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	static struct mtcp_conf conf;
	struct mos_stats sum;
	const char *file = "mos.conf";
	int option, i, used = 0;

	live = isatty(STDOUT_FILENO);
	while ((option = getopt(argc, argv, "f:nc:x:h")) != -1) {
		switch (option) {
		case 'f': file = optarg; break;
		case 'n': live = false; break;
		case 'c': rows = atoi(optarg); break;
		case 'x': speed = atof(optarg); break;
		default: usage();
		}
	}
	if (optind != argc || rows < 1 || rows > MAX_ROWS || !(speed >= 0 && speed <= 1e6))
		usage();
	if (!live)
		speed = 0;
	if (speed > 0) { /* ten pictures a second */
		tick.tv_sec = speed / 10;
		tick.tv_usec = (speed / 10 - tick.tv_sec) * 1e6 + 1;
	}

	if (mtcp_init(file) < 0)
		return EXIT_FAILURE; /* the library has said why */
	if (mtcp_getconf(&conf) < 0)
		die("cannot read the configuration back");
	/* All entries first: a core that runs looks at those of the others. */
	for (i = 0; i < conf.num_cores && i < MAX_CORES; i++)
		if (conf.cpu_mask & (UINT64_C(1) << i)) {
			if (!(cores[i] = calloc(1, sizeof(*cores[i]))))
				die("no memory");
			used++;
		}
	if (!used) {
		fprintf(stderr, "midstat: no core serves a device\n");
		return EXIT_FAILURE;
	}

	for (i = 0; i < MAX_CORES; i++)
		if (cores[i])
			start_core(i);

	/* Until the captures have ended, or, as no handler is registered for it, SIGINT. */
	for (i = 0; i < MAX_CORES; i++)
		if (cores[i])
			mtcp_app_join(cores[i]->mctx);
	for (i = 0; i < MAX_CORES; i++)
		if (cores[i])
			stop_core(i);
	sum_stats(&sum);
	if (!live)
		putchar('\n');
	print_table(&sum);
	print_summary(&sum);
	mtcp_destroy();
	for (i = 0; i < MAX_CORES; i++)
		free(cores[i]);
	return EXIT_SUCCESS;
}
