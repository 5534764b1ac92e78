/*
 * Contexts on live ports under load: soak CONFIG SECONDS. Every packet received is in one counter of each partition, at every
 * look and at the end; contexts can be made again. Prints the totals.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <mtcp_api.h>
#include <mos_api.h>
#include <mos_ext.h>

#define CHECK(what) do { if (!(what)) { printf("line %d: %s (errno %d)\n", __LINE__, #what, errno); exit(2); } } while (0)

static uint64_t new_data;

static void
on_data(mctx_t mctx, int sock, int side, uint64_t events, filter_arg_t *arg)
{
	char buf[4096];

	while (mtcp_peek(mctx, sock, side, buf, sizeof(buf)) > 0)
		__atomic_fetch_add(&new_data, 1, __ATOMIC_RELAXED);
}

static void
look(mctx_t mctx, struct mos_stats *s)
{
	uint64_t inspection, fate;

	memset(s, 0, sizeof(*s));
	CHECK(mtcp_get_stats(mctx, s, sizeof(*s)) >= 0);
	inspection = s->in_flow + s->in_orphan + s->in_non_tcp + s->in_non_ip + s->in_fragment + s->in_local
		+ s->in_malformed_eth + s->in_malformed_ip_len + s->in_malformed_ip_version
		+ s->in_malformed_ip_checksum + s->in_malformed_tcp_len + s->in_malformed_tcp_checksum
		+ s->in_unmonitored;
	fate = s->fwd_packets + s->consumed + s->drop_config + s->drop_callback + s->drop_no_route
		+ s->drop_malformed + s->drop_tx_full + s->drop_no_memory;
	if (inspection != s->rx_packets || fate != s->rx_packets) {
		printf("core %d: %" PRIu64 " received, inspection %" PRIu64 ", fate %" PRIu64 "\n", mctx->cpu,
		       s->rx_packets, inspection, fate);
		exit(2);
	}
}

static void
run(int seconds, const char *what)
{
	struct mtcp_conf conf;
	struct mos_stats s;
	uint64_t rx = 0, forwarded = 0, full = 0, memory = 0, consumed = 0, flows = 0;
	uint64_t early[64] = { 0 };
	mctx_t mctx[64] = { NULL };

	CHECK(mtcp_getconf(&conf) == 0);
	for (int core = 0; core < conf.num_cores; core++) {
		int sock;

		CHECK((mctx[core] = mtcp_create_context(core)) != NULL);
		CHECK((sock = mtcp_socket(mctx[core], AF_INET, MOS_SOCK_MONITOR_STREAM, 0)) >= 0);
		CHECK(mtcp_register_callback(mctx[core], sock, MOS_ON_CONN_NEW_DATA, MOS_NULL, on_data) == 0);
	}
	for (int n = 0; n < seconds * 10; n++) {
		usleep(100 * 1000);
		for (int core = 0; core < conf.num_cores; core++) {
			look(mctx[core], &s);
			if (n == 0)
				early[core] = s.consumed;
		}
	}
	for (int core = 0; core < conf.num_cores; core++) {
		look(mctx[core], &s);
		rx += s.rx_packets;
		forwarded += s.fwd_packets;
		full += s.drop_tx_full;
		memory += s.drop_no_memory;
		/* Of what is not IP, frames are consumed as long as nobody monitors: until the socket above was there. */
		CHECK(s.consumed == early[core]);
		consumed += s.consumed;
		flows += s.flows_created;
	}
	for (int core = 0; core < conf.num_cores; core++)
		CHECK(mtcp_destroy_context(mctx[core]) == 0);
	printf("%s: rx %" PRIu64 " fwd %" PRIu64 " full %" PRIu64 " memory %" PRIu64 " consumed %" PRIu64 " flows %" PRIu64
	       " reads %" PRIu64 "\n", what, rx, forwarded, full, memory, consumed, flows, new_data);
	CHECK(rx > 0);
}

int
main(int argc, char **argv)
{
	if (argc != 3)
		return 1;
	CHECK(mtcp_init(argv[1]) == 0);
	run(atoi(argv[2]), "first");
	run(1, "again");
	CHECK(mtcp_destroy() == 0);
	/* DPDK can be used once in a process: that is an error, nothing worse. */
	CHECK(mtcp_init(argv[1]) == -1 && errno == EINVAL);
	printf("ok\n");
	return 0;
}
