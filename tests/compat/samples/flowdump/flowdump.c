/*
 * flowdump - prints the connections that pass, and the web pages asked for. In the manner of
 * the applications written for mOS: what it includes, links and takes for granted is what
 * they do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <signal.h>
#include <time.h>

#include <mos_api.h>
#include <mtcp_api.h>
#include <mtcp_epoll.h>
#include <mtcp_util.h>

#include "cpu.h"
#include "debug.h"
#include "http_parsing.h"
#include "netlib.h"
#include "applib.h"

static mctx_t contexts[MAX_CPUS];
static struct conf_var vars[] = {{"port", "80"}, {"print", "1"}};
static event_t on_request;

static bool
is_request(mctx_t mctx, int sock, int side, uint64_t events, filter_arg_t *arg)
{
	struct pkt_info p;

	if (mtcp_getlastpkt(mctx, sock, side, &p) < 0 || !p.tcph)
		return false;
	return !p.tcph->syn && p.payloadlen > 0 &&
	       p.iph->protocol == IPPROTO_TCP && p.tcph->doff >= 5 &&
	       is_http_request((char *)p.payload, p.payloadlen);
}

static void
print_request(mctx_t mctx, int sock, int side, uint64_t events, filter_arg_t *arg)
{
	struct pkt_info p;
	char url[128], host[128];

	if (mtcp_getlastpkt(mctx, sock, side, &p) < 0)
		return;
	if (http_get_url((char *)p.payload, p.payloadlen, url, sizeof(url)))
		TRACE_INFO("port %d: %s %s\n", ntohs(p.tcph->dest), url,
			   http_header_str_val((char *)p.payload, "Host:", 5, host, sizeof(host)) ?
			   host : "");
	if (p.iph->daddr == inet_addr("198.51.100.1"))
		mtcp_setlastpkt(mctx, sock, side, 0, NULL, 0, MOS_DROP);
}

static void
print_event(mctx_t mctx, int sock, int side, uint64_t events, filter_arg_t *arg)
{
	struct sockaddr_in addrs[2];
	socklen_t len = sizeof(addrs);

	if (mtcp_getpeername(mctx, sock, (struct sockaddr *)addrs, &len, MOS_SIDE_BOTH) < 0) {
		TRACE_ERROR("no addresses\n");
		return;
	}
	printf("%s %d -> %d\n", strcbevent(events), ntohs(addrs[0].sin_port),
	       ntohs(addrs[1].sin_port));
}

static void
stop(int signum)
{
	int i;

	for (i = 0; i < MAX_CPUS; i++)
		if (contexts[i])
			mtcp_destroy_context(contexts[i]);
}

static int
start(int core)
{
	union monitor_filter ft = {.stream_syn_filter = "tcp and dst port 8000"};
	int sock;

	mtcp_core_affinitize(core);
	if (!(contexts[core] = mtcp_create_context(core)))
		return -1;
	sock = mtcp_socket(contexts[core], AF_INET, MOS_SOCK_MONITOR_STREAM, 0);
	if (sock < 0 || mtcp_bind_monitor_filter(contexts[core], sock, &ft) < 0)
		return -1;
	if (mtcp_register_callback(contexts[core], sock, MOS_ON_CONN_START, MOS_HK_SND, print_event) ||
	    mtcp_register_callback(contexts[core], sock, MOS_ON_CONN_END, MOS_HK_RCV, print_event) ||
	    mtcp_register_callback(contexts[core], sock, on_request, MOS_HK_SND, print_request))
		return -1;
	return 0;
}

int
main(int argc, char **argv)
{
	static struct mtcp_conf mcfg;
	int i, core_limit = GetNumCPUs();
	char *name = "config/mos.conf";

	if (argc > 1)
		name = argv[1];
	if (argc > 2 && LoadConfig(argv[2], vars, sizeof(vars) / sizeof(vars[0])) < 0)
		return EXIT_FAILURE;
	if (mtcp_init(name)) {
		TRACE_ERROR("mtcp_init failed\n");
		return EXIT_FAILURE;
	}
	mtcp_getconf(&mcfg);
	mcfg.num_cores = MIN(core_limit, MIN(mcfg.num_cores, MAX_CPUS));
	mtcp_setconf(&mcfg);
	mtcp_register_signal(SIGINT, stop);
	if (!(on_request = mtcp_define_event(MOS_ON_PKT_IN, is_request, NULL)))
		return EXIT_FAILURE;
	for (i = 0; i < mcfg.num_cores; i++)
		if ((mcfg.cpu_mask & (1L << i)) && start(i) < 0)
			return EXIT_FAILURE;
	TRACE_CONFIG("port %s\n", vars[0].value);
	for (i = 0; i < mcfg.num_cores; i++)
		if (contexts[i])
			mtcp_app_join(contexts[i]);
	for (i = 0; i < mcfg.num_cores; i++)
		if (contexts[i])
			mtcp_destroy_context(contexts[i]);
	mtcp_destroy();
	return EXIT_SUCCESS;
}
