/*
 * The program in the middle of the live tests.
 *
 *   box -f CONF [-d PORT] [-e OLD=NEW] [-r PORT] [-p PORT=PAGE] [-s PORT] [-t SECONDS [-a]] [-n]
 *
 * -d drops what goes to a port; -e replaces the first OLD in what a server sends by NEW, whatever their lengths, and moves
 * the sequence numbers behind it; -r resets connections to a port when their server sends data; -p answers requests to a
 * port with PAGE in the server's place, which never gets them; -s sends what carries data to or from a port itself, by
 * mtcp_sendpkt(), and drops the packets it came in; -t destroys all contexts after so long, -a makes them anew then and says
 * "again"; -n also tells when and how often NEW_DATA came. Says "ready" when packets are received, and at the end, which
 * SIGINT or that of a capture brings:
 *
 *   flow CORE CLIENT SERVER starts=N ends=N states=BOTH.BOTH... bytes=FROM_CLIENT,FROM_SERVER hash=CLIENT,SERVER
 *        [news=N,N times=START,LAST_NEWS,END]
 *   core N NAME=COUNTER...      for each core
 *   destroyed in N ms           with -t
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <mos_api.h>
#include <mos_ext.h>

#define CORES 64

struct flow {
	struct flow *next;
	struct sockaddr_in addr[2];
	int starts, ends, changes;
	char states[64];        /* both sides' at each change */
	uint64_t bytes[2];      /* by receiving side */
	uint32_t hash[2];
	int news[2];
	uint32_t times[3];
	bool edited, reset;
	uint32_t edit_seq;      /* what the server sends from here on is moved */
	int moved;
};

static struct flow *flows[CORES];
static mctx_t cores[CORES];
static int drop_port, reset_port, page_port, send_port;
static bool again, news;
static char *old_text, *new_text, *page;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void on_start(mctx_t m, int s, int side, uint64_t events, filter_arg_t *arg)
{
	struct flow *f = mtcp_get_uctx(m, s);
	socklen_t len = sizeof(f->addr);

	if (!f) {
		if (!(f = calloc(1, sizeof(*f))))
			die("calloc");
		f->hash[0] = f->hash[1] = 2166136261u;
		f->next = flows[m->cpu];
		flows[m->cpu] = f;
		if (mtcp_getpeername(m, s, (struct sockaddr *)f->addr, &len, MOS_SIDE_BOTH) < 0)
			die("mtcp_getpeername");
		mtcp_set_uctx(m, s, f);
		f->times[0] = mtcp_cb_get_ts(m);
	}
	f->starts++;
}

static void on_end(mctx_t m, int s, int side, uint64_t events, filter_arg_t *arg)
{
	struct flow *f = mtcp_get_uctx(m, s);

	f->ends++;
	f->times[2] = mtcp_cb_get_ts(m);
}

static void on_change(mctx_t m, int s, int side, uint64_t events, filter_arg_t *arg)
{
	struct flow *f = mtcp_get_uctx(m, s);

	int state[2] = {0, 0};
	socklen_t len = sizeof(int);
	if (!f)
		return;
	f->changes++;
	mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_TCP_STATE_CLI, &state[0], &len);
	mtcp_getsockopt(m, s, SOL_MONSOCKET, MOS_TCP_STATE_SVR, &state[1], &len);
	if (strlen(f->states) < sizeof(f->states) - 4)
		sprintf(f->states + strlen(f->states), "%x%x.", state[0], state[1]);
}

static void on_data(mctx_t m, int s, int side, uint64_t events, filter_arg_t *arg)
{
	static __thread char buf[1 << 16];
	struct flow *f = mtcp_get_uctx(m, s);
	ssize_t n, i;

	f->news[side]++;
	f->times[1] = mtcp_cb_get_ts(m);
	while ((n = mtcp_peek(m, s, side, buf, sizeof(buf))) > 0) {
		f->bytes[side] += n;
		for (i = 0; i < n; i++)
			f->hash[side] = (f->hash[side] ^ (uint8_t)buf[i]) * 16777619u;
	}
}

static void set(mctx_t m, int s, int side, int at, void *data, int len, int option)
{
	if (mtcp_setlastpkt(m, s, side, at, data, len, option | MOS_UPDATE_IP_CHKSUM | MOS_UPDATE_TCP_CHKSUM) < 0)
		die("mtcp_setlastpkt");
}

static void drop(mctx_t m, int s, int side)
{
	if (mtcp_setlastpkt(m, s, side, 0, NULL, 0, MOS_DROP) < 0)
		die("MOS_DROP");
}

/* The page, to who asked for it: the request's headers turned round. */
static void answer(mctx_t m, int s, const struct pkt_info *request)
{
	struct pkt_info p = *request;
	struct iphdr ip = *request->iph;
	struct tcphdr tcp = *request->tcph;

	ip.saddr = request->iph->daddr;
	ip.daddr = request->iph->saddr;
	tcp.source = request->tcph->dest;
	tcp.dest = request->tcph->source;
	p.ethh = NULL; /* as the flow's */
	p.iph = &ip;
	p.tcph = &tcp;
	p.seq = request->ack_seq;
	p.ack_seq = request->seq + request->payloadlen;
	p.payload = (uint8_t *)page;
	p.payloadlen = strlen(page);
	if (mtcp_sendpkt(m, s, &p) < 0)
		die("mtcp_sendpkt");
}

/* On the sender's hook: what the receiver is to see. */
static void on_packet(mctx_t m, int s, int side, uint64_t events, filter_arg_t *arg)
{
	struct flow *f = mtcp_get_uctx(m, s);
	struct pkt_info p;
	uint32_t number;
	int length, over;
	char *found;

	if (mtcp_getlastpkt(m, s, side, &p) < 0)
		die("mtcp_getlastpkt");
	if (drop_port && ntohs(p.tcph->dest) == drop_port)
		drop(m, s, side);
	if (!f)
		return;
	if (page_port && p.payloadlen && ntohs(p.tcph->dest) == page_port) {
		answer(m, s, &p);
		drop(m, s, side);
		return;
	}
	if (send_port && p.payloadlen && ntohs(f->addr[1].sin_port) == send_port) {
		if (mtcp_sendpkt(m, s, &p) < 0)
			die("mtcp_sendpkt");
		drop(m, s, side);
		return;
	}
	if (reset_port && side == MOS_SIDE_SVR && p.payloadlen && ntohs(f->addr[1].sin_port) == reset_port && !f->reset) {
		f->reset = true;
		if (mtcp_reset_conn(m, s) < 0)
			die("reset");
		drop(m, s, side);
		return;
	}
	if (!old_text)
		return;
	if (side == MOS_SIDE_SVR && f->edited && (int32_t)(p.seq - f->edit_seq) >= 0) {
		number = htonl(p.seq + f->moved);
		set(m, s, side, 4, &number, 4, MOS_TCP_HDR | MOS_OVERWRITE);
	} else if (side == MOS_SIDE_SVR && p.payloadlen &&
		   (found = memmem(p.payload, p.payloadlen, old_text, strlen(old_text)))) {
		length = strlen(new_text) - strlen(old_text);
		over = strlen(length < 0 ? new_text : old_text);
		set(m, s, side, found - (char *)p.payload, new_text, over, MOS_TCP_PAYLOAD | MOS_OVERWRITE);
		if (length < 0)
			set(m, s, side, found - (char *)p.payload + over, NULL, -length, MOS_TCP_PAYLOAD | MOS_CHOMP);
		if (length > 0)
			set(m, s, side, found - (char *)p.payload + over, new_text + over, length,
			    MOS_TCP_PAYLOAD | MOS_INSERT);
		f->edited = true;
		f->edit_seq = p.seq + p.payloadlen;
		f->moved = length;
	} else if (side == MOS_SIDE_CLI && f->edited && (int32_t)(p.ack_seq - f->edit_seq - f->moved) >= 0) {
		number = htonl(p.ack_seq - f->moved);
		set(m, s, side, 8, &number, 4, MOS_TCP_HDR | MOS_OVERWRITE);
	}
}

static void start(int core)
{
	mctx_t m = mtcp_create_context(core);
	int s;

	if (!m)
		exit(3); /* the library has said why */
	cores[core] = m;
	if ((s = mtcp_socket(m, AF_INET, MOS_SOCK_MONITOR_STREAM, 0)) < 0 ||
	    mtcp_register_callback(m, s, MOS_ON_CONN_START, MOS_HK_SND, on_start) < 0 ||
	    mtcp_register_callback(m, s, MOS_ON_CONN_END, MOS_HK_SND, on_end) < 0 ||
	    mtcp_register_callback(m, s, MOS_ON_TCP_STATE_CHANGE, MOS_HK_RCV, on_change) < 0 ||
	    mtcp_register_callback(m, s, MOS_ON_CONN_NEW_DATA, MOS_NULL, on_data) < 0 ||
	    mtcp_register_callback(m, s, MOS_ON_PKT_IN, MOS_HK_SND, on_packet) < 0)
		die("set-up");
}

static void report(int core)
{
	char a[32], b[32];
	struct mos_stats s;
	struct flow *f;

	for (f = flows[core]; f; f = f->next) {
		inet_ntop(AF_INET, &f->addr[0].sin_addr, a, sizeof(a));
		inet_ntop(AF_INET, &f->addr[1].sin_addr, b, sizeof(b));
		printf("flow %d %s:%d %s:%d starts=%d ends=%d states=%s bytes=%" PRIu64 ",%" PRIu64 " hash=%08x,%08x", core,
		       a, ntohs(f->addr[0].sin_port), b, ntohs(f->addr[1].sin_port), f->starts, f->ends, f->states,
		       f->bytes[MOS_SIDE_SVR], f->bytes[MOS_SIDE_CLI], f->hash[MOS_SIDE_SVR], f->hash[MOS_SIDE_CLI]);
		if (news)
			printf(" news=%d,%d times=%u,%u,%u", f->news[0], f->news[1], f->times[0], f->times[1], f->times[2]);
		puts("");
	}
	if (mtcp_get_stats(cores[core], &s, sizeof(s)) < 0)
		die("mtcp_get_stats");
#define SHOW(member) printf(" %s=%" PRIu64, #member, s.member)
	printf("core %d flows=%u", core, mtcp_get_connection_cnt(cores[core]));
	SHOW(rx_packets); SHOW(rx_bytes); SHOW(fwd_packets); SHOW(fwd_bytes); SHOW(sent_packets);
	SHOW(in_flow); SHOW(in_orphan); SHOW(in_non_tcp); SHOW(in_non_ip); SHOW(in_fragment); SHOW(in_local);
	SHOW(in_malformed_eth); SHOW(in_malformed_ip_len); SHOW(in_malformed_ip_version); SHOW(in_malformed_ip_checksum);
	SHOW(in_malformed_tcp_len); SHOW(in_malformed_tcp_checksum); SHOW(in_unmonitored);
	SHOW(consumed); SHOW(drop_config); SHOW(drop_callback); SHOW(drop_no_route); SHOW(drop_malformed);
	SHOW(drop_tx_full); SHOW(drop_no_memory); SHOW(flows_created); SHOW(flows_ended); SHOW(flows_timed_out); SHOW(bytes_missing);
	SHOW(in_fault); SHOW(drop_fault); SHOW(drop_unresolved); SHOW(drop_too_long); SHOW(waiting);
	SHOW(sent_lost); SHOW(rx_missed); SHOW(rx_no_buffer); SHOW(rx_errors); SHOW(resteered); SHOW(resteer_lost);
	printf("\n");
}

int main(int argc, char **argv)
{
	struct timespec before, after;
	struct mtcp_conf conf;
	const char *file = NULL;
	int option, i, seconds = 0;

	while ((option = getopt(argc, argv, "f:d:e:r:p:s:t:an")) != -1) {
		switch (option) {
		case 'f': file = optarg; break;
		case 'd': drop_port = atoi(optarg); break;
		case 'r': reset_port = atoi(optarg); break;
		case 's': send_port = atoi(optarg); break;
		case 'p':
			page_port = atoi(optarg);
			if (!(page = strchr(optarg, '=')))
				exit(2);
			page++;
			break;
		case 'a': again = true; break;
		case 'n': news = true; break;
		case 't': seconds = atoi(optarg); break;
		case 'e':
			old_text = optarg;
			if (!(new_text = strchr(optarg, '=')))
				exit(2);
			*new_text++ = 0;
			break;
		default: exit(2);
		}
	}
	if (!file || mtcp_init(file) < 0)
		exit(3);
	if (mtcp_getconf(&conf) < 0)
		die("mtcp_getconf");
	for (i = 0; i < conf.num_cores && i < CORES; i++)
		if (conf.cpu_mask & (UINT64_C(1) << i))
			start(i);
	puts("ready");
	fflush(stdout);
	if (seconds) {
		sleep(seconds);
		clock_gettime(CLOCK_MONOTONIC, &before);
		for (i = 0; i < CORES; i++)
			if (cores[i])
				mtcp_destroy_context(cores[i]);
		clock_gettime(CLOCK_MONOTONIC, &after);
		printf("destroyed in %ld ms\n", (long)((after.tv_sec - before.tv_sec) * 1000 +
						       (after.tv_nsec - before.tv_nsec) / 1000000));
		if (!again)
			return mtcp_destroy() < 0;
		for (i = 0; i < CORES; i++)
			if (cores[i])
				start(i);
		puts("again");
		fflush(stdout);
	}
	for (i = 0; i < CORES; i++)
		if (cores[i])
			mtcp_app_join(cores[i]);
	for (i = 0; i < CORES; i++)
		if (cores[i])
			report(i);
	return mtcp_destroy() < 0;
}
