/* netlib.c - small helpers of test programs: options, kernel sockets, header fields. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netlib.h"

int GetNumCPUCores(void)
{
	return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

int AffinitizeThreadToCore(int core)
{
	cpu_set_t set;

	if (core < 0 || core >= CPU_SETSIZE) {
		errno = EINVAL;
		return -1;
	}
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

static struct sockaddr_in ip_address(in_addr_t addr, int port)
{
	struct sockaddr_in sin;

	memset(&sin, 0, sizeof(sin));
	sin.sin_family = AF_INET;
	sin.sin_addr.s_addr = addr;
	sin.sin_port = htons((in_port_t)port);
	return sin;
}

static int tcp_socket(int isNonBlocking)
{
	return socket(AF_INET, SOCK_STREAM | (isNonBlocking ? SOCK_NONBLOCK : 0), 0);
}

static int close_failed(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
	return -1;
}

int CreateServerSocket(int port, int isNonBlocking)
{
	struct sockaddr_in sin = ip_address(htonl(INADDR_ANY), port);
	int on = 1, fd = tcp_socket(isNonBlocking);

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 || listen(fd, SOMAXCONN) < 0)
		return close_failed(fd);
	return fd;
}

int CreateConnectionSocket(in_addr_t addr, int port, int isNonBlocking)
{
	struct sockaddr_in sin = ip_address(addr, port);
	int fd = tcp_socket(isNonBlocking);

	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 &&
	    !(isNonBlocking && errno == EINPROGRESS))
		return close_failed(fd);
	return fd;
}

int mystrtol(const char *nptr, int base)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(nptr, &end, base);
	if (errno || end == nptr || *end || n < INT_MIN || n > INT_MAX) {
		fprintf(stderr, "not a number: %s\n", nptr);
		exit(EXIT_FAILURE);
	}
	return (int)n;
}

void ParseOptions(int argc, const char **argv, struct Options *ops)
{
	int i;

	for (i = 1; i < argc; i += 2) {
		struct Options *op = ops;

		while (op->op_name && strcmp(op->op_name, argv[i]) != 0)
			op++;
		if (!op->op_name || i + 1 == argc) {
			fprintf(stderr, op->op_name ? "%s needs a value\n" : "%s is unknown\n",
				argv[i]);
			PrintOptions(ops, FALSE);
			exit(EXIT_FAILURE);
		}
		*op->op_varptr = (char *)argv[i + 1];
	}
}

void PrintOptions(const struct Options *ops, int printVal)
{
	for (; ops->op_name; ops++) {
		if (printVal)
			printf("%s %s\n", ops->op_name,
			       *ops->op_varptr ? *ops->op_varptr : "(not set)");
		else
			printf("%-12s %s\n", ops->op_name, ops->op_comment);
	}
}

char *GetHeaderString(const char *buf, const char *header, int hdrsize)
{
	const char *line = buf;

	if (hdrsize <= 0)
		return NULL;
	while (line && strncasecmp(line, header, (size_t)hdrsize) != 0) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	if (!line)
		return NULL;
	line += hdrsize;
	return (char *)line + strspn(line, " \t");
}

int GetHeaderLong(const char *buf, const char *header, int hdrsize, long int *val)
{
	const char *text = GetHeaderString(buf, header, hdrsize);
	char *end;
	long int n;

	if (!text)
		return FALSE;
	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text)
		return FALSE;
	*val = n;
	return TRUE;
}
