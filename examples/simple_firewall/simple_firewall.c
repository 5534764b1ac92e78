/*
 * simple_firewall - lets connections pass or not, by a list of rules.
 *
 * A connection is judged by its first SYN: the first rule that fits counts. All packets of a
 * denied one are dropped. A TCP packet of no known connection (one that began before the
 * firewall did, for instance) passes if the rules allow it in both directions. Shows the rules
 * and how often each was used. TCP only: everything else passes. See README.md.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mos_api.h>
#include <mos_ext.h>

#define MAX_CORES 64
#define MAX_RULES 1000

/* One end of a rule: a network and a range of ports, in host byte order. */
struct end {
	uint32_t net, mask;
	unsigned first_port, last_port;
};

struct rule {
	bool allow;
	struct end from, to;
	char text[120];         /* as it was written */
};

/* How often a rule was used; each core has its own, which only its own thread writes. */
struct use {
	uint64_t connections, packets;
};

struct core {
	mctx_t mctx;
	struct use uses[MAX_RULES + 1]; /* the last: when no rule fits */
};

static struct rule rules[MAX_RULES];
static int num_rules;
static bool allow_by_default;
static struct core *cores[MAX_CORES];   /* by core id; NULL: not used */
static bool live;                       /* redraw in place */
static const struct timeval second = {1, 0};

static void die(const char *what)
{
	fprintf(stderr, "simple_firewall: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

/* ---- rules ---------------------------------------------------------------------------- */

/* Reads a number up to `most`; *text goes on behind it. */
static bool read_number(const char **text, unsigned most, unsigned *number)
{
	char *end;
	unsigned long value;

	if (!isdigit((unsigned char)**text))
		return false;
	value = strtoul(*text, &end, 10);
	if (value > most)
		return false;
	*number = value;
	*text = end;
	return true;
}

/* `any`, `10.0.0.1`, `10.0.0.0/8`, each with or without `:80` or `:8000-8999`. */
static bool read_end(const char *text, struct end *end)
{
	char addr[INET_ADDRSTRLEN];
	size_t len = strcspn(text, "/:");
	struct in_addr in;
	unsigned prefix = 32;

	memset(end, 0, sizeof(*end));
	end->last_port = 65535;
	if (len >= sizeof(addr))
		return false;
	memcpy(addr, text, len);
	addr[len] = '\0';
	text += len;
	if (strcmp(addr, "any") != 0) {
		if (inet_pton(AF_INET, addr, &in) != 1)
			return false;
		if (*text == '/' && (text++, !read_number(&text, 32, &prefix)))
			return false;
		end->mask = prefix ? UINT32_MAX << (32 - prefix) : 0;
		end->net = ntohl(in.s_addr) & end->mask;
	}
	if (*text == ':') {
		text++;
		if (!read_number(&text, 65535, &end->first_port))
			return false;
		end->last_port = end->first_port;
		if (*text == '-' && (text++, !read_number(&text, 65535, &end->last_port)))
			return false;
	}
	return *text == '\0' && end->first_port <= end->last_port;
}

static bool read_action(const char *word, bool *allow)
{
	*allow = strcmp(word, "allow") == 0;
	return *allow || strcmp(word, "deny") == 0;
}

/* `allow|deny FROM -> TO`, or `default allow|deny`. */
static bool read_rule(const char *line)
{
	char action[16], from[48], arrow[4], to[48], more[2];
	int words = sscanf(line, "%15s %47s %3s %47s %1s", action, from, arrow, to, more);
	struct rule *rule = &rules[num_rules];

	if (words == 2 && strcmp(action, "default") == 0)
		return read_action(from, &allow_by_default);
	if (words != 4 || strcmp(arrow, "->") != 0 || num_rules == MAX_RULES ||
	    !read_action(action, &rule->allow) || !read_end(from, &rule->from) ||
	    !read_end(to, &rule->to))
		return false;
	snprintf(rule->text, sizeof(rule->text), "%-5s %s -> %s", action, from, to);
	num_rules++;
	return true;
}

static void read_rules(const char *name)
{
	FILE *file = fopen(name, "r");
	char line[256];
	int number = 0;

	if (!file)
		die(name);
	while (fgets(line, sizeof(line), file)) {
		number++;
		line[strcspn(line, "#\r\n")] = '\0';
		if (line[strspn(line, " \t")] && !read_rule(line)) {
			fprintf(stderr, "%s:%d: expected `allow|deny ADDRESS[:PORT] -> "
				"ADDRESS[:PORT]` or `default allow|deny`, found: %s\n",
				name, number, line);
			exit(EXIT_FAILURE);
		}
	}
	fclose(file);
}

static bool fits(const struct end *end, uint32_t addr, uint16_t port)
{
	unsigned p = ntohs(port);

	return (ntohl(addr) & end->mask) == end->net && p >= end->first_port &&
	       p <= end->last_port;
}

/* The number of the rule for a packet, as it is or turned round; num_rules when none fits. */
static int find_rule(const struct pkt_info *p, bool turned)
{
	uint32_t from = turned ? p->iph->daddr : p->iph->saddr;
	uint32_t to = turned ? p->iph->saddr : p->iph->daddr;
	uint16_t from_port = turned ? p->tcph->dest : p->tcph->source;
	uint16_t to_port = turned ? p->tcph->source : p->tcph->dest;
	int i;

	for (i = 0; i < num_rules; i++)
		if (fits(&rules[i].from, from, from_port) && fits(&rules[i].to, to, to_port))
			break;
	return i;
}

static bool allows(int rule)
{
	return rule < num_rules ? rules[rule].allow : allow_by_default;
}

/* ---- packets -------------------------------------------------------------------------- */

static void drop(mctx_t mctx, int sock, int side)
{
	mtcp_setlastpkt(mctx, sock, side, 0, NULL, 0, MOS_DROP);
}

/* Each packet of a connection. The user context is the use of its rule: from the first packet
   on, which is a client's SYN. */
static void on_packet(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	struct core *core = cores[mctx->cpu];
	struct use *use = mtcp_get_uctx(mctx, sock);
	struct pkt_info p;

	UNUSED(event);
	UNUSED(arg);
	if (!use) {
		if (mtcp_getlastpkt(mctx, sock, side, &p) < 0)
			return;
		use = &core->uses[find_rule(&p, false)];
		use->connections++;
		mtcp_set_uctx(mctx, sock, use);
	}
	use->packets++;
	if (!allows(use - core->uses))
		drop(mctx, sock, side);
}

/* A packet of no known connection: nobody knows which end began it. */
static void on_orphan(mctx_t mctx, int sock, int side, event_t event, filter_arg_t *arg)
{
	struct core *core = cores[mctx->cpu];
	struct pkt_info p;
	int rule, turned;

	UNUSED(event);
	UNUSED(arg);
	if (mtcp_getlastpkt(mctx, sock, side, &p) < 0)
		return;
	rule = find_rule(&p, false);
	turned = find_rule(&p, true);
	if (allows(rule) && !allows(turned))
		rule = turned;
	core->uses[rule].packets++;
	if (!allows(rule))
		drop(mctx, sock, side);
}

/* ---- the table ------------------------------------------------------------------------ */

static void print_table(void)
{
	int core, i;

	if (live)
		printf("\033[H\033[J"); /* from the top left corner on, an empty screen */
	printf("%4s  %-50s %11s %10s\n", "RULE", "", "CONNECTIONS", "PACKETS");
	for (i = 0; i <= num_rules; i++) {
		struct use sum = {0};

		for (core = 0; core < MAX_CORES; core++)
			if (cores[core]) {
				sum.connections += cores[core]->uses[i].connections;
				sum.packets += cores[core]->uses[i].packets;
			}
		if (i < num_rules)
			printf("%4d  %-50s", i + 1, rules[i].text);
		else
			printf("%4s  %-50s", "-", allow_by_default ? "allow otherwise"
								   : "deny  otherwise");
		printf(" %11" PRIu64 " %10" PRIu64 "\n", sum.connections, sum.packets);
	}
	fflush(stdout);
}

static void on_tick(mctx_t mctx, int id, int side, event_t event, filter_arg_t *arg)
{
	struct timeval again = second;

	UNUSED(side);
	UNUSED(event);
	UNUSED(arg);
	print_table();
	mtcp_settimer(mctx, id, &again, on_tick);
}

/* ---- set-up --------------------------------------------------------------------------- */

static void start_core(int cpu, bool prints)
{
	struct core *core = cores[cpu];
	struct timeval first = second;
	int sock, off = 0;

	if (!(core->mctx = mtcp_create_context(cpu)))
		die("cannot create a context");
	sock = mtcp_socket(core->mctx, AF_INET, MOS_SOCK_MONITOR_STREAM, 0);
	if (sock < 0)
		die("cannot make a monitor socket");
	/* Only headers are looked at: no reassembly. */
	if (mtcp_setsockopt(core->mctx, sock, SOL_MONSOCKET, MOS_CLIBUF, &off, sizeof(off)) < 0 ||
	    mtcp_setsockopt(core->mctx, sock, SOL_MONSOCKET, MOS_SVRBUF, &off, sizeof(off)) < 0)
		die("cannot switch reassembly off");
	if (mtcp_register_callback(core->mctx, sock, MOS_ON_PKT_IN, MOS_HK_SND, on_packet) < 0 ||
	    mtcp_register_callback(core->mctx, sock, MOS_ON_ORPHAN, MOS_NULL, on_orphan) < 0)
		die("cannot register a callback");
	if (prints && mtcp_settimer(core->mctx, cpu, &first, on_tick) < 0)
		die("cannot set a timer");
}

static void usage(void)
{
	fprintf(stderr, "usage: simple_firewall [-f CONF] [-r RULES] [-n]\n"
			"  -f CONF   configuration file (firewall.conf)\n"
			"  -r RULES  rules (firewall.rules)\n"
			"  -n        the table at the end only\n");
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	static struct mtcp_conf conf;
	const char *file = "firewall.conf", *rules_file = "firewall.rules";
	bool shows;
	int option, i;

	shows = live = isatty(STDOUT_FILENO);
	while ((option = getopt(argc, argv, "f:r:nh")) != -1) {
		switch (option) {
		case 'f': file = optarg; break;
		case 'r': rules_file = optarg; break;
		case 'n': shows = live = false; break;
		default: usage();
		}
	}
	if (optind != argc)
		usage();
	read_rules(rules_file);

	if (mtcp_init(file) < 0)
		return EXIT_FAILURE; /* the library has said why */
	if (mtcp_getconf(&conf) < 0)
		die("cannot read the configuration back");
	/* All entries first: a core that runs looks at those of the others. */
	for (i = 0; i < conf.num_cores && i < MAX_CORES; i++)
		if (conf.cpu_mask & (UINT64_C(1) << i))
			if (!(cores[i] = calloc(1, sizeof(*cores[i]))))
				die("no memory");
	for (i = 0; i < MAX_CORES; i++)
		if (cores[i]) {
			start_core(i, shows);
			shows = false; /* one core shows all */
		}

	/* Until SIGINT, or the end of the captures. */
	for (i = 0; i < MAX_CORES; i++)
		if (cores[i])
			mtcp_app_join(cores[i]->mctx);
	for (i = 0; i < MAX_CORES; i++)
		if (cores[i])
			mtcp_destroy_context(cores[i]->mctx);
	print_table();
	mtcp_destroy();
	return EXIT_SUCCESS;
}
