/* cores [-f conf]: CONN_START and CONN_END counting on every core of the mask, buffers off; a RESULT line for each core */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <mos_api.h>
#include <mtcp_api.h>

#define CORES 64

/* A core's own, on cache lines of its own. */
static struct { uint64_t start, end; char apart[112]; } counts[CORES];

static void on_start(mctx_t m, int s, int side, event_t e, filter_arg_t *a) { counts[m->cpu].start++; }
static void on_end(mctx_t m, int s, int side, event_t e, filter_arg_t *a) { counts[m->cpu].end++; }

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	const char *file = "mos.conf";
	mctx_t contexts[CORES] = {NULL};
	struct mtcp_conf conf;
	int option, zero = 0, socket, core;

	while ((option = getopt(argc, argv, "f:")) != -1)
		if (option == 'f')
			file = optarg;
	check(mtcp_init(file) == 0 && mtcp_getconf(&conf) == 0, "mtcp_init");
	for (core = 0; core < conf.num_cores && core < CORES; core++) {
		if (!(conf.cpu_mask >> core & 1))
			continue;
		check((contexts[core] = mtcp_create_context(core)) != NULL, "mtcp_create_context");
		socket = mtcp_socket(contexts[core], AF_INET, MOS_SOCK_MONITOR_STREAM, 0);
		check(socket >= 0, "mtcp_socket");
		check(!mtcp_setsockopt(contexts[core], socket, SOL_MONSOCKET, MOS_CLIBUF, &zero, sizeof zero) &&
		      !mtcp_setsockopt(contexts[core], socket, SOL_MONSOCKET, MOS_SVRBUF, &zero, sizeof zero) &&
		      !mtcp_register_callback(contexts[core], socket, MOS_ON_CONN_START, MOS_HK_SND, on_start) &&
		      !mtcp_register_callback(contexts[core], socket, MOS_ON_CONN_END, MOS_HK_SND, on_end), "set-up");
	}
	for (core = 0; core < CORES; core++)
		if (contexts[core])
			mtcp_app_join(contexts[core]);
	for (core = 0; core < CORES; core++)
		if (contexts[core])
			fprintf(stderr, "RESULT core=%d start=%" PRIu64 " end_cb=%" PRIu64 "\n", core, counts[core].start,
				counts[core].end);
	return mtcp_destroy() < 0;
}
