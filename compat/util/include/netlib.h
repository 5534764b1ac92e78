/* netlib.h - small helpers of test programs: options, kernel sockets, header fields. */
#ifndef MOS_UTIL_NETLIB_H
#define MOS_UTIL_NETLIB_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <netinet/in.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef TRUE
#define TRUE 1
#endif
#ifndef FALSE
#define FALSE 0
#endif
#ifndef MAX
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#ifndef MIN
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#endif

/* Ends the program, with a message, when a condition does not hold. */
#ifndef VERIFY
#define VERIFY(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, \
				#condition); \
			abort(); \
		} \
	} while (0)
#endif

/* Frees and forgets a pointer. */
#ifndef FREE
#define FREE(pointer) \
	do { \
		free(pointer); \
		(pointer) = NULL; \
	} while (0)
#endif

/* Number of online cores. */
int GetNumCPUCores(void);

/* Pins the calling thread to a core. 0, or -1 with errno. */
int AffinitizeThreadToCore(int core);

/* A listening TCP socket of the kernel, on all addresses. -1 with errno. */
int CreateServerSocket(int port, int isNonBlocking);

/* A TCP socket of the kernel, connected (or, non-blocking, connecting). -1 with errno. */
int CreateConnectionSocket(in_addr_t addr, int port, int isNonBlocking);

/* A number that fills the whole text, else the program ends with a message. */
int mystrtol(const char *nptr, int base);

/* A command-line option "-name value"; a list ends with op_name == NULL. */
struct Options {
	char *op_name;          /* with its dash */
	char **op_varptr;       /* where the value goes */
	char *op_comment;       /* for PrintOptions() */
};

/* Sets the variables of the options given. Anything else ends the program with the list. */
void ParseOptions(int argc, const char **argv, struct Options *ops);

/* Prints the options with their comments; printVal: also their present values. */
void PrintOptions(const struct Options *ops, int printVal);

/*
 * The value of a header field: what follows `header` (hdrsize bytes, with its colon) at the
 * start of a line, blanks skipped. NULL without one.
 */
char *GetHeaderString(const char *buf, const char *header, int hdrsize);

/* A header field's value as a number, to *val. TRUE, or FALSE without one. */
int GetHeaderLong(const char *buf, const char *header, int hdrsize, long int *val);

#ifdef __cplusplus
}
#endif

#endif
