/* Contexts, signals and configuration as one process sees them (decisions D14, D15, D17, D18). Says "ok" or what is wrong. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <mtcp_api.h>
#include <mos_api.h>

#define CHECK(what) do { if (!(what)) { printf("line %d: %s (errno %d)\n", __LINE__, #what, errno); exit(2); } } while (0)

static int packets[8], ends[8];
static mctx_t the_mctx;
static pthread_t main_thread, core_thread;
static volatile int handled, signalled;

static void
on_packet(mctx_t mctx, int sock, int side, uint64_t events, filter_arg_t *arg)
{
	packets[mctx->cpu & 7]++;
	core_thread = pthread_self();
}

static void
on_end(mctx_t mctx, int sock, int side, uint64_t events, filter_arg_t *arg)
{
	ends[mctx->cpu & 7]++;
}

static void
on_first_packet(mctx_t mctx, int sock, int side, uint64_t events, filter_arg_t *arg)
{
	on_packet(mctx, sock, side, events, arg);
	if (!signalled) {
		signalled = 1;
		CHECK(kill(getpid(), SIGINT) == 0);
	}
	usleep(2000);
}

static int
listen_on(mctx_t mctx, void (*packet)(mctx_t, int, int, uint64_t, filter_arg_t *))
{
	int sock = mtcp_socket(mctx, AF_INET, MOS_SOCK_MONITOR_STREAM, 0);

	CHECK(sock >= 0);
	CHECK(mtcp_register_callback(mctx, sock, MOS_ON_PKT_IN, MOS_HK_SND, packet) == 0);
	CHECK(mtcp_register_callback(mctx, sock, MOS_ON_CONN_END, MOS_HK_SND, on_end) == 0);
	return sock;
}

/* D17: the handler runs on an ordinary thread and may call everything, destroy included. */
static void
on_sigint(int signum)
{
	CHECK(signum == SIGINT);
	CHECK(!pthread_equal(pthread_self(), main_thread));
	CHECK(!pthread_equal(pthread_self(), core_thread));
	CHECK(mtcp_socket(the_mctx, AF_INET, MOS_SOCK_MONITOR_STREAM, 0) >= 0);
	CHECK(mtcp_destroy_context(the_mctx) == 0);
	handled = 1;
}

static void
sigint(void)
{
	CHECK((the_mctx = mtcp_create_context(0)) != NULL);
	CHECK(mtcp_register_signal(SIGINT, on_sigint) != SIG_ERR);
	listen_on(the_mctx, on_first_packet);
	mtcp_app_join(the_mctx);
	for (int n = 0; n < 5000 && !handled; n++)
		usleep(1000);
	CHECK(handled);
	CHECK(packets[0] > 0);
	/* Every flow there was got its end, on both sides. */
	CHECK(ends[0] > 0 && ends[0] % 2 == 0);
	CHECK(mtcp_socket(the_mctx, AF_INET, MOS_SOCK_MONITOR_STREAM, 0) == -1);
}

static void
again(void)
{
	for (int n = 0; n < 3; n++) {
		mctx_t mctx = mtcp_create_context(0);

		CHECK(mctx != NULL);
		CHECK(mtcp_create_context(0) == NULL);
		listen_on(mctx, on_packet);
		if (n != 1)
			mtcp_app_join(mctx);
		CHECK(mtcp_destroy_context(mctx) == 0);
		CHECK(mtcp_destroy_context(mctx) == 0);
		errno = 0;
		CHECK(mtcp_socket(mctx, AF_INET, MOS_SOCK_MONITOR_STREAM, 0) == -1 && errno == EPERM);
	}
	CHECK(packets[0] > 0 && ends[0] > 0);
}

/* D14, with a device on cores 0 and 2. */
static void
masks(void)
{
	struct mtcp_conf conf;
	mctx_t mctx[3];
	int seen = 0;

	CHECK(mtcp_getconf(&conf) == 0);
	CHECK(conf.num_cores == 3 && conf.cpu_mask == 5);
	for (int core = 0; core < 3; core++) {
		CHECK((mctx[core] = mtcp_create_context(core)) != NULL);
		CHECK(mctx[core]->cpu == core);
		listen_on(mctx[core], on_packet);
	}
	CHECK(mtcp_create_context(3) == NULL);
	CHECK(mtcp_create_context(-1) == NULL);
	for (int port = 1; port < 2000; port++) {
		int core = GetRSSCPUCore(0x0100000a, 0x0101000a, port, 80, 2);

		CHECK(core == 0 || core == 2);
		seen |= 1 << core;
	}
	CHECK(seen == 5);
	for (int core = 0; core < 3; core++)
		mtcp_app_join(mctx[core]);
	CHECK(packets[0] + packets[2] > 0);
	CHECK(packets[1] == 0);
	for (int core = 0; core < 3; core++)
		CHECK(mtcp_destroy_context(mctx[core]) == 0);
}

static int cancelled_callbacks;

/* A callback that is cancelled at a cancellation point of its own, on the core's thread. */
static void
on_packet_cancelled(mctx_t mctx, int sock, int side, uint64_t events, filter_arg_t *arg)
{
	if (cancelled_callbacks++ == 0)
		CHECK(pthread_cancel(pthread_self()) == 0);
	usleep(1);
	pthread_testcancel();
	on_packet(mctx, sock, side, events, arg);
}

static void *
with_a_request_pending(void *arg)
{
	mctx_t mctx;
	int state;

	/* From here on each cancellation point would end this thread: those inside the library must not. */
	CHECK(pthread_cancel(pthread_self()) == 0);
	CHECK((mctx = mtcp_create_context(0)) != NULL);
	listen_on(mctx, on_packet_cancelled);
	mtcp_app_join(mctx);
	CHECK(mtcp_destroy_context(mctx) == 0);
	CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state) == 0);
	CHECK(state == PTHREAD_CANCEL_ENABLE);
	/* A thread that has it off keeps it off. */
	CHECK(mtcp_create_context(-1) == NULL);
	CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state) == 0);
	CHECK(state == PTHREAD_CANCEL_DISABLE);
	*(int *)arg = 1;
	pthread_testcancel();
	*(int *)arg = 2;
	return NULL;
}

/* Design A: cancellation is off inside the library. */
static void
cancel(void)
{
	pthread_t thread;
	void *result;
	int reached = 0;

	CHECK(pthread_create(&thread, NULL, with_a_request_pending, &reached) == 0);
	CHECK(pthread_join(thread, &result) == 0);
	CHECK(result == PTHREAD_CANCELED && reached == 1);
	CHECK(cancelled_callbacks > 1 && packets[0] == cancelled_callbacks);
	CHECK(ends[0] > 0 && ends[0] % 2 == 0);
	/* Nothing is locked for ever. */
	packets[0] = ends[0] = 0;
	again();
}

static bool
yes(mctx_t mctx, int sock, int side, uint64_t events, filter_arg_t *arg)
{
	return true;
}

int
main(int argc, char **argv)
{
	main_thread = core_thread = pthread_self();
	CHECK(argc == 3);
	if (strcmp(argv[1], "refused") == 0) {
		errno = 0;
		CHECK(mtcp_init(argv[2]) == -1 && errno == EINVAL);
		CHECK(mtcp_create_context(0) == NULL);
		puts("ok");
		return 0;
	}
	CHECK(mtcp_define_event(MOS_ON_PKT_IN, yes, NULL) == 0);
	CHECK(mtcp_init(argv[2]) == 0);
	CHECK(mtcp_define_event(MOS_ON_PKT_IN, yes, NULL) == 4096);
	CHECK(mtcp_alloc_event(MOS_ON_PKT_IN) == 4097);
	core_thread = 0;
	if (strcmp(argv[1], "sigint") == 0)
		sigint();
	else if (strcmp(argv[1], "again") == 0)
		again();
	else if (strcmp(argv[1], "cancel") == 0)
		cancel();
	else if (strcmp(argv[1], "masks") == 0)
		masks();
	else
		CHECK(strcmp(argv[1], "init") == 0);
	CHECK(mtcp_destroy() == 0);
	puts("ok");
	return 0;
}
