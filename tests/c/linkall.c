/*
 * Every public function is declared, and found in the library, by C and by C++ programs:
 * compiled as both. test-c.sh compares the number of entries with tests/exports.txt.
 */
#include <stdio.h>

#include <mos_ext.h>
#include <mtcp_util.h>

typedef void (*function)(void);
#define ENTRY(name) {#name, (function)name}

static const struct {
	const char *name;
	function address;
} functions[] = {
	ENTRY(EventToString),
	ENTRY(GetNumCPUs),
	ENTRY(GetRSSCPUCore),
	ENTRY(StrToArgs),
	ENTRY(XXH32),
	ENTRY(XXH64),
	ENTRY(mtcp_abort),
	ENTRY(mtcp_accept),
	ENTRY(mtcp_alloc_event),
	ENTRY(mtcp_app_join),
	ENTRY(mtcp_bind),
	ENTRY(mtcp_bind_monitor_filter),
	ENTRY(mtcp_cb_dropcurpkt),
	ENTRY(mtcp_cb_get_ts),
	ENTRY(mtcp_cb_stop),
	ENTRY(mtcp_close),
	ENTRY(mtcp_connect),
	ENTRY(mtcp_core_affinitize),
	ENTRY(mtcp_create_context),
	ENTRY(mtcp_define_event),
	ENTRY(mtcp_destroy),
	ENTRY(mtcp_destroy_context),
	ENTRY(mtcp_epoll_create),
	ENTRY(mtcp_epoll_ctl),
	ENTRY(mtcp_epoll_wait),
	ENTRY(mtcp_get_connection_cnt),
	ENTRY(mtcp_get_stats),
	ENTRY(mtcp_get_uctx),
	ENTRY(mtcp_getconf),
	ENTRY(mtcp_getlastpkt),
	ENTRY(mtcp_getpeername),
	ENTRY(mtcp_getsockname),
	ENTRY(mtcp_getsockopt),
	ENTRY(mtcp_init),
	ENTRY(mtcp_init_rss),
	ENTRY(mtcp_ioctl),
	ENTRY(mtcp_listen),
	ENTRY(mtcp_peek),
	ENTRY(mtcp_pipe),
	ENTRY(mtcp_ppeek),
	ENTRY(mtcp_raise_event),
	ENTRY(mtcp_read),
	ENTRY(mtcp_readv),
	ENTRY(mtcp_recv),
	ENTRY(mtcp_register_callback),
	ENTRY(mtcp_register_signal),
	ENTRY(mtcp_reset_conn),
	ENTRY(mtcp_sendpkt),
	ENTRY(mtcp_set_uctx),
	ENTRY(mtcp_setconf),
	ENTRY(mtcp_setlastpkt),
	ENTRY(mtcp_setsock_nonblock),
	ENTRY(mtcp_setsockopt),
	ENTRY(mtcp_settimer),
	ENTRY(mtcp_shutdown),
	ENTRY(mtcp_socket),
	ENTRY(mtcp_unregister_callback),
	ENTRY(mtcp_write),
	ENTRY(mtcp_writev),
};

int main(void)
{
	unsigned int i, n = sizeof(functions) / sizeof(functions[0]);

	for (i = 0; i < n; i++)
		if (!functions[i].address) {
			printf("%s is missing\n", functions[i].name);
			return 1;
		}
	printf("%u functions\n", n);
	return 0;
}
