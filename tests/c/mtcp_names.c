/* A program in mTCP's spelling (mtcp_compat.h). Says "ok" or what is wrong. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <mtcp_api.h>
#include <mtcp_epoll.h>
#ifdef WITH_MONITORS
/* After the macro of the same name: its mtcp_getpeername() has five arguments. */
#include <mos_api.h>
#endif

#define CHECK(what) do { if (!(what)) { printf("line %d: %s (errno %d)\n", __LINE__, #what, errno); exit(2); } } while (0)

static void end_host(mctx_t mctx)
{
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	int sock, waiting = 0;

	CHECK((sock = mtcp_socket(mctx, AF_INET, MTCP_SOCK_STREAM, 0)) >= 0);
	errno = 0;
	CHECK(mtcp_getpeername(mctx, sock, (struct sockaddr *)&peer, &len) == -1 && errno == ENOTCONN);
	CHECK(mtcp_socket_ioctl(mctx, sock, FIONREAD, &waiting) == -1);
#ifdef WITH_MONITORS
	CHECK(mtcp_getpeername(mctx, sock, (struct sockaddr *)&peer, &len, MOS_SIDE_CLI) == -1);
#endif
	mtcp_close(mctx, sock);
}

int main(int argc, char **argv)
{
	struct mtcp_epoll_event ev, events[4];
	int ends[2], ep;
	char got[8];
	mctx_t mctx;

	CHECK(sizeof(ev) == 16);
	CHECK(&ev.data.sock == &ev.data.sockid);
	CHECK((uint32_t)MOS_EPOLLET == MTCP_EPOLLET);
	if (argc < 2) {
		puts("ok");
		return 0;
	}
	CHECK(mtcp_init(argv[1]) == 0);
	CHECK((mctx = mtcp_create_context(0)) != NULL);

	errno = 0;
	CHECK(mtcp_epoll_create1(mctx, O_APPEND) == -1 && errno == EINVAL);
	CHECK((ep = mtcp_epoll_create1(mctx, O_CLOEXEC)) >= 0);
	CHECK(mtcp_pipe(mctx, ends) == 0);
	CHECK(mtcp_setsock_nonblock(mctx, ends[0]) == 0);
	memset(&ev, 0, sizeof(ev));
	ev.events = MTCP_EPOLLIN | MTCP_EPOLLET;
	ev.data.sockid = ends[0];
	CHECK(mtcp_epoll_ctl(mctx, ep, MTCP_EPOLL_CTL_ADD, ends[0], &ev) == 0);
	CHECK(mtcp_epoll_wait(mctx, ep, events, 4, 0) == 0);
	CHECK(mtcp_write(mctx, ends[1], "mTCP", 4) == 4);
	CHECK(mtcp_epoll_wait(mctx, ep, events, 4, 2000) == 1);
	CHECK(events[0].events == MTCP_EPOLLIN && events[0].data.sockid == ends[0]);
	CHECK(mtcp_read(mctx, ends[0], got, sizeof(got)) == 4 && !memcmp(got, "mTCP", 4));
	ev.events = MTCP_EPOLLNONE;
	CHECK(mtcp_epoll_ctl(mctx, ep, MTCP_EPOLL_CTL_MOD, ends[0], &ev) == 0);
	CHECK(mtcp_write(mctx, ends[1], "x", 1) == 1);
	CHECK(mtcp_epoll_wait(mctx, ep, events, 4, 50) == 0);
	CHECK(mtcp_epoll_ctl(mctx, ep, MTCP_EPOLL_CTL_DEL, ends[0], NULL) == 0);

	if (argc == 3)
		end_host(mctx);
	mtcp_destroy_context(mctx);
	mtcp_destroy();
	puts("ok");
	return 0;
}
