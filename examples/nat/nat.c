/*
 * nat - hosts of a private network reach servers under one public address.
 *
 * A connection that a host of the private network begins gets a public port. In each of its
 * packets the client's address and port are replaced by the public ones; in each answer it is
 * the other way round. The library does the rest: it finds the flow of an answer by the
 * translated address (the server's side of a flow is what the first SYN looked like after
 * its SND callbacks), and sends each packet to the next hop its new destination asks for.
 *
 * TCP only. See README.md.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mos_api.h>
#include <mos_ext.h>
#include <mtcp_util.h>

#define MAX_CORES 64

/* A translation: the user context of its connection. Addresses and ports as on the wire. */
struct mapping {
	uint32_t private_ip;
	uint16_t private_port;
	uint16_t public_port;
};

/* What belongs to one core; only its own thread writes. */
struct core {
	mctx_t mctx;
	uint16_t next_port;     /* where the search for a free one goes on */
	uint64_t opened, open;  /* translations */
	uint64_t no_port;       /* connections refused because no port was free */
	uint64_t stray;         /* packets dropped that belong to no translation */
};

static struct core *cores[MAX_CORES];   /* by core id; NULL: not used */
static int num_queues;                  /* cores that share the packets */
static uint32_t public_ip;
static unsigned first_port = 20000, last_port = 59999;
static const char *private_net;
static const struct timeval second = {1, 0};

/* Public ports in use, by number: taken and given back by all cores. */
static atomic_uchar port_used[65536];

static void die(const char *what)
{
	fprintf(stderr, "nat: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

/* ---- ports ---------------------------------------------------------------------------- */

/*
 * Takes a public port for a connection to a server, 0 when there is none. Packets are shared
 * out to cores by their addresses and ports: it must be one for which the server's answers
 * come to the core that knows the translation.
 */
static uint16_t take_port(struct core *core, uint32_t server_ip, uint16_t server_port)
{
	unsigned size = last_port - first_port + 1, i;

	for (i = 0; i < size; i++) {
		unsigned port = first_port + (core->next_port + i) % size;
		unsigned char free = 0;

		if (num_queues > 1 &&
		    GetRSSCPUCore(server_ip, public_ip, server_port, htons(port), num_queues) !=
			    core->mctx->cpu)
			continue;
		if (!atomic_compare_exchange_strong(&port_used[port], &free, 1))
			continue;
		/* The next connection gets another one, so that this one rests for long. */
		core->next_port = (port - first_port + 1) % size;
		return htons(port);
	}
	return 0;
}

static void give_port_back(uint16_t port)
{
	atomic_store(&port_used[ntohs(port)], 0);
}

/* ---- packets -------------------------------------------------------------------------- */

static void drop(mctx_t mctx, int sock, int side)
{
	mtcp_setlastpkt(mctx, sock, side, 0, NULL, 0, MOS_DROP);
}

/* The translation of a connection whose first SYN this is; NULL: it cannot have one. */
static struct mapping *translate(struct core *core, int sock, const struct pkt_info *p)
{
	struct mapping *m = malloc(sizeof(*m));

	if (!m)
		return NULL;
	m->private_ip = p->iph->saddr;
	m->private_port = p->tcph->source;
	m->public_port = take_port(core, p->iph->daddr, p->tcph->dest);
	if (!m->public_port) {
		core->no_port++;
		free(m);
		return NULL;
	}
	mtcp_set_uctx(core->mctx, sock, m);
	core->opened++;
	core->open++;
	return m;
}

/* Each packet of a connection, where its sender's side has seen it and the receiver's has
   not. `side` is the sender's. */
static void on_packet(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	struct core *core = cores[mctx->cpu];
	struct mapping *m = mtcp_get_uctx(mctx, sock);
	struct pkt_info p;
	uint32_t ip;
	uint16_t port;
	off_t ip_at, port_at;

	UNUSED(event);
	UNUSED(arg);
	if (mtcp_getlastpkt(mctx, sock, side, &p) < 0)
		return;
	if (!m && side == MOS_SIDE_CLI && p.tcph->syn)
		m = translate(core, sock, &p);
	if (!m) {
		drop(mctx, sock, side);
		return;
	}
	if (side == MOS_SIDE_CLI) {
		ip = public_ip;
		port = m->public_port;
		ip_at = offsetof(struct iphdr, saddr);
		port_at = 0;            /* the source port comes first in a TCP header */
	} else {
		ip = m->private_ip;
		port = m->private_port;
		ip_at = offsetof(struct iphdr, daddr);
		port_at = sizeof(port); /* then the destination port */
	}
	/* The checksums are renewed once, after the second edit. */
	if (mtcp_setlastpkt(mctx, sock, side, ip_at, (byte *)&ip, sizeof(ip),
			    MOS_OVERWRITE | MOS_IP_HDR) < 0 ||
	    mtcp_setlastpkt(mctx, sock, side, port_at, (byte *)&port, sizeof(port),
			    MOS_OVERWRITE | MOS_TCP_HDR | MOS_UPDATE_IP_CHKSUM |
				    MOS_UPDATE_TCP_CHKSUM) < 0)
		drop(mctx, sock, side); /* better lost than half translated */
}

/* Comes once for each side: the first ends the translation, the second finds none. */
static void on_end(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	struct mapping *m = mtcp_get_uctx(mctx, sock);

	UNUSED(side);
	UNUSED(event);
	UNUSED(arg);
	if (!m)
		return;
	mtcp_set_uctx(mctx, sock, NULL);
	give_port_back(m->public_port);
	cores[mctx->cpu]->open--;
	free(m);
}

/* TCP of no connection that the private network began, and what is not TCP: nothing of it may
   pass untranslated. */
static void on_stray(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	UNUSED(event);
	UNUSED(arg);
	cores[mctx->cpu]->stray++;
	drop(mctx, sock, side);
}

/* ---- set-up --------------------------------------------------------------------------- */

static void print_line(void)
{
	uint64_t open = 0, opened = 0, no_port = 0, stray = 0;
	int i;

	for (i = 0; i < MAX_CORES; i++)
		if (cores[i]) {
			open += cores[i]->open;
			opened += cores[i]->opened;
			no_port += cores[i]->no_port;
			stray += cores[i]->stray;
		}
	printf("translations: %" PRIu64 " open, %" PRIu64 " in all, %" PRIu64
	       " refused; %" PRIu64 " stray packets dropped\n", open, opened, no_port, stray);
	fflush(stdout);
}

static void on_tick(mctx_t mctx, int id, int side, event_t event, filter_arg_t *arg)
{
	struct timeval again = second;

	UNUSED(side);
	UNUSED(event);
	UNUSED(arg);
	print_line();
	mtcp_settimer(mctx, id, &again, on_tick);
}

static int make_socket(mctx_t mctx, int type, const union monitor_filter *filter)
{
	union monitor_filter copy = *filter;
	int sock = mtcp_socket(mctx, AF_INET, type, 0);

	if (sock < 0)
		die("cannot make a monitor socket");
	if (mtcp_bind_monitor_filter(mctx, sock, &copy) < 0)
		die("cannot use the private network as a filter (-l)");
	return sock;
}

static void start_core(int cpu, bool prints)
{
	struct core *core = cores[cpu];
	union monitor_filter filter = {0};
	char begun[200], other[300];
	struct timeval first = second;
	int sock, off = 0;

	if (!(core->mctx = mtcp_create_context(cpu)))
		die("cannot create a context");

	/* Connections that begin in the private network and leave it. */
	snprintf(begun, sizeof(begun), "src net %s and not dst net %s", private_net, private_net);
	filter.stream_syn_filter = begun;
	sock = make_socket(core->mctx, MOS_SOCK_MONITOR_STREAM, &filter);
	/* Only headers are looked at: no reassembly. */
	if (mtcp_setsockopt(core->mctx, sock, SOL_MONSOCKET, MOS_CLIBUF, &off, sizeof(off)) < 0 ||
	    mtcp_setsockopt(core->mctx, sock, SOL_MONSOCKET, MOS_SVRBUF, &off, sizeof(off)) < 0)
		die("cannot switch reassembly off");
	if (mtcp_register_callback(core->mctx, sock, MOS_ON_PKT_IN, MOS_HK_SND, on_packet) < 0 ||
	    mtcp_register_callback(core->mctx, sock, MOS_ON_CONN_END, MOS_HK_SND, on_end) < 0 ||
	    mtcp_register_callback(core->mctx, sock, MOS_ON_ORPHAN, MOS_NULL, on_stray) < 0)
		die("cannot register a callback");

	/* What else would leave it; echo requests to the public address are the box's to answer. */
	memset(&filter, 0, sizeof(filter));
	snprintf(other, sizeof(other),
		 "ip and not tcp and src net %s and not dst net %s and not dst host %s",
		 private_net, private_net, inet_ntoa((struct in_addr){public_ip}));
	filter.raw_pkt_filter = other;
	sock = make_socket(core->mctx, MOS_SOCK_MONITOR_RAW, &filter);
	if (mtcp_register_callback(core->mctx, sock, MOS_ON_PKT_IN, MOS_NULL, on_stray) < 0)
		die("cannot register a callback");

	if (prints && mtcp_settimer(core->mctx, cpu, &first, on_tick) < 0)
		die("cannot set a timer");
}

static void usage(void)
{
	fprintf(stderr, "usage: nat [-f CONF] -l NETWORK -a ADDRESS [-p FIRST-LAST] [-q]\n"
			"  -f CONF        configuration file (nat.conf)\n"
			"  -l NETWORK     the private network, as 192.168.0.0/24\n"
			"  -a ADDRESS     the public address\n"
			"  -p FIRST-LAST  public ports (20000-59999)\n"
			"  -q             no line a second\n");
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	static struct mtcp_conf conf;
	const char *file = "nat.conf";
	struct in_addr addr = {0};
	bool quiet = false;
	int option, i;

	while ((option = getopt(argc, argv, "f:l:a:p:qh")) != -1) {
		switch (option) {
		case 'f': file = optarg; break;
		case 'l': private_net = optarg; break;
		case 'a':
			if (inet_pton(AF_INET, optarg, &addr) != 1)
				usage();
			break;
		case 'p':
			if (sscanf(optarg, "%u-%u", &first_port, &last_port) != 2)
				usage();
			break;
		case 'q': quiet = true; break;
		default: usage();
		}
	}
	if (optind != argc || !private_net || strlen(private_net) > 60 || !addr.s_addr ||
	    first_port < 1 || first_port > last_port || last_port > 65535)
		usage();
	public_ip = addr.s_addr;

	if (mtcp_init(file) < 0)
		return EXIT_FAILURE; /* the library has said why */
	if (mtcp_getconf(&conf) < 0)
		die("cannot read the configuration back");
	/* All entries first: a core that runs looks at those of the others. */
	for (i = 0; i < conf.num_cores && i < MAX_CORES; i++)
		if (conf.cpu_mask & (UINT64_C(1) << i)) {
			if (!(cores[i] = calloc(1, sizeof(*cores[i]))))
				die("no memory");
			num_queues++;
		}
	for (i = 0; i < MAX_CORES; i++)
		if (cores[i]) {
			start_core(i, !quiet);
			quiet = true; /* one core prints for all */
		}

	/* Until SIGINT, or the end of the captures. */
	for (i = 0; i < MAX_CORES; i++)
		if (cores[i])
			mtcp_app_join(cores[i]->mctx);
	for (i = 0; i < MAX_CORES; i++)
		if (cores[i])
			mtcp_destroy_context(cores[i]->mctx);
	print_line();
	mtcp_destroy();
	return EXIT_SUCCESS;
}
